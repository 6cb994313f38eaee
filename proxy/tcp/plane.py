"""The TCP plane: connections of tls and tcp listeners, the line in force, and the sweep that keeps every deadline."""

import asyncio
import socket
import time
from collections.abc import Coroutine, Iterator
from itertools import chain, islice
from math import inf
from typing import Any, Final

from proxy.identity.answers import Pending
from proxy.tcp.arrival import Arrival
from proxy.tcp.deadlines import PERIOD, Deadlines
from proxy.tcp.line import Line
from proxy.tcp.passage import Passage
from proxy.tcp.plan import Place, Planner
from proxy.tcp.readiness import Readiness
from proxy.tcp.vessels import Vessels
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import Attempt, Metrics
from proxy.telemetry.request_ids import RequestIds

CLOCK_SET: Final = 1.0
"""Seconds by which the clock has to jump between two sweeps before all is decided again because of it."""

DECIDED_AT_ONCE: Final = 200
"""Living connections that are decided again in one turn of the loop: a few milliseconds."""


class TcpPlane:
    """Passes on connections of every `tls` and `tcp` listener. Belongs to the running loop's thread.

    splices: whether bytes may move in the kernel; where they cannot, they are copied.
    """

    def __init__(self, line: Line, metrics: Metrics, log: AccessLog, *, splices: bool = True) -> None:
        self.metrics = metrics
        self.log = log
        self.request_ids = RequestIds()
        self.loop = asyncio.get_running_loop()
        self.readiness = Readiness(self.loop)
        self.vessels = Vessels(splices=splices)
        self.deadlines: Deadlines[Passage] = Deadlines(time.monotonic())
        self._passages: set[Passage] = set()
        self._aside: set[asyncio.Task[None]] = set()
        self._emptied: asyncio.Future[None] | None = None
        self._ahead = time.time() - time.monotonic()
        self._sweeping: asyncio.TimerHandle | None = self.loop.call_later(PERIOD, self._sweep)
        self._take_line(line)

    def take(self, arrival: Arrival, sock: socket.socket) -> None:
        """Serve one accepted connection. The non-blocking socket is the plane's from now on."""
        passage = Passage(self, arrival, sock)
        self._passages.add(passage)
        self.metrics.connections(arrival.listener.name).count += 1
        try:
            passage.begin()
        except Exception as error:
            passage.failed(error)

    def swap(self, line: Line) -> None:
        """Put another line in force. Living connections are decided again.

        The sources and the fleet of the old one are the HTTP plane's to close.
        """
        self._take_line(line)
        self.redecide()

    def redecide(self) -> None:
        """Decide every living connection again: a date has passed, or another line is in force."""
        self._redecide_some(iter(tuple(self._passages)))

    def _redecide_some(self, passages: Iterator[Passage]) -> None:
        """A share of them in each turn of the loop, so that ten thousand hold up no other."""
        wall = time.time()
        for passage in islice(passages, DECIDED_AT_ONCE):
            try:
                passage.redecide(self.planner, wall)
            except Exception as error:
                passage.failed(error)
        following = next(passages, None)
        if following is not None:
            self.loop.call_soon(self._redecide_some, chain((following,), passages))

    async def drain(self, grace: float) -> None:
        """End: what is under way has `grace` seconds to finish, and is cut then."""
        if self._passages:
            self._emptied = self.loop.create_future()
            try:
                async with asyncio.timeout(grace):
                    await self._emptied
            except TimeoutError:
                for passage in tuple(self._passages):
                    passage.cut("drained")
        await self._end()

    async def _end(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
            self.readiness.close()
            self.vessels.close()
        for task in tuple(self._aside):
            task.cancel()
        # One turn of the loop for each step of a close: the callbacks of aborted transports run in the next.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    @property
    def open_connections(self) -> int:
        """How many client connections are open, on all listeners."""
        return len(self._passages)

    # What connections ask of it

    def lost(self, passage: Passage) -> None:
        """A client connection is gone."""
        if passage not in self._passages:
            return
        self._passages.discard(passage)
        self.metrics.connections(passage.arrival.listener.name).count -= 1
        if not self._passages and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def redecide_when(self, pending: Pending, passage: Passage) -> None:
        """Decide a living connection again once its source has answered."""
        self._do_aside(self._redecide_when(pending, passage))

    async def _redecide_when(self, pending: Pending, passage: Passage) -> None:
        await asyncio.shield(asyncio.ensure_future(pending.ready))
        try:
            passage.redecide(self.planner, time.time())
        except Exception as error:
            passage.failed(error)

    def _do_aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def attempted(self, place: Place, result: Attempt) -> None:
        """Count what came of one try at a provider."""
        provider = place.state.definition
        self.metrics.attempts(provider.name, provider.zone, result).count += 1

    def retried(self, place: Place) -> None:
        """Count one try that was not its connection's first."""
        provider = place.state.definition
        self.metrics.retries(provider.name, provider.zone).count += 1

    # The sweep

    def _take_line(self, line: Line) -> None:
        self.line = line
        self.planner = Planner(line, self.metrics)
        passing = [each.name for each in line.policy.listeners if each.protocol != "http"]
        for provider in line.policy.providers:
            # Series exist from now on, so that the first event already is a rise.
            for listener in passing:
                self.metrics.requests(listener, provider.name, provider.zone)
                self.metrics.passed(listener, provider.name, provider.zone, "completed")
                self.metrics.withdrawn(listener, provider.name)
        for limit in line.policy.rates.limits:
            for listener in passing:
                self.metrics.rate_limited(listener, limit.name)

    def _sweep(self) -> None:
        self._sweeping = self.loop.call_later(PERIOD, self._sweep)
        now, wall = time.monotonic(), time.time()
        changed: list[Passage] = []
        for passage in self.deadlines.due(now):
            try:
                if wall >= passage.changes_at:
                    passage.changes_at = inf
                    changed.append(passage)
                passage.look(now)
            except Exception as error:
                passage.failed(error)
        ahead, self._ahead = self._ahead, wall - now
        if abs(self._ahead - ahead) >= CLOCK_SET:
            # Which dates have passed, or lie ahead again, is not known.
            self.redecide()
        elif changed:
            self._redecide_some(iter(changed))
