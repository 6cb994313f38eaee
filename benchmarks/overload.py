"""What becomes of the admitted when three times as much comes as one worker can do.

    python -m benchmarks.overload

A provider that answers in ten milliseconds, one worker on a core of its own, heads of which no two are alike. First it
is found how much it can do at all, then two fifths of that are sent, then three times as much. Promised is that the
admitted keep a 99th percentile of at most twice the unloaded one, and that memory stays flat. The same storm without
the limit shows what it is worth.

A crowd of connections makes the load, each with a pause after its answer that is long beside the answer; a few requests
a second among it, which come whatever becomes of others, are measured.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from benchmarks.cores import Cores, choose_cores
from benchmarks.processor import family, processor_time, resident
from benchmarks.proxies.domicile import domicile
from benchmarks.work import HEADERS
from tests.peers.process import Peer, free_port, program, running

DELAY: Final = 10
"""Milliseconds in which the provider answers."""

BUSY: Final = 256
"""Connections, all of them busy, by which it is found what one worker can do."""

CROWD: Final = 3000
"""Connections of the crowd."""

PROBES: Final = 400
"""Requests a second that are measured."""

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
    grown: bytes that they have more than before.
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
class Overload:
    """capacity: requests a second that one worker can do."""

    capacity: float
    unloaded: Phase
    storm: Phase
    unlimited: Phase

    @property
    def ratio(self) -> float:
        """The 99th percentile of the admitted, over the unloaded one."""
        return self.storm.p99 / self.unloaded.p99


def measure(seconds: float = 2.0) -> Overload:
    """Run all of it; the first half of a storm is not counted."""
    cores = choose_cores()
    with tempfile.TemporaryDirectory(prefix="domicile-overload-") as name:
        folder, origin = Path(name), free_port()
        command = [*cores.load, *_program("provider"), origin, DELAY]
        with running("provider", command, folder, (origin,), environ={"PYTHONPATH": str(_ROOT)}):
            with _lane(folder / "free", origin, cores, "{adaptive: false}") as lane:
                lane.crowd(BUSY, 0, seconds)
                capacity = lane.crowd(BUSY, 0, seconds)[0] / seconds
                unlimited = lane.phase(capacity * 3, seconds)
            with _lane(folder / "limited", origin, cores, "{}") as lane:
                lane.phase(capacity * 0.4, seconds)
                unloaded = lane.phase(capacity * 0.4, seconds)
                lane.phase(capacity * 3, seconds)
                storm = lane.phase(capacity * 3, seconds)
    return Overload(capacity, unloaded, storm, unlimited)


@dataclass(frozen=True, slots=True)
class _Lane:
    """One proxy, where it listens, and what loads it."""

    peer: Peer
    port: int
    cores: Cores

    def phase(self, rate: float, seconds: float) -> Phase:
        """So many requests a second."""
        pids = family(self.peer.pid)
        memory, began, ran = resident(pids), monotonic(), processor_time(pids)
        probing = subprocess.Popen(
            _words(*self.cores.load, *_program("load"), self.port, PROBES, seconds, PROBES),
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        done, shed = self.crowd(CROWD, int(CROWD / (rate - PROBES) * 1000), seconds)
        seen = json.loads(probing.communicate()[0])
        busy = (processor_time(pids) - ran) / (monotonic() - began)
        if set(seen) - {"200", "503"} or "200" not in seen:
            raise RuntimeError(f"probes were answered with {seen}")
        good, bad = seen["200"], seen.get("503")
        turned_away = 0 if bad is None else bad["count"]
        return Phase(
            rate,
            (done + good["count"]) / seconds,
            (shed + turned_away) / seconds,
            good["p50"],
            good["p99"],
            None if bad is None else bad["p99"],
            busy,
            resident(pids) - memory,
        )

    def crowd(self, connections: int, think: int, seconds: float) -> tuple[int, int]:
        """How many requests were answered by the provider, and how many not."""
        command = [*self.cores.load, program("wrk"), "-t", 1, "-c", connections, "-d", f"{seconds:.0f}s"]
        command += ["--timeout", "10s", "-s", _SCRIPTS / "distinct.lua"]
        for name, value in HEADERS:
            command += ["-H", f"{name}: {value}"]
        environ = dict(os.environ, DOMICILE_BENCH_REPORT=str(_SCRIPTS / "report.lua"), DOMICILE_BENCH_THINK=str(think))
        command.append(f"http://127.0.0.1:{self.port}/12")
        run = subprocess.run(_words(*command), env=environ, capture_output=True, text=True, check=True)
        figures = json.loads(run.stdout.rstrip().rpartition("\n")[2])
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
    found = measure()
    print(f"One worker can do {found.capacity:,.0f} requests a second, by {BUSY} busy connections.")
    print(f"{'':<18}offered/s  done/s  shed/s  p50 ms  p99 ms  shed p99   busy  MiB more")
    for name, phase in (("unloaded", found.unloaded), ("storm", found.storm), ("without the limit", found.unlimited)):
        shed = "" if phase.shed_p99 is None else f"{phase.shed_p99 * 1e3:.1f}"
        print(
            f"{name:<18}{phase.offered:>9,.0f}{phase.done:>8,.0f}{phase.shed:>8,.0f}{phase.p50 * 1e3:>8.1f}"
            f"{phase.p99 * 1e3:>8.1f}{shed:>10}{phase.busy:>7.0%}{phase.grown / 2**20:>10.1f}"
        )
    print(f"The admitted take {found.ratio:.2f} times the unloaded 99th percentile.")


if __name__ == "__main__":
    main()
