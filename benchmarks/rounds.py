"""Rounds: proxies that are all up at once, each measured in turn, in a changing order, several times.

Interleaving spreads whatever else the machine does over all proxies alike; an idle proxy costs nothing.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from benchmarks.figures import Figure, Figures, Seen
from benchmarks.load import LoadFailed
from benchmarks.processor import family, processor_time
from tests.peers.process import Peer

WARM_UP = 1
"""Seconds of load before each work's first round: connections opened, caches filled, lazy imports done."""


class Line(Protocol):
    """A work, as rounds see it: a line of a table.

    brief: two thirds of a round do, where no bar depends on the figure or it lies far from its bar.
    """

    @property
    def name(self) -> str: ...

    @property
    def brief(self) -> bool: ...


W = TypeVar("W", bound=Line)


@dataclass(frozen=True, slots=True)
class Runner(Generic[W]):
    """A running proxy, and what puts a work on it for some seconds."""

    peer: Peer
    load: Callable[[W, int], Seen]


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often, how long, and whom progress is told."""

    number: int
    seconds: int
    say: Callable[[str], None]
    warm_up: int = WARM_UP

    def of(self, work: Line) -> int:
        """Seconds of one round."""
        return max(1, self.seconds * 2 // 3) if work.brief else self.seconds


def measure(running: Mapping[str, Runner[W]], works: Iterable[W], rounds: Rounds, folder: Path) -> Figures:
    """Put the works on what runs. A proxy that fails at a work has no figure there; the failure is kept."""
    figures = Figures()
    names = list(running)
    for work in works:
        empty_logs(folder)
        for number in range(rounds.number):
            turn = number % len(names)
            for name in (*names[turn:], *names[:turn]):
                if (work.name, name) in figures.failures:
                    continue
                try:
                    if not number and rounds.warm_up:
                        running[name].load(work, rounds.warm_up)
                    figure = _one(name, running[name], work, rounds.of(work))
                except LoadFailed as failure:
                    figures.failures[work.name, name] = str(failure)
                    rounds.say(f"{work.name}: {name}: {failure}")
                    continue
                figures.rows.append(figure)
                rounds.say(f"{work.name}, round {number + 1} of {rounds.number}: {name} {_told(figure)}")
    return figures


def _one(name: str, runner: Runner[W], work: W, seconds: int) -> Figure:
    pids = family(runner.peer.pid)
    before = processor_time(pids)
    seen = runner.load(work, seconds)
    spent = processor_time(pids) - before
    return Figure(work.name, name, spent / seen.done, seen.p99, seen.done / seen.seconds)


def _told(figure: Figure) -> str:
    latency = "" if figure.p99 is None else f" p99 {figure.p99 * 1e3:.2f} ms,"
    return f"{figure.cost * 1e6:.1f} us,{latency} {figure.rate:.0f}/s"


def empty_logs(folder: Path) -> None:
    """Start the logs anew. A run writes gigabytes; every program here appends, so its next line begins the file."""
    for log in (*folder.glob("*/access.log"), *folder.glob("*/*.out")):
        os.truncate(log, 0)
