"""What becomes of the admitted when three times as much comes as one worker can do.

    python -m benchmarks.overload

A provider that answers in ten milliseconds, one worker on a core of its own, heads of which no two are alike. First it
is found how much it can do at all, then two fifths of that are sent, then three times as much. Promised is that the
admitted keep a 99th percentile of at most twice the unloaded one, and that memory stays flat. The same storm without
the limit shows what it is worth.

A crowd of connections makes the load, each with a pause after its answer that is long beside the answer; a few requests
a second among it, which come whatever becomes of others, are measured. They begin when the crowd has been there for a
while: that it connects is a load of its own, and a storm is settled after about a second.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.budget import OVERLOAD
from benchmarks.cores import Cores, choose_cores
from benchmarks.processor import family, processor_time, resident
from benchmarks.proxies.domicile import domicile
from benchmarks.work import HEADERS
from tests.peers.process import Peer, PeerFailed, free_port, program, running

DELAY: Final = 10
"""Milliseconds in which the provider answers."""

BUSY: Final = 256
"""Connections, all of them busy, by which it is found what one worker can do."""

CROWD: Final = 3000
"""Connections of the crowd."""

PROBES: Final = 400
"""Requests a second that are measured."""

SETTLES: Final = 4.0
"""Seconds for which the crowd is there before anything is measured."""

ROUNDS: Final = 5
"""Storms, each after its own calm: one is no measurement."""

_ROOT = Path(__file__).parents[1]
_SCRIPTS = Path(__file__).parent / "wrk"

_POLICY = """\
version: 1
zones: {{eu: {{countries: [EEA]}}, elsewhere: {{countries: ["*"]}}}}
providers:
  own: {{operator: Example Inc, zone: elsewhere, endpoints: ["http://127.0.0.1:{provider}"]}}
subject: {{trusted_proxies: [127.0.0.0/8], sources: [{{location: {{}}}}]}}
rules: [{{name: everyone, when: {{home: [elsewhere, unknown]}}, allow: [elsewhere]}}]
listeners: [{{name: plain, bind: "127.0.0.1:{listen}"}}]
workers: 1
limits: {{connections: 16384}}
overload: {overload}
log: {{path: "{folder}/access.log"}}
admin: {{bind: "127.0.0.1:{admin}"}}
"""


@dataclass(frozen=True, slots=True)
class Phase:
    """What came of one load. offered, done, shed: requests a second of all; p50, p99: seconds, of the admitted probes.

    shed_p99: of the probes that were shed, None for none. busy: part of the time that the proxy's processes ran.
    grown: bytes that they have more at its end than when the crowd had settled.
    """

    offered: float
    done: float
    shed: float
    p50: float
    p99: float
    shed_p99: float | None
    busy: float
    grown: int


@dataclass(frozen=True, slots=True)
class Round:
    """A storm and the calm before it."""

    unloaded: Phase
    storm: Phase

    @property
    def ratio(self) -> float:
        """The 99th percentile of the admitted, over the unloaded one."""
        return self.storm.p99 / self.unloaded.p99


@dataclass(frozen=True, slots=True)
class Overload:
    """capacity: requests a second that one worker can do. unlimited: the storm without the limit."""

    capacity: float
    rounds: list[Round]
    unlimited: Phase

    @property
    def ratio(self) -> float:
        """The median of the rounds'."""
        return median(each.ratio for each in self.rounds)


def measure(cores: Cores, seconds: float = 6.0, rounds: int = ROUNDS) -> Overload:
    """Run all of it; so many seconds of each load are measured."""
    with tempfile.TemporaryDirectory(prefix="domicile-overload-") as name:
        folder, origin = Path(name), free_port()
        command = [*cores.load, *_program("provider"), origin, DELAY]
        with running("provider", command, folder, (origin,), environ={"PYTHONPATH": str(_ROOT)}):
            with _lane(folder / "free", origin, cores, "{adaptive: false}") as lane:
                lane.crowd(BUSY, 0, SETTLES)
                capacity = lane.crowd(BUSY, 0, seconds)
                unlimited = lane.phase(capacity * 3, seconds)
            with _lane(folder / "limited", origin, cores, "{}") as lane:
                lane.phase(capacity * 0.4, SETTLES)
                seen = [
                    Round(lane.phase(capacity * 0.4, seconds), lane.phase(capacity * 3, seconds)) for _ in range(rounds)
                ]
    return Overload(capacity, seen, unlimited)


@dataclass(frozen=True, slots=True)
class _Lane:
    """One proxy, where it listens, and what loads it."""

    peer: Peer
    port: int
    cores: Cores

    def phase(self, rate: float, seconds: float) -> Phase:
        """So many requests a second, measured once the crowd has settled."""
        lasts = SETTLES + seconds + 1.0
        crowd = self._crowd(CROWD, int(CROWD / (rate - PROBES) * 1000), lasts)
        time.sleep(SETTLES)
        pids = family(self.peer.pid)
        memory, began, ran = resident(pids), time.monotonic(), processor_time(pids)
        probes = _words(*self.cores.load, *_program("load"), self.port, PROBES, seconds, PROBES)
        probing = subprocess.run(probes, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
        busy = (processor_time(pids) - ran) / (time.monotonic() - began)
        grown = resident(pids) - memory
        done, shed = _answers(crowd)
        seen = json.loads(probing.stdout)
        if set(seen) - {"200", "503"} or "200" not in seen:
            raise PeerFailed(f"probes were answered with {seen}")
        good, bad = seen["200"], seen.get("503")
        return Phase(
            rate,
            done / lasts + good["count"] / seconds,
            shed / lasts + (0 if bad is None else bad["count"] / seconds),
            good["p50"],
            good["p99"],
            None if bad is None else bad["p99"],
            busy,
            grown,
        )

    def crowd(self, connections: int, think: int, seconds: float) -> float:
        """How many requests a second are answered by the provider."""
        return _answers(self._crowd(connections, think, seconds))[0] / seconds

    def _crowd(self, connections: int, think: int, seconds: float) -> "subprocess.Popen[str]":
        command = [*self.cores.load, program("wrk"), "-t", 1, "-c", connections, "-d", f"{seconds:.0f}s"]
        command += ["--timeout", "10s", "-s", _SCRIPTS / "distinct.lua"]
        for name, value in HEADERS:
            command += ["-H", f"{name}: {value}"]
        environ = dict(os.environ, DOMICILE_BENCH_REPORT=str(_SCRIPTS / "report.lua"), DOMICILE_BENCH_THINK=str(think))
        command.append(f"http://127.0.0.1:{self.port}/12")
        return subprocess.Popen(_words(*command), env=environ, stdout=subprocess.PIPE, text=True)


def _answers(crowd: "subprocess.Popen[str]") -> tuple[int, int]:
    """How many requests were answered by the provider, and how many not, once it is over."""
    printed, _ = crowd.communicate()
    if crowd.returncode:
        raise PeerFailed(f"wrk ended with {crowd.returncode}")
    figures = json.loads(printed.rstrip().rpartition("\n")[2])
    return figures["requests"] - figures["failed"], figures["failed"]


@contextmanager
def _lane(folder: Path, provider: int, cores: Cores, overload: str) -> Iterator[_Lane]:
    folder.mkdir()
    listen = free_port()
    policy = _POLICY.format(provider=provider, listen=listen, overload=overload, folder=folder, admin=free_port())
    with domicile(policy, (listen,), folder, cores.proxy) as peer:
        yield _Lane(peer, listen, cores)


def _program(kind: str) -> tuple[object, ...]:
    return sys.executable, "-m", "benchmarks.overload_program", kind


def _words(*words: object) -> list[str]:
    return [str(word) for word in words]


def main() -> None:
    """Measure and print."""
    found = measure(choose_cores())
    print(f"One worker can do {found.capacity:,.0f} requests a second, by {BUSY} busy connections.")
    print(f"{'':<18}offered/s  done/s  shed/s  p50 ms  p99 ms  shed p99   busy  MiB more  times")
    for each in found.rounds:
        print(_row("unloaded", each.unloaded))
        print(f"{_row('storm', each.storm)}{each.ratio:>7.2f}")
    print(_row("without the limit", found.unlimited))
    print(f"The admitted take {found.ratio:.2f} times the unloaded 99th percentile; the bar is {OVERLOAD:g}.")


def _row(name: str, phase: Phase) -> str:
    shed = "" if phase.shed_p99 is None else f"{phase.shed_p99 * 1e3:.1f}"
    return (
        f"{name:<18}{phase.offered:>9,.0f}{phase.done:>8,.0f}{phase.shed:>8,.0f}{phase.p50 * 1e3:>8.1f}"
        f"{phase.p99 * 1e3:>8.1f}{shed:>10}{phase.busy:>7.0%}{phase.grown / 2**20:>10.1f}"
    )


if __name__ == "__main__":
    main()
