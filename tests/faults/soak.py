"""Random faults, reloads and load together, for as long as one likes, and what is left of them.

`make soak SECONDS=3600`, or in a test for two minutes. A seed chooses all: the same one does the same again, but for
what the machine's own timing adds.
"""

import asyncio
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from tests.faults.crowd import INSIDE, OUTSIDE, Crowd
from tests.faults.link import BOTH, SOUND, At, Fault, Link
from tests.faults.site import Site, Visit
from tests.faults.staging import CHECK, PATIENCE, Stage, kinds, resident, scene, serving, until

BREAKER = "interval: 1s, timeout: 500ms, breaker: {open: 500ms, longest: 4s, trials: 2, slow_start: 1s}"
CHECKS, RAW_CHECKS = f"path: {CHECK}, {BREAKER}", f"kind: tcp, {BREAKER}"

MORE = """
workers: 2
timeouts: {head: 2s, body_idle: 2s, keep_alive: 5s, connect: 500ms, first_byte: 1s, idle: 2s, drain: 5s}
retries: {share: 50%, least: 10}
"""

MENDED = 3.0
"""Seconds that a provider has to be back in service once it is sound again."""

WARM_UP = 20.0

OWN = {"first": INSIDE, "second": INSIDE, "abroad": OUTSIDE}
"""Whose data a provider may get, by its mark."""


class Passing(Site):
    """A site that forgets its visitors, and counts those whose data it must not have had."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.own = 0
        self.strays = 0
        self.served = 0

    @property
    def heard(self) -> list[bytes]:
        """That it was reached at all, over both planes; `strays` says the rest."""
        return [b"something"] * min(2, self.served + sum(not visit.only_checked for visit in self.visits))

    async def _visit(self, visit: Visit, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await super()._visit(visit, reader, writer)
        self.visits.remove(visit)
        self.served += not visit.only_checked
        found = {mark for mark in (INSIDE, OUTSIDE) if mark.encode() in visit.received}
        self.own += OWN[self.name] in found
        self.strays += not found <= {OWN[self.name]}


NOISE = 6.0
"""MiB by which processes that have just been started grow without a leak: what an allocator has had once it keeps. In
half a minute that hides a leak, which is why what is in use is counted too; in half an hour it does not."""

FIRST = 0.5
"""MiB for what is made when something first happens, and stays."""

GIVES_BACK = {
    "PYTHONMALLOC": "malloc",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(128 << 10),
    "MALLOC_MMAP_THRESHOLD_": str(128 << 10),
}
"""What makes the processes give memory back to the system as it is freed, so that what stays resident is held by
somebody. By itself an allocator keeps for minutes what the load of a moment took."""

IN_USE = "KiB in use"

FEW = 8
"""Objects of a class that may be there in place of others: a breaker's state after a fault, a plan's last answer."""


@dataclass
class Report:
    """lines: for people. growth: MiB a minute, of all processes over the last half. held: MiB more in use when all is
    quiet at the end than there were at the start. left: what lives that did not before, by process and kind.
    unreached: sites at which nobody's mark was seen. strays: visits at a site that it must not have had. unrecorded:
    requests."""

    seconds: float
    lines: list[str]
    growth: float
    held: float
    left: dict[str, int]
    unreached: list[str]
    strays: int
    unrecorded: int
    availability: float

    def judge(self) -> None:
        """Raises AssertionError where a promise is not kept."""
        assert not self.unreached
        assert self.strays == 0
        assert self.unrecorded == 0
        assert self.availability > 0.9
        left = {name: more for name, more in self.left.items() if more > self._allowed(name)}
        assert not left, left
        minutes = self.seconds / 60
        assert self.held < minutes + FIRST, f"{self.held:.2f} MiB"
        assert self.growth * minutes / 2 < minutes / 2 + NOISE, f"{self.growth:.2f} MiB a minute"

    def _allowed(self, name: str) -> float:
        if ": proxy.telemetry." in name:
            return float("inf")  # Made when something is first counted, and bounded by the policy.
        return FEW if ": proxy." in name or name.endswith("of pipe") else 0


class Soak:
    def __init__(self, stage: Stage, census: Path, seed: int) -> None:
        self._stage = stage
        self._census_folder = census
        self._random = random.Random(seed)
        self._crowd = Crowd(stage, seed)
        self._reloads: Counter[bool] = Counter()
        self._faults = 0
        self._memory: list[tuple[float, list[float]]] = []

    @property
    def _processes(self) -> list[int]:
        return [self._stage.proxy.process.pid, *self._stage.proxy.workers()]

    async def run(self, seconds: float, inside: int = 6, outside: int = 2) -> Report:
        warm = Crowd(self._stage, 0)
        await asyncio.gather(warm.run(WARM_UP, inside, outside), self._break_and_mend(WARM_UP), self._reload(WARM_UP))
        before = await self._census()
        self._crowd.outages.clear()
        self._faults = 0
        self._reloads.clear()
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(
                self._crowd.run(seconds, inside, outside), self._break_and_mend(seconds), self._reload(seconds)
            )
        finally:
            watching.cancel()
        after = await self._census()
        after.subtract(before)
        return await self._report(seconds, after)

    # What is done to it

    async def _break_and_mend(self, seconds: float) -> None:
        """One provider at a time is broken, and seldom both; abroad as well, on its own."""
        until_when = time.monotonic() + seconds
        links = self._stage.links, self._stage.raw_links
        while time.monotonic() < until_when:
            name = self._random.choice(("first", "second", "first", "second", "both", "abroad"))
            names = ("first", "second") if name == "both" else (name,)
            broken = [each[name] for each in links for name in names]
            began = time.monotonic()
            for link in broken:
                self._fault()(link)
                self._faults += 1
            if name == "both":
                self._crowd.outages.append((began, float("inf")))
            await asyncio.sleep(self._random.uniform(0.2, 1.5))
            for link in broken:
                link.fault = SOUND
                link.listen()
                link.reset()
            if name == "both":
                self._crowd.outages[-1] = (began, time.monotonic() + MENDED)
            await asyncio.sleep(MENDED if name == "both" else self._random.uniform(0.2, MENDED))

    def _fault(self) -> Callable[[Link], None]:
        draw = self._random
        fault = draw.choice(
            (
                Link.refuse,
                Link.swallow,
                Link.reset,
                Link.end,
                Fault(latency=draw.uniform(0, 0.3)),
                Fault(latency=3600),
                Fault(rate=draw.choice((0, 20_000, 1_000_000))),
                Fault(lost=draw.choice((BOTH, frozenset(("to_provider",)), frozenset(("to_client",))))),
                Fault(
                    at=At(
                        draw.choice(("to_provider", "to_client")),
                        draw.randrange(0, 400),
                        draw.choice(("reset", "end", "garbage")),
                    )
                ),
            )
        )
        if not isinstance(fault, Fault):
            return fault

        def befall(link: Link) -> None:
            link.fault = fault

        return befall

    async def _reload(self, seconds: float) -> None:
        """Another policy about every three seconds; each third is broken, and refused."""
        until_when = time.monotonic() + seconds
        number = 0
        while (left := until_when - time.monotonic()) > 1.0:
            await asyncio.sleep(min(left, self._random.uniform(1.0, 4.0)))
            number += 1
            policy = self._policy(number)
            loaded = await self._stage.aside(
                self._stage.proxy.reload, policy if number % 3 else policy.replace("zones:", "zonen:", 1)
            )
            assert loaded == bool(number % 3)
            self._reloads[loaded] += 1

    def _policy(self, number: int = 0) -> str:
        """The same law; another cap, so that a provider is not the same as before."""
        return policy(self._stage, f", limits: {{connections: {60 + number % 7}}}")

    # What is seen of it

    async def _watch(self) -> None:
        while True:
            self._memory.append((time.monotonic(), [resident(each) / (1 << 20) for each in self._processes]))
            await asyncio.sleep(0.5)

    def _growth(self) -> list[float]:
        """MiB a minute of each process over the last half."""
        half = self._memory[len(self._memory) // 2 :]
        half = half[:: -(-len(half) // 200)]
        times = [at for at, _ in half]
        return [slope(times, sizes) * 60 for sizes in zip(*(each for _, each in half), strict=True)]

    async def _census(self) -> Counter[str]:
        """What lives in the processes once nobody is connected and all is sound."""
        quiet = re.sub("interval: [0-9a-z]+", "interval: 1h", self._policy())
        await self._stage.aside(self._stage.proxy.reload, quiet)
        self._stage.leave()
        await self._idle()
        await asyncio.sleep(2.0)  # Deadlines that nobody waits for run out.
        await self._idle()
        counted: Counter[str] = Counter()
        for number, process in enumerate(self._processes):
            path = self._census_folder / str(process)
            path.unlink(missing_ok=True)
            os.kill(process, signal.SIGRTMIN + 1)
            await until(path.exists)
            for line in path.read_text().splitlines():
                count, _, name = line.partition(" ")
                counted[f"{'worker' if number else 'master'}: {name}"] += int(count)
            for kind, open_now in (await self._descriptors(process)).items():
                counted[f"{'worker' if number else 'master'}: descriptor of {kind}"] += open_now
        return counted

    async def _idle(self) -> None:
        """Nobody is connected to the proxy, and it to nobody."""
        async with asyncio.timeout(PATIENCE):
            while (await self._stage.aside(self._stage.proxy.status))["connections"] or any(
                self._stage.at_providers(each) for each in self._stage.proxy.workers()
            ):
                for link in self._stage.every_link:
                    link.end()
                await asyncio.sleep(0.2)

    async def _descriptors(self, process: int) -> Counter[str]:
        """How many a process has open of each kind, but for those that it has for a moment, as a check does."""
        least = kinds(process)
        for _ in range(10):
            await asyncio.sleep(0.05)
            least &= kinds(process)
        return least

    async def _report(self, seconds: float, left: Counter[str]) -> Report:
        crowd, stage = self._crowd, self._stage
        requests = await stage.total("domicile_requests_total") + await stage.total("domicile_passed_connections_total")
        await until(lambda: _lines(stage.proxy.log) >= requests)
        sites = [site for site in stage.sites.values() if isinstance(site, Passing)]
        gets = crowd.inside["GET"]
        growth = self._growth()
        held = sum(left.pop(f"{who}: {IN_USE}", 0) for who in ("master", "worker")) / 1024
        lines = [
            f"{seconds:.0f} s, {requests:.0f} requests and connections, {self._faults} faults, "
            f"{self._reloads[True]} reloads, {self._reloads[False]} of them refused",
            "availability inside the border, by what was asked for: "
            + ", ".join(
                f"{name} {tally.share(tally.at_all):.2%} ({tally.share(tally.one_up):.2%} while a provider was sound)"
                for name, tally in (*crowd.inside.items(), ("passed on", crowd.passed))
            ),
            *(f"  {name}: {dict(t.at_all)}" for name, t in (*crowd.inside.items(), ("passed on", crowd.passed))),
            "memory of the master and the workers, in MiB: "
            + ", ".join(
                f"{first:.1f} at first, {last:.1f} at last, {each:+.2f} a minute"
                for first, last, each in zip(self._memory[0][1], self._memory[-1][1], growth, strict=True)
            )
            + f"; in use at the end of all, {held:+.2f}",
        ]
        unrecorded = int(requests) - _lines(stage.proxy.log)
        return Report(
            seconds,
            lines,
            sum(growth),
            held,
            dict(+left),
            [site.name for site in sites if not site.own],
            sum(site.strays for site in sites),
            unrecorded,
            gets.share(gets.one_up),
        )


def slope(times: Sequence[float], sizes: Sequence[float]) -> float:
    """The median of the slopes between any two of the points (Theil and Sen).

    What grows steadily has its own slope; a step, such as a load that was never so high before, has little.
    """
    points = list(zip(times, sizes, strict=True))
    return statistics.median((size - less) / (at - before) for (before, less), (at, size) in combinations(points, 2))


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


def policy(stage: Stage, settings: str = "") -> str:
    return stage.policy(health=CHECKS, raw_health=RAW_CHECKS, settings=settings, more=MORE)


@asynccontextmanager
async def _abroad_behind_a_link(stage: Stage) -> AsyncIterator[None]:
    site = stage.sites["abroad"]
    async with Link(site.port).running() as link, Link(site.raw_port).running() as raw:
        stage.links["abroad"], stage.raw_links["abroad"] = link, raw
        site.port, site.raw_port = link.port, raw.port
        yield


async def soak(folder: Path, seconds: float, seed: int) -> Report:
    census = folder / "census"
    census.mkdir()
    environ = {"DOMICILE_CENSUS": str(census), "PYTHONPATH": str(Path(__file__).parent / "inside"), **GIVES_BACK}
    async with (
        scene(folder, Passing) as stage,
        _abroad_behind_a_link(stage),
        serving(stage, policy(stage), accounted=False, environ=environ),
    ):
        return await Soak(stage, census, seed).run(seconds)


def main() -> None:
    seconds = float(sys.argv[1]) if sys.argv[1:] else 3600.0
    seed = int(sys.argv[2]) if sys.argv[2:] else int(time.time())
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(soak(Path(folder), seconds, seed))
    print(*report.lines, sep="\n")
    print({name: more for name, more in report.left.items() if ": proxy.telemetry." not in name})
    report.judge()


if __name__ == "__main__":
    main()
