"""A directory in memory, whose answers tests hold back, break and let go, and sources that ask it by moved clocks."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from proxy.identity.answers import Answer, Pending, Silent
from proxy.identity.counts import SourceCount
from proxy.identity.directory.reader import Entry, Fault, ReaderFailed
from proxy.identity.directory.source import DirectorySource
from proxy.identity.evidence import Evidence
from proxy.policy.subject import Directory, DirectoryCache, DirectoryKey, HttpStore

NOW = 1_800_000_000.0
CACHE = DirectoryCache(size=1000, max_age=300.0, refresh=60.0, unknown=30.0)
HEADER = DirectoryKey("header", "x-account")
NOBODY = Silent()


class MemoryReader:
    """Who lives where. `homes` may change; `fault` breaks every look-up; `held` keeps look-ups from ending."""

    def __init__(self, homes: dict[str, Entry] | None = None) -> None:
        self.homes = homes or {}
        self.fault: Fault | None = None
        self.bug: Exception | None = None
        self.held = False
        self.asked: list[str] = []
        self.at: list[float] = []
        self.running = 0
        self.most = 0
        self.closed = 0
        self.cancelled = 0
        self.deaf = False
        self._going = asyncio.Event()

    def go(self) -> None:
        """Let all look-ups that are held end."""
        self.held = False
        self._going.set()

    async def find(self, key: str, now: float) -> Entry | None:
        self.asked.append(key)
        self.at.append(now)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            while self.held:
                try:
                    await self._going.wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    if not self.deaf:
                        raise
            await asyncio.sleep(0)
            if self.bug is not None:
                raise self.bug
            if self.fault is not None:
                raise ReaderFailed(self.fault)
            return self.homes.get(key)
        finally:
            self.running -= 1

    async def close(self) -> None:
        self.closed += 1


@dataclass
class Clocks:
    """Both clocks, moved by hand and together."""

    steady: float = 1000.0
    wall: float = NOW

    def pass_(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds


@dataclass
class Asked:
    """A source, its store, and its clocks."""

    reader: MemoryReader
    source: DirectorySource
    clocks: Clocks
    counts: SourceCount = field(default_factory=SourceCount)

    def answer(self, key: str | None = "acct", known: Silent = NOBODY, **shown: Any) -> Answer:
        """What the source says at once."""
        return self.source.answer(evidence(key, **shown), known, self.clocks.wall)

    async def settled(self, key: str | None = "acct", known: Silent = NOBODY, **shown: Any) -> Answer:
        """What it says once it has asked."""
        answer = self.answer(key, known, **shown)
        for _ in range(8):
            if not isinstance(answer, Pending):
                return answer
            await answer.ready
            answer = self.answer(key, known, **shown)
        raise AssertionError("it asks for ever")


def evidence(key: str | None = "acct", *, trusted: bool = True, **shown: Any) -> Evidence:
    """A request whose key header says this, from a trusted proxy."""
    account = () if key is None else ((b"x-account", key.encode()),)
    fields = ((b"host", b"a.example"), *account, (b"accept", b"*/*"))
    return Evidence(**({"fields": fields, "trusted": trusted} | shown))


def directory(**changes: Any) -> Directory:
    """A definition; the store is never looked at."""
    made: dict[str, Any] = {
        "store": HttpStore("http://127.0.0.1/{}", (), None),
        "key": HEADER,
        "cache": CACHE,
        "timeout": 1.0,
        "lookups": 64,
        "forward": True,
    }
    return Directory(**(made | changes))


def asked(homes: dict[str, Entry] | None = None, **changes: Any) -> Asked:
    """A source of this definition over these homes."""
    reader, clocks, counts = MemoryReader(homes), Clocks(), SourceCount()
    source = DirectorySource(
        directory(**changes), reader, counts, steady=lambda: clocks.steady, wall=lambda: clocks.wall
    )
    return Asked(reader, source, clocks, counts)
