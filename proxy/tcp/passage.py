"""One client's connection: decide -> choose -> dial -> relay -> record.

- Nothing is sent anywhere before the plan holds a Permit, and then only to the endpoints that it covers. The client's
  bytes stay in its socket until a provider is connected, so that trying another endpoint costs them nothing.
- Who is turned away on a tls listener is told by a TLS alert; on a tcp listener there is nothing to say it in.
- A connection that lives is decided again when another line is in force or a date has passed. One that is being made
  goes on by the new decision alone.
- Every path ends in one record.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Coroutine, Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Final

from proxy.identity.answers import Invalid, Pending
from proxy.policy.decision import Denial, Permit
from proxy.providers.choice import order
from proxy.providers.connect import Connecting
from proxy.providers.failure import DialFailure
from proxy.tcp.arrival import Arrival
from proxy.tcp.header import introduction
from proxy.tcp.plan import Leg, Place, Plan, Planner
from proxy.tcp.readiness import BROKEN
from proxy.tcp.relay import End, Relay, close
from proxy.tcp.tally import Tally
from proxy.tcp.wrapped import ProviderSide, Wrapped
from proxy.telemetry.metrics import UNAVAILABLE, Outcome

if TYPE_CHECKING:
    from proxy.tcp.plane import TcpPlane

ROUNDS: Final = 8
"""How often a connection may have to wait: once for each source that asks elsewhere, and for an answer that ran out."""

LINGER: Final = 1.0
"""Seconds that a client has to read why it was turned away."""

COUNTED: Final = 10.0
"""Seconds between two countings of what a connection has moved."""

_DRAINED: Final = 16
"""Reads of what a client sends that was turned away; one that sends more is reset."""

ACCESS_DENIED: Final = b"\x15\x03\x03\x00\x02\x02\x31"
INTERNAL_ERROR: Final = b"\x15\x03\x03\x00\x02\x02\x50"
"""Fatal TLS alerts (RFC 8446 section 6.2)."""

# What a failed dial comes to when no other permitted endpoint is left.
_FAILURES: Final[dict[str, Outcome]] = {
    "refused": "unreachable",
    "tls": "unreachable",
    "timeout": "timeout",
    "name": "unreachable",
    "outside": "unreachable",
    "full": "unavailable",
    "local": "unavailable",
}

_VANISHED: Final = 90.0
"""Seconds that what was sent may stay without a sign of life, unless the idle limit is longer."""


class Passage:
    """slot: where it is on the wheel of deadlines."""

    # fmt: off
    __slots__ = (
        "_carried", "_choices", "_connecting", "_dialled", "_failed_at_once", "_failure", "_leg", "_lifetime",
        "_permit", "_place", "_plan", "_plane", "_planner", "_reaching", "_recorded", "_task", "_trying", "_watched",
        "arrival", "client", "slot", "tally",
    )
    # fmt: on

    def __init__(self, plane: "TcpPlane", arrival: Arrival, client: socket.socket) -> None:
        self._plane = plane
        self.arrival = arrival
        self.client = client
        self.tally = Tally(time.time(), time.monotonic(), plane.request_ids.next())
        self.slot: int | None = None
        self._planner: Planner = plane.planner
        self._plan: Plan
        self._permit: Permit
        self._choices: Iterator[Place] = iter(())
        self._failure: Outcome = "unavailable"
        self._place: Place | None = None
        self._leg: Leg | None = None
        self._connecting: Connecting | None = None
        self._task: asyncio.Task[None] | None = None
        self._dialled = 0.0
        # Whether an answer of `reach` is outstanding.
        self._reaching = False
        self._trying = False
        self._failed_at_once = False
        self._lifetime = inf
        self._carried: Relay | Wrapped | None = None
        self._watched = False
        self._recorded = False

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            # A mistake of this program: the client is not left waiting, and the operator is told.
            self._task = None
            self._plane.failed(self, error)

    # Deciding

    def begin(self) -> None:
        """Find out what is to be done, and do it."""
        plan = self._planner.plan(self.arrival, self.tally.wall)
        if isinstance(plan.verdict, Pending):
            self._wait(plan)
        else:
            self._follow(self._planner, plan)

    def _wait(self, plan: Plan) -> None:
        """A source of a home has to ask elsewhere: nothing is decided before it has its answer."""
        self._plan = plan
        self._watch()
        self._task = self._plane.loop.create_task(self._guarded(self._wait_for(plan)))

    async def _wait_for(self, plan: Plan) -> None:
        planner = self._planner
        for _ in range(ROUNDS):
            if not isinstance(plan.verdict, Pending):
                break
            # Others may wait for the same answer, and this client may leave.
            await asyncio.shield(asyncio.ensure_future(plan.verdict.ready))
            planner = self._plane.planner
            plan = planner.plan(self.arrival, time.time())
        self._task = None
        self._follow(planner, plan)

    def _follow(self, planner: Planner, plan: Plan) -> None:
        self._planner, self._plan = planner, plan
        verdict = plan.verdict
        if isinstance(verdict, Permit):
            self._permit = verdict
            self._choices = iter(self._order(plan))
            self._next()
        elif isinstance(verdict, Denial):
            self._plane.metrics.denials(self.arrival.listener.name, verdict.reason).count += 1
            self._turn_away("denied", verdict.reason, ACCESS_DENIED)
        elif isinstance(verdict, Invalid):
            self._turn_away("unproven", "credential-invalid", ACCESS_DENIED)
        else:
            self._turn_away("unproven", "source-unavailable", INTERNAL_ERROR)

    def _order(self, plan: Plan) -> Sequence[Place]:
        assert plan.preferred is not None
        return order(plan.preferred, self._planner.line.fleet, plan.key, time.monotonic(), passing=True)

    # The way to a provider

    def _next(self) -> None:
        """Try the next endpoint, and those behind it that fail at once."""
        if self._trying:
            self._failed_at_once = True
            return
        self._trying = True
        try:
            while True:
                self._failed_at_once = False
                self._try()
                if not self._failed_at_once:
                    break
        finally:
            self._trying = False

    def _try(self) -> None:
        if self._planner is not self._plane.planner:
            # A reload decides a share at a time; one that is about to try a provider comes first.
            self.redecide(self._plane.planner, time.time())
            return
        place = next(self._choices, None)
        if place is None:
            self._unreachable()
            return
        self._place = place
        self.tally.tries += 1
        if self.tally.tries > 1:
            self._plane.retried(place)
        self._dialled = now = time.monotonic()
        place.take(self._permit, now)
        if place.endpoint.scheme == "tls" and self.arrival.listener.protocol == "tcp":
            self._watch()
            self._task = self._plane.loop.create_task(self._guarded(self._wrap(place)))
            return
        self._reaching = True
        connecting = place.reach(self._permit, self._reached, self._missed)
        if self._reaching:
            self._connecting = connecting
            self._plane.deadlines.put(self, now + place.state.definition.timeouts.connect)
            self._watch()

    def _missed(self, failure: DialFailure) -> None:
        """An endpoint could not be reached. Nothing was sent."""
        place = self._place
        assert place is not None
        self._connecting, self._reaching = None, False
        self._failure = _FAILURES[failure.kind]
        self._plane.attempted(place, failure.kind)
        self._next()

    def _unreachable(self) -> None:
        """No endpoint is left to try."""
        if self._place is not None:
            self._leg = self._planner.leg(self.arrival, self._plan, self._place)
        self._place = None
        if self._failure == UNAVAILABLE:
            self._plane.metrics.denials(self.arrival.listener.name, UNAVAILABLE).count += 1
        self._turn_away(self._failure, self._failure, INTERNAL_ERROR)

    def _reached(self, sock: socket.socket) -> None:
        """A provider is connected, and waits for its first byte."""
        place = self._place
        assert place is not None
        self._connecting, self._reaching = None, False
        if self._planner is not self._plane.planner:
            close(sock, reset=True)
            place.state.closed()
            self.redecide(self._plane.planner, time.time())
            return
        provider = place.state.definition
        header = introduction(provider, self.arrival, self.client, self.tally.request_id)
        try:
            _limit(self.client, sock, provider.timeouts.idle)
            if header and sock.send(header) < len(header):
                raise BlockingIOError("a new connection takes no header")
        except OSError:
            close(sock, reset=True)
            place.state.closed()
            self._missed(DialFailure("refused", provider.name, place.endpoint.host, "connection reset"))
            return
        plane = self._plane
        self._carried = relay = Relay(
            plane.readiness, plane.vessels, time.monotonic, self.client, sock, self._relay_ended
        )
        self._connected(place)
        relay.begin(watched=self._watched)

    def _connected(self, place: Place) -> None:
        self._leg = leg = self._planner.leg(self.arrival, self._plan, place)
        now = time.monotonic()
        self.tally.connect = took = now - self._dialled
        leg.answered.count += 1
        leg.timings.connect.observe(took)
        if not place.state.endpoints:
            # It has no requests to be measured by.
            place.state.first_byte(took, now)
        lifetime = self._planner.line.policy.timeouts.lifetime
        if lifetime is not None:
            self._lifetime = self.tally.started + lifetime
        self._look_again(now, place.state.definition.timeouts.idle)

    async def _wrap(self, place: Place) -> None:
        """As `reach`, with our TLS on it."""
        header = introduction(place.state.definition, self.arrival, self.client, self.tally.request_id)
        try:
            _, side = await place.connect(self._permit, lambda: ProviderSide(place.state.closed), header)
        except DialFailure as failure:
            self._task = None
            self._missed(failure)
            return
        self._task = None
        if self._planner is not self._plane.planner:
            side.abort()
            self.redecide(self._plane.planner, time.time())
            return
        plane = self._plane
        self._carried = wrapped = Wrapped(plane.readiness, plane.vessels, self.client, side, self._wrapped_ended)
        self._connected(place)
        wrapped.begin()

    # Deciding again

    def redecide(self, planner: Planner, wall: float) -> None:
        """Another line is in force, or a date has passed: may this go on?"""
        if self._recorded:
            return
        if self._carried is None:
            self._redecide_the_way(planner, wall)
            return
        plan = planner.plan(self.arrival, wall)
        if isinstance(plan.verdict, Pending):
            # Where a source has to be asked first it may for now, and the question is put again.
            self._plane.redecide_when(plan.verdict, self)
        elif not self._covered(plan):
            self._withdraw()

    def _redecide_the_way(self, planner: Planner, wall: float) -> None:
        if isinstance(self._plan.verdict, Pending) and self._task is not None:
            return  # nothing was decided yet; what is in force when the source has answered will be
        plan = planner.plan(self.arrival, wall)
        place = self._place if self._connecting is not None or self._task is not None else None
        verdict = plan.verdict
        if isinstance(verdict, Permit) and place is not None and not place.state.retired:
            self._planner = planner
            if verdict.covers(place.state.definition):
                self._plan, self._permit = plan, verdict
                self._choices = iter([choice for choice in self._order(plan) if choice is not place])
                return
        self._stop()
        if isinstance(verdict, Permit):
            self._follow(planner, plan)
        elif isinstance(verdict, Pending):
            self._planner = planner
            self._wait(plan)
        else:
            self._withdraw()

    def _covered(self, plan: Plan) -> bool:
        place = self._place
        return place is not None and isinstance(plan.verdict, Permit) and plan.verdict.names(place.state.definition)

    def _withdraw(self) -> None:
        """End it: its permit was withdrawn."""
        place = self._place
        if place is not None:
            name = place.state.definition.name
            self._plane.metrics.withdrawn(self.arrival.listener.name, name).count += 1
        if self._carried is not None:
            self.cut("withdrawn")
        else:
            self._turn_away("withdrawn", "withdrawn", ACCESS_DENIED)

    # Time

    def look(self, now: float) -> None:
        """It is time to look at its deadlines."""
        if self._recorded:
            self._close()
        elif self._connecting is not None:
            connecting, self._connecting = self._connecting, None
            connecting.time_out()
        elif self._carried is not None and self._leg is not None and self._leg.provider is not None:
            self.tally.moved(self._leg, *self._carried.moved)
            idle = self._leg.provider.timeouts.idle
            if now >= self._lifetime:
                self.cut("lifetime")
            elif now >= self._carried.last + idle:
                self.cut("idle")
            else:
                self._look_again(now, idle)

    def _look_again(self, now: float, idle: float) -> None:
        assert self._carried is not None
        self._plane.deadlines.put(self, min(self._carried.last + idle, self._lifetime, now + COUNTED))

    # The client, while nothing is relayed

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._plane.readiness.watch(self.client.fileno(), self._client_ready)

    def _client_ready(self, events: int) -> None:
        # What it sends, and an end of it, is a provider's to read. A reset is the end of all.
        if events & BROKEN and self.client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._stop()
            self._record("client-left", "client-left")
            self._close()

    def _turn_away(self, outcome: Outcome, reason: str, alert: bytes) -> None:
        self._record(outcome, reason)
        if self.arrival.listener.protocol != "tls":
            self._close()
            return
        try:
            # Closing over unread bytes would be a reset, and that would take the alert along.
            self.client.recv_into(self._plane.vessels.buffer)
            self.client.send(alert)
        except OSError:
            self._close()
            return
        self._linger()

    def _linger(self) -> None:
        """End our side, and close when the client has ended its own, or has had its time."""
        try:
            self.client.shutdown(socket.SHUT_WR)
        except OSError:
            self._close()
            return
        readiness, descriptor = self._plane.readiness, self.client.fileno()
        self._plane.deadlines.put(self, time.monotonic() + LINGER)
        if self._watched:
            readiness.hand(descriptor, self._read_away)
            self._read_away(0)
        else:
            self._watched = True
            readiness.watch(descriptor, self._read_away)

    def _read_away(self, events: int) -> None:
        try:
            for _ in range(_DRAINED):
                if not self.client.recv_into(self._plane.vessels.buffer):
                    break
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close()

    # Ends

    def cut(self, outcome: Outcome) -> None:
        """End it, wherever it is: what runs is reset."""
        self._stop()
        carried = self._carried
        if carried is not None:
            carried.cut()
        self._record(outcome, outcome)
        self._close(reset=True)

    def _stop(self) -> None:
        """Wait, and try, no longer."""
        self._choices = iter(())
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._connecting is not None:
            self._connecting.stop()
            self._connecting = None
            if self._place is not None:
                self._place.state.closed()

    def _relay_ended(self, end: End) -> None:
        self._record(end, None if end == "completed" else end)
        self._close()

    def _wrapped_ended(self, end: End) -> None:
        self._record(end, None if end == "completed" else end)
        if end == "completed":
            self._linger()
        else:
            self._close(reset=True)

    def _record(self, outcome: Outcome, reason: str | None) -> None:
        """Count and log what came of it, once."""
        if self._recorded:
            return
        self._recorded = True
        tally, carried = self.tally, self._carried
        leg = self._leg or self._planner.leg(self.arrival, self._plan, None)
        if carried is not None:
            tally.moved(leg, *carried.moved)
            if carried.first != inf and tally.connect is not None:
                tally.first_byte = carried.first - self._dialled - tally.connect
            if isinstance(carried, Relay) and self._place is not None:
                self._place.state.closed()
        tally.record(leg, self._plan, self._plane.log, outcome, reason)

    def _close(self, *, reset: bool = False) -> None:
        """The client's socket is closed, here if it was not before; nothing of this is left."""
        plane = self._plane
        plane.deadlines.drop(self)
        if self.client.fileno() >= 0:
            plane.readiness.forget(self.client.fileno())
            close(self.client, reset=reset)
        self._carried = None
        plane.lost(self)


def _limit(client: socket.socket, provider: socket.socket, idle: float) -> None:
    """How long the kernel waits, on either side, for a sign that what it sent has come. The rest is set already: by the
    dial on the provider's socket, by the accept stage on the client's."""
    patience = int(max(idle, _VANISHED) * 1000)
    provider.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
    with contextlib.suppress(OSError):  # a Unix socket has none
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
