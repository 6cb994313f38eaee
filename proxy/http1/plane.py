"""The HTTP plane: all client connections, the line in force, and the sweep that keeps every deadline."""

import asyncio
import select
import time
from collections.abc import Coroutine, Iterator, Mapping
from itertools import chain, islice
from math import inf
from typing import Any, Final

from proxy.http1 import problems
from proxy.http1.admission import PARKED, Admission
from proxy.http1.arrival import Arrival
from proxy.http1.client import ClientConnection
from proxy.http1.exchange import Exchange
from proxy.http1.hedge import Hedges
from proxy.http1.line import Line
from proxy.http1.occupant import Occupant
from proxy.http1.plan import Plan, Planner
from proxy.http1.provider import ProviderConnection, ResponseHeads
from proxy.http1.waiting import Waiting
from proxy.identity.answers import Pending
from proxy.providers.endpoint import EndpointState
from proxy.providers.rates import Exceeded
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.cells import Cell
from proxy.telemetry.metrics import Attempt, Metrics
from proxy.telemetry.request_ids import RequestIds
from proxy.wire.refusal import Refusal

PERIOD: Final = 0.25
"""Seconds between two sweeps: how late a deadline can be."""

CLOCK_SET: Final = 1.0
"""Seconds by which the clock has to jump between two sweeps before all is decided again because of it."""

DECIDED_AT_ONCE: Final = 100
"""Living requests that are decided again in one turn of the loop: a few milliseconds."""

_LEFT: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class HttpPlane:
    """Serves connections of every `http` listener. Belongs to the running loop's thread."""

    def __init__(self, line: Line, metrics: Metrics, log: AccessLog) -> None:
        self.metrics = metrics
        self.log = log
        self.request_ids = RequestIds()
        self.draining = False
        self._heads = ResponseHeads()
        self._connections: set[ClientConnection] = set()
        self._aside: set[asyncio.Task[None]] = set()
        self._emptied: asyncio.Future[None] | None = None
        self.loop = asyncio.get_running_loop()
        self.hedges = Hedges(self.loop)
        self.admission = Admission(self.loop, line.policy.overload)
        limit = self.admission.limit
        metrics.overload(lambda: (limit.limit, limit.working))
        self._sweeping: asyncio.TimerHandle | None = self.loop.call_later(PERIOD, self._sweep)
        self._ahead = time.time() - time.monotonic()
        self._take_line(line)

    def connection(self, arrival: Arrival) -> asyncio.Protocol:
        """The protocol for one accepted connection."""
        return ClientConnection(self, arrival)

    def swap(self, line: Line) -> None:
        """Put another line in force. Living requests and tunnels are decided again.

        Connections that would now be held to another demand of certificates end after their next answer.
        """
        old = self.line
        self._take_line(line)
        for name, state in old.fleet.states.items():
            if line.fleet.states.get(name) is not state:
                for idle in state.retire():
                    idle.close()
        self.redecide()
        now = time.monotonic()
        for client in tuple(self._connections):
            demands = line.demands.get(client.arrival.listener.name)
            try:
                if demands is not None and demands.of(client.arrival.sni) != client.arrival.demand:
                    client.retire(now)
            except Exception as error:
                self.failed(client, error)
        self._do_aside(old.sources.close())
        self._do_aside(old.rates.close(line.rates))

    def redecide(self) -> None:
        """Decide every living request and tunnel again: a date has passed, or another line is in force."""
        self._redecide_some(iter(tuple(self._connections)))

    def _redecide_some(self, clients: Iterator[ClientConnection]) -> None:
        """A share of them in each turn of the loop, so that ten thousand tunnels hold up no request."""
        now, wall = time.monotonic(), time.time()
        for client in islice(clients, DECIDED_AT_ONCE):
            try:
                if client.exchange is not None:
                    client.exchange.redecide(self.planner, now, wall)
            except Exception as error:
                self.failed(client, error)
        following = next(clients, None)
        if following is not None:
            self.loop.call_soon(self._redecide_some, chain((following,), clients))

    async def drain(self, grace: float) -> None:
        """End: no further requests; what is in flight has `grace` seconds to finish, and is cut then."""
        self.draining = True
        now = time.monotonic()
        for client in tuple(self._connections):
            client.drain(now)
        if self._connections:
            self._emptied = self.loop.create_future()
            try:
                async with asyncio.timeout(grace):
                    await self._emptied
            except TimeoutError:
                for client in tuple(self._connections):
                    client.reset()
        await self._end()

    async def _end(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for state in self.line.fleet.states.values():
            for idle in state.retire():
                idle.close()
        await self.line.sources.close()
        await self.line.rates.close()
        # One turn of the loop for each step of a close: the callbacks of aborted transports run in the next.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    @property
    def open_connections(self) -> int:
        """How many client connections are open, on all listeners."""
        return len(self._connections)

    # What connections ask of it

    def opened(self, client: ClientConnection) -> None:
        """A client connection begins."""
        self._connections.add(client)
        self.metrics.connections(client.arrival.listener.name).count += 1

    def lost(self, client: ClientConnection) -> None:
        """A client connection is gone."""
        self._connections.discard(client)
        self.metrics.connections(client.arrival.listener.name).count -= 1
        if not self._connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def failed(self, client: ClientConnection, error: Exception) -> None:
        """A mistake of this program was met at one client: that one ends, others go on, and the operator is told."""
        self.loop.call_exception_handler({"message": "a client's connection", "exception": error})
        client.reset()

    def begin(self, client: ClientConnection, head: bytes) -> None:
        """A whole head has come."""
        wall, started = time.time(), time.monotonic()
        planner = self.planner
        if not self.admission.enter(started):
            self._shed(client, planner, planner.undecided(client.arrival, head), wall, started)
            return
        try:
            plan = planner.plan(client.arrival, head, wall)
        except BaseException:
            self.admission.limit.end()
            raise
        tokens = plan.tokens
        if type(plan.verdict) is Pending or (tokens is not None and tokens.shared):
            client.exchange = Waiting(self, client, plan, wall, started)
            return
        exchange = self.go_on(client, planner, plan, wall, started)
        if tokens is None:
            exchange.begin()
        else:
            self.begin_within(exchange, client, tokens.take(started))

    def go_on(self, client: ClientConnection, planner: Planner, plan: Plan, wall: float, started: float) -> Exchange:
        """The exchange of a request that was let in and whose plan is made."""
        client.exchange = exchange = Exchange(self, client, planner, plan, wall, started)
        exchange.tally.admitted_by = self.admission.limit
        return exchange

    def begin_within(self, exchange: Exchange, client: ClientConnection, exceeded: Exceeded | None) -> None:
        """Begin it, if no limit of rate is exceeded."""
        if exceeded is None:
            exchange.begin()
        else:
            self.metrics.rate_limited(client.arrival.listener.name, exceeded.limit).count += 1
            exchange.turn_away(problems.rate_limited(exceeded.wait))

    def _shed(self, client: ClientConnection, planner: Planner, plan: Plan, wall: float, started: float) -> None:
        """There is no room for it. What nobody would take anyway is told so."""
        client.exchange = exchange = Exchange(self, client, planner, plan, wall, started)
        if plan.head is None:
            exchange.begin()
        else:
            cell = self._sheds.get(client.arrival.listener.name) or self.metrics.shed(client.arrival.listener.name)
            cell.count += 1
            exchange.turn_away(problems.SHED)

    def redecide_when(self, pending: Pending, client: ClientConnection) -> None:
        """Decide a living request again once its source has answered."""
        self._do_aside(self._redecide_when(pending, client, client.exchange))

    async def _redecide_when(self, pending: Pending, client: ClientConnection, occupant: Occupant | None) -> None:
        await asyncio.shield(asyncio.ensure_future(pending.ready))
        try:
            if occupant is not None and client.exchange is occupant:
                occupant.redecide(self.planner, time.monotonic(), time.time())
        except Exception as error:
            self.failed(client, error)

    def _do_aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def refuse(self, client: ClientConnection, refusal: Refusal) -> None:
        """What came will not become a head that is accepted."""
        plan = self.planner.refused(refusal)
        client.exchange = exchange = Exchange(self, client, self.planner, plan, time.time(), time.monotonic())
        exchange.begin()

    def provider_connection(self, place: EndpointState[ProviderConnection]) -> ProviderConnection:
        """The protocol for a new connection to an endpoint."""

        def closed(connection: ProviderConnection) -> None:
            place.state.closed()
            place.discard(connection)

        return ProviderConnection(self.loop, self._heads, self.limits.head, closed)

    def attempted(self, place: EndpointState[ProviderConnection], result: Attempt) -> None:
        """Count what came of one try at a provider."""
        provider = place.state.definition
        self.metrics.attempts(provider.name, provider.zone, result).count += 1

    def retried(self, place: EndpointState[ProviderConnection]) -> None:
        """Count one try that was not its request's first."""
        provider = place.state.definition
        self.metrics.retries(provider.name, provider.zone).count += 1

    # The sweep

    def _take_line(self, line: Line) -> None:
        planner = Planner(line, self.metrics)
        line.sources.begin()
        self.line = line
        self.limits = line.policy.limits
        self.timeouts = line.policy.timeouts
        self.hedges.after = line.policy.retries.hedge
        self.planner = planner
        self.admission.limit.renew(line.policy.overload)
        self._sheds = shed = dict[str, Cell]()
        for listener in line.policy.listeners:
            if listener.protocol == "http":
                shed[listener.name] = self.metrics.shed(listener.name)
                for each in line.policy.rates.limits:
                    self.metrics.rate_limited(listener.name, each.name)
        for provider in line.policy.providers:
            # Series exist from now on, so that the first event already is a rise.
            self.metrics.timings(provider.name, provider.zone)
            self.metrics.attempts(provider.name, provider.zone, "answered")
            self.metrics.retries(provider.name, provider.zone)
            for listener in line.policy.listeners:
                self.metrics.requests(listener.name, provider.name, provider.zone)
                self.metrics.withdrawn(listener.name, provider.name)

    def _sweep(self) -> None:
        self._sweeping = self.loop.call_later(PERIOD, self._sweep)
        now, wall = time.monotonic(), time.time()
        long_ago = now - PARKED
        paused: dict[int, ClientConnection] = {}
        changed: list[ClientConnection] = []
        for client in tuple(self._connections):
            try:
                if now >= client.deadline or now >= client.gone_by:
                    client.overdue(now)
                exchange = client.exchange
                if exchange is not None and now >= exchange.withdrawn_at:
                    exchange.end_withdrawn()
                if exchange is not None and exchange.tally.started < long_ago:
                    self.admission.park(exchange.tally)
                if exchange is not None and wall >= exchange.changes_at:
                    exchange.changes_at = inf
                    changed.append(client)
                if client.reading.held and not client.transport.is_closing():
                    paused[client.transport.get_extra_info("socket").fileno()] = client
            except Exception as error:
                self.failed(client, error)
        ahead, self._ahead = self._ahead, wall - now
        if abs(self._ahead - ahead) >= CLOCK_SET:
            # Which dates have passed, or lie ahead again, is not known.
            self.redecide()
        elif changed:
            self._redecide_some(iter(changed))
        if paused:
            self._look_for_ends(paused)
        for idle in self.line.fleet.expire(now):
            idle.close()

    def _look_for_ends(self, paused: Mapping[int, ClientConnection]) -> None:
        """Neither loop notices a FIN or RST while reading is paused. By descriptor."""
        poll = select.poll()
        for descriptor in paused:
            poll.register(descriptor, _LEFT)
        for descriptor, events in poll.poll(0):
            try:
                paused[descriptor].hung_up(reset=bool(events & select.POLLERR))
            except Exception as error:
                self.failed(paused[descriptor], error)
