"""The run: every proxy up at once, each measured in turn, in a changing order, several rounds.

Interleaving spreads whatever else the machine does over all proxies alike; an idle proxy costs nothing.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.certificates import make_certificates
from benchmarks.cores import Cores
from benchmarks.figures import Figure, Figures
from benchmarks.load import LoadFailed, load
from benchmarks.processor import family, processor_time
from benchmarks.provider import Ports, provider
from benchmarks.proxies import PROXIES
from benchmarks.proxies.lane import Lane
from benchmarks.work import HOST, Work
from tests.peers.process import Peer, free_port

WARM_UP = 1
"""Seconds of load before each work's first round: connections opened, caches filled, lazy imports done."""


def measure(
    names: Sequence[str],
    works: Iterable[Work],
    rounds: int,
    seconds: int,
    cores: Cores,
    folder: Path,
    say: Callable[[str], None],
    warm_up: int = WARM_UP,
) -> Figures:
    """Run the works on the named proxies. A proxy that fails at a work has no figure there; the failure is kept."""
    figures = Figures()
    certificates = make_certificates(folder / "certificates", HOST)
    with ExitStack() as stack:
        origin = stack.enter_context(provider(folder / "provider", certificates, cores.load))
        running: dict[str, tuple[Peer, Lane]] = {}
        for name in names:
            lane = Lane(
                Ports(free_port(), free_port()), origin, certificates, folder / name.replace(" ", "-"), cores.proxy
            )
            running[name] = stack.enter_context(PROXIES[name](lane)), lane
        for work in works:
            _empty_logs(folder)
            for number in range(rounds):
                turn = number % len(names)
                for name in (*names[turn:], *names[:turn]):
                    if (work.name, name) in figures.failures:
                        continue
                    peer, lane = running[name]
                    try:
                        figure = _one(work, name, peer, lane, seconds, cores, 0 if number else warm_up)
                    except LoadFailed as failure:
                        figures.failures[work.name, name] = str(failure)
                        say(f"{work.name}: {name}: {failure}")
                        continue
                    figures.rows.append(figure)
                    say(
                        f"{work.name}, round {number + 1} of {rounds}: {name} {figure.cost * 1e6:.1f} us,"
                        f" p99 {figure.p99 * 1e3:.2f} ms, {figure.rate:.0f}/s"
                    )
    return figures


def _one(work: Work, name: str, peer: Peer, lane: Lane, seconds: int, cores: Cores, warm_up: int) -> Figure:
    port = lane.listen.tls if work.tls else lane.listen.plain
    if warm_up:
        load(work, port, warm_up, cores.load)
    pids = family(peer.pid)
    before = processor_time(pids)
    seen = load(work, port, seconds, cores.load)
    spent = processor_time(pids) - before
    return Figure(work.name, name, spent / seen.requests, seen.p99, seen.requests / seen.seconds)


def _empty_logs(folder: Path) -> None:
    # A run writes gigabytes; every program here appends, so its next line starts the file anew.
    for log in (*folder.glob("*/access.log"), *folder.glob("*/*.out")):
        os.truncate(log, 0)
