"""The `directory` source: who lives where, by the word of a store elsewhere.

    key -> table -> (fresh: answered at once)
                 -> (old enough to ask again: answered at once, and asked beside requests)
                 -> (too old, changed by now, or never asked: Pending, one look-up however many wait)

- Nothing is answered from beyond `max_age`, or from beyond the moment of a dated change, whatever the store's state.
- A look-up ends within `timeout`, its place in the queue included. What it came to is told by the table or by the
  short memory of failures, never by the look-up itself, so whoever waited asks again.
- An outage does not multiply: a key that failed is not asked again for a moment, and after some failures of the
  store one look-up at a time tries whether it is back.
- Ages are judged by the clock of now, and not by when a credential was shown: a subject that has moved has moved.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf
from typing import Final

from proxy.identity.answers import Answer, Home, Invalid, Kind, Pending, Silent, Unavailable
from proxy.identity.counts import SourceCount
from proxy.identity.directory.keys import UnusableKey, find_key, usable
from proxy.identity.directory.reader import Entry, Fault, Reader, ReaderFailed
from proxy.identity.directory.table import Table
from proxy.identity.evidence import Evidence
from proxy.identity.remembered import Remembered
from proxy.policy.subject import Directory

MOMENT: Final = 1.0
"""Seconds for which a failure is remembered, of one key or of the store."""

TRIPS: Final = 3
"""So many failures of the store in a row, and it is asked one question at a time until it answers."""

QUEUE: Final = 32
"""Look-ups that may wait for each one that runs; beyond that the directory counts as unavailable."""

CLOSING: Final = 2.0
"""Seconds that the reader has to close."""

_FAILED_KEYS: Final = 4096

# What says that the store is out, and not only this one answer.
_OUTAGE: Final = frozenset[Fault]({"refused", "unreachable", "timeout", "login", "closed"})

_NO_KEY: Final = Silent(account=True, why="no-key")
_UNTRUSTED: Final = Silent(account=True, why="untrusted")
_NOTHING: Final = frozenset[bytes]()

_JOURNAL = logging.getLogger("domicile")


class _Flight:
    """One look-up, and all who wait for it. late: its time limit; ready: always ends."""

    __slots__ = ("asked", "asked_wall", "late", "pending", "ready")

    def __init__(self, ready: "asyncio.Future[None]", asked: float, asked_wall: float) -> None:
        self.ready = ready
        self.pending = Pending("directory", ready)
        self.asked = asked
        self.asked_wall = asked_wall
        self.late: asyncio.TimerHandle | None = None


class DirectorySource:
    """Belongs to one event loop, from its first question to `close`.

    counts: of all directories of the process. trusted_only: the key header, which nobody else may send.
    steady, wall: the two clocks, in seconds.
    """

    kind: Kind = "directory"

    def __init__(
        self,
        definition: Directory,
        reader: Reader,
        counts: SourceCount,
        *,
        name: str = "directory",
        steady: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._reader = reader
        self._counts = counts
        self._name = name
        self._steady = steady
        self._wall = wall
        self._find = find_key(definition.key)
        header = definition.key.text.encode("ascii") if definition.key.kind == "header" else None
        self.trusted_only = _NOTHING if header is None else frozenset({header})
        self._forward = definition.forward
        self._timeout = definition.timeout
        self._turns = asyncio.Semaphore(definition.lookups)
        self._most = definition.lookups * (QUEUE + 1)
        self._table = Table(definition.cache)
        self._flights: dict[str, _Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: Remembered[str, float] = Remembered(_FAILED_KEYS)
        self._failures = 0
        self._shut_until = -inf
        self._told = False
        self._closed = False

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Answer:
        try:
            key = self._find(evidence, known)
            if key is None:
                return _UNTRUSTED if self.trusted_only and not evidence.trusted else _NO_KEY
            held = self._table.get(key)
            if held is None:
                usable(key)
        except UnusableKey as unusable:
            return Invalid("directory", unusable.cause)
        steady = self._steady()
        if (
            held is not None
            and steady < held.fresh_until
            and (held.changes_at == inf or self._wall() < held.changes_at)
        ):
            self._counts.hits += 1
            answer = held.answer
        elif held is not None and self._table.usable(held, steady, self._wall()):
            self._counts.hits += 1
            self._ask(key, steady)
            answer = held.answer
        else:
            self._counts.misses += 1
            pending = self._ask(key, steady)
            return Unavailable("directory", "lookup") if pending is None else pending
        if known.subject is not None and type(answer) is Home and answer.subject is not None:
            return replace(answer, subject=None)  # whoever was verified stays the one who is known
        return answer

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        return _NOTHING if self._forward else self.trusted_only

    def begin(self) -> None:
        """Connections are opened by the first question."""

    async def close(self) -> None:
        """End what is under way, which whoever waits is told as unavailable, and let go of the reader."""
        self._closed = True
        for key in tuple(self._flights):
            self._failing(key, "closed")
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSING)
        try:
            async with asyncio.timeout(CLOSING):
                await self._reader.close()
        except TimeoutError:
            _JOURNAL.warning("%s: its connections did not close in time", self._name)

    # Look-ups

    def _ask(self, key: str, steady: float) -> Pending | None:
        """Have the store asked about a key, unless it is being asked; None where it may not be now."""
        flight = self._flights.get(key)
        if flight is not None:
            return flight.pending
        if self._closed or len(self._flights) >= self._most:
            return None
        if steady < self._shut_until or (self._failures >= TRIPS and self._flights):
            return None
        failed = self._failed.get(key)
        if failed is not None and steady < failed:
            return None
        loop = asyncio.get_running_loop()
        flight = self._flights[key] = _Flight(loop.create_future(), steady, self._wall())
        task = loop.create_task(self._look_up(key, flight))
        flight.late = loop.call_later(self._timeout, self._time_out, key, flight, task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return flight.pending

    def _time_out(self, key: str, flight: _Flight, task: "asyncio.Task[None]") -> None:
        if self._flights.get(key) is flight:
            self._failing(key, "timeout")
        task.cancel()  # it may take its time to end, and keeps its turn until it has

    async def _look_up(self, key: str, flight: _Flight) -> None:
        async with self._turns:
            began = self._steady()
            flight.asked, flight.asked_wall = began, self._wall()
            try:
                entry = await self._reader.find(key, flight.asked_wall)
            except ReaderFailed as failed:
                outcome: Callable[[], None] = partial(self._failing, key, failed.fault)
            except Exception as error:
                # A reader's mistake. By type alone: the text may quote the key.
                _JOURNAL.error("unforeseen in %s: %s", self._name, type(error).__name__)
                outcome = partial(self._failing, key, "store")
            else:
                outcome = partial(self._found, key, flight, entry)
            finally:
                self._counts.observe(self._steady() - began)
        if self._flights.get(key) is flight:
            outcome()

    def _found(self, key: str, flight: _Flight, entry: Entry | None) -> None:
        if entry is not None and entry.until is not None and entry.until <= flight.asked_wall:
            self._failing(key, "protocol")  # it says itself that it no longer held when it was asked for
            return
        self._table.put(key, key, entry, flight.asked, flight.asked_wall)
        self._failed.drop(key)
        self._failures = 0
        self._shut_until = -inf
        if self._told:
            self._told = False
            _JOURNAL.info("%s answers again", self._name)
        self._end(key)

    def _failing(self, key: str, fault: Fault) -> None:
        steady = self._steady()
        self._failed.put(key, steady + MOMENT)
        if fault in _OUTAGE:
            self._failures += 1
            if self._failures >= TRIPS:
                self._shut_until = steady + MOMENT
        if not self._told and not self._closed:
            self._told = True
            _JOURNAL.warning("%s cannot be asked: %s", self._name, fault)
        self._end(key)

    def _end(self, key: str) -> None:
        flight = self._flights.pop(key)
        if flight.late is not None:
            flight.late.cancel()
        if not flight.ready.done():
            flight.ready.set_result(None)
