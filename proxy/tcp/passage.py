"""One client's connection: decide -> limit of rate -> choose -> dial -> relay -> record.

- Nothing is sent anywhere before the plan holds a Permit, and then only to the endpoints that it covers. The client's
  bytes stay in its socket until a provider is connected, so that trying another endpoint costs them nothing.
- Who is turned away on a tls listener is told by a TLS alert; on a tcp listener there is nothing to say it in.
- A connection that lives is decided again when another line is in force or a date has passed. One that is being made
  goes on by the new decision alone.
- Every path ends in one record.
"""

import socket
import time
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from proxy.identity.answers import Invalid, Pending
from proxy.policy.decision import Denial, Permit
from proxy.providers.choice import order
from proxy.providers.rates import Exceeded
from proxy.tcp.arrival import Arrival
from proxy.tcp.attempts import Attempts
from proxy.tcp.parting import ACCESS_DENIED, INTERNAL_ERROR, LINGER, Parting
from proxy.tcp.plan import Leg, Place, Plan, Planner
from proxy.tcp.readiness import BROKEN
from proxy.tcp.relay import Relay, close
from proxy.tcp.tally import Tally
from proxy.tcp.waiting import Waiting
from proxy.tcp.way import End
from proxy.tcp.wrapped import ProviderSide, Wrapped
from proxy.telemetry.metrics import UNAVAILABLE, Outcome

if TYPE_CHECKING:
    from proxy.tcp.plane import TcpPlane

COUNTED: Final = 10.0
"""Seconds between two countings of what a connection has moved."""


class Passage:
    """slot: where it is on the wheel of deadlines. changes_at: when its subject is known to move, so that it is decided
    again (seconds since the epoch)."""

    # fmt: off
    __slots__ = (
        "_attempts", "_carried", "_dialling", "_leg", "_lifetime", "_plan", "_plane", "_planner", "_recorded",
        "_waiting", "_watched", "arrival", "changes_at", "client", "slot", "tally",
    )
    # fmt: on

    def __init__(self, plane: "TcpPlane", arrival: Arrival, client: socket.socket) -> None:
        self._plane = plane
        self.arrival = arrival
        self.client = client
        self.tally = Tally(time.time(), time.monotonic(), plane.request_ids.next())
        self.slot: int | None = None
        self.changes_at = inf
        self._planner: Planner = plane.planner
        self._plan: Plan
        self._waiting: Waiting | None = None
        self._attempts: Attempts | None = None
        self._dialling = inf
        self._leg: Leg | None = None
        self._lifetime = inf
        self._carried: Relay | Wrapped | None = None
        self._watched = False
        self._recorded = False

    # Deciding

    def begin(self) -> None:
        """Find out what is to be done, and do it."""
        plan = self._planner.plan(self.arrival, self.tally.wall)
        if isinstance(plan.verdict, Pending):
            self._wait(plan)
        else:
            self._follow(self._planner, plan)

    def _wait(self, plan: Plan) -> None:
        self._plan = plan
        self._watch()
        self._waiting = Waiting(self._plane, self.failed)
        self._waiting.for_source(self._planner, plan, self.arrival, self._follow)

    def _follow(self, planner: Planner, plan: Plan) -> None:
        self._planner, self._plan = planner, plan
        self.changes_at = plan.changes_at
        verdict = plan.verdict
        if isinstance(verdict, Permit):
            self._permitted(plan, verdict)
        elif isinstance(verdict, Denial):
            self._plane.metrics.denials(self.arrival.listener.name, verdict.reason).count += 1
            self._turn_away("denied", verdict.reason, ACCESS_DENIED)
        elif isinstance(verdict, Invalid):
            self._turn_away("unproven", "credential-invalid", ACCESS_DENIED)
        else:
            self._turn_away("unproven", "source-unavailable", INTERNAL_ERROR)

    def _permitted(self, plan: Plan, permit: Permit) -> None:
        tokens = plan.tokens
        if self._attempts is not None:
            # It has taken its tokens.
            self._attempts.renew(self._planner, permit, self._order(plan))
        elif tokens is None:
            self._set_out(None)
        elif tokens.shared:
            self._watch()
            self._waiting = Waiting(self._plane, self.failed)
            self._waiting.for_tokens(tokens, self._let_in)
        else:
            self._set_out(tokens.take(time.monotonic()))

    def _set_out(self, exceeded: Exceeded | None) -> None:
        """Try to reach a provider, unless a limit of rate is exceeded."""
        if self._may_set_out(exceeded) and self._attempts is not None:
            self._attempts.next()

    def _let_in(self, exceeded: Exceeded | None) -> None:
        """A store has answered: set out by what is decided now, for a date may have passed meanwhile."""
        if self._may_set_out(exceeded):
            self.redecide(self._plane.planner, time.time())

    def _may_set_out(self, exceeded: Exceeded | None) -> bool:
        plan, permit = self._plan, self._plan.verdict
        if exceeded is not None:
            self._plane.metrics.rate_limited(self.arrival.listener.name, exceeded.limit).count += 1
            self._turn_away("rate-limited", "rate-limited", INTERNAL_ERROR)
            return False
        assert isinstance(permit, Permit)
        self._attempts = Attempts(self._plane, self, self._planner, permit, self._order(plan))
        return True

    def _order(self, plan: Plan) -> Sequence[Place]:
        assert plan.preferred is not None
        return order(plan.preferred, self._planner.line.fleet, plan.key, time.monotonic(), passing=True)

    # The way to a provider

    def dialling(self, until: float) -> None:
        """A connection is being made, until when at most (monotonic seconds)."""
        self._dialling = until
        self._look_again(time.monotonic())
        self._watch()

    def queued(self) -> None:
        """It waits for a provider that is full."""
        self._dialling = inf
        self._look_again(time.monotonic())
        self._watch()

    def unreachable(self, outcome: Outcome) -> None:
        """No endpoint is left to try."""
        place = self._place
        if place is not None:
            self._leg = self._planner.leg(self.arrival, self._plan, place)
        if outcome == UNAVAILABLE:
            self._plane.metrics.denials(self.arrival.listener.name, UNAVAILABLE).count += 1
        self._turn_away(outcome, outcome, INTERNAL_ERROR)

    def reached(self, sock: socket.socket) -> None:
        """A provider is connected, and waits for its first byte."""
        plane = self._plane
        self._carried = relay = Relay(
            plane.readiness, plane.vessels, time.monotonic, self.client, sock, self._relay_over
        )
        self._connected()
        relay.begin(watched=self._watched)

    def wrapped(self, side: ProviderSide) -> None:
        """A provider is connected, by our own TLS."""
        plane = self._plane
        self._carried = carried = Wrapped(plane.readiness, plane.vessels, self.client, side, self._wrapped_over)
        self._connected()
        carried.begin()

    def _connected(self) -> None:
        place, attempts = self._place, self._attempts
        assert place is not None
        assert attempts is not None
        self._leg = leg = self._planner.leg(self.arrival, self._plan, place)
        now = time.monotonic()
        self.tally.connect = took = now - attempts.began
        leg.answered.count += 1
        leg.timings.connect.observe(took)
        attempts.connected(took, now)
        if not place.state.endpoints:
            # It has no requests to be measured by.
            place.state.first_byte(took, now)
        lifetime = self._planner.line.policy.timeouts.lifetime
        if lifetime is not None:
            self._lifetime = self.tally.started + lifetime
        self._look_again(now)

    @property
    def _place(self) -> Place | None:
        return None if self._attempts is None else self._attempts.place

    # Deciding again

    def redecide(self, planner: Planner, wall: float) -> None:
        """Another line is in force, or a date has passed: may this go on?"""
        if self._recorded or (self._waiting is not None and self._waiting.on):
            return  # over; or it has not set out yet, and what is in force when it does will decide
        plan = planner.plan(self.arrival, wall)
        self.changes_at = plan.changes_at
        if self._carried is None:
            self._redecide_the_way(planner, plan)
            return
        self._look_again(time.monotonic())
        if isinstance(plan.verdict, Pending):
            # Where a source has to be asked first it may for now, and the question is put again.
            self._plane.redecide_when(plan.verdict, self)
        elif not self._covered(plan):
            self._withdraw()

    def _redecide_the_way(self, planner: Planner, plan: Plan) -> None:
        assert self._attempts is not None
        if isinstance(plan.verdict, Permit):
            self._follow(planner, plan)
            if self._carried is None and not self._recorded:
                self._look_again(time.monotonic())
            return
        self._attempts.stop()
        self._planner = planner
        if isinstance(plan.verdict, Pending):
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
        elif self._carried is None:
            if self._attempts is not None and now >= self._dialling:
                self._attempts.time_out()
            else:
                self._look_again(now)
        elif self._leg is not None:
            self.tally.moved(self._leg, *self._carried.moved)
            if now >= self._lifetime:
                self.cut("lifetime")
            elif now >= self._carried.last + self._idle:
                self.cut("idle")
            else:
                self._look_again(now)

    def _look_again(self, now: float) -> None:
        """Be looked at when the next thing may be due."""
        when = self._dialling
        if self._carried is not None:
            when = min(self._carried.last + self._idle, self._lifetime, now + COUNTED)
        if self.changes_at != inf:
            when = min(when, now + max(self.changes_at - time.time(), 0.0))
        if when != inf:
            self._plane.deadlines.put(self, when)

    @property
    def _idle(self) -> float:
        return inf if self._place is None else self._place.state.definition.timeouts.idle

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
        if self.arrival.listener.protocol == "tls":
            self._part(alert)
        else:
            self._close()

    def _part(self, words: bytes) -> None:
        """End our side, and close when the client has ended its own, or has had its time."""
        plane = self._plane
        plane.deadlines.put(self, time.monotonic() + LINGER)
        Parting(plane.readiness, plane.vessels, self.client, self._close).begin(words, watched=self._watched)

    # Ends

    def cut(self, outcome: Outcome) -> None:
        """End it, wherever it is: what runs is reset."""
        self._stop()
        if self._carried is not None:
            self._carried.cut()
        self._record(outcome, outcome)
        self._close(reset=True)

    def failed(self, error: Exception) -> None:
        """A mistake of this program, and this connection's alone: it ends, and the operator is told."""
        self._plane.loop.call_exception_handler({"message": "a connection that is passed on", "exception": error})
        self.cut("reset")

    def _stop(self) -> None:
        """Wait, and try, no longer."""
        if self._waiting is not None:
            self._waiting.stop()
        if self._attempts is not None:
            self._attempts.stop()

    def _relay_over(self, end: End) -> None:
        self._record(end, None if end == "completed" else end)
        self._close()

    def _wrapped_over(self, end: End) -> None:
        self._record(end, None if end == "completed" else end)
        if end == "completed":
            self._part(b"")
        else:
            self._close(reset=True)

    def _record(self, outcome: Outcome, reason: str | None) -> None:
        """Count and log what came of it, once."""
        if self._recorded:
            return
        self._recorded = True
        tally, carried, attempts = self.tally, self._carried, self._attempts
        leg = self._leg or self._planner.leg(self.arrival, self._plan, None)
        if attempts is not None:
            attempts.left()
        if carried is not None and attempts is not None:
            tally.moved(leg, *carried.moved)
            if carried.first != inf and tally.connect is not None:
                tally.first_byte = carried.first - attempts.began - tally.connect
            if isinstance(carried, Relay) and attempts.place is not None:
                attempts.place.state.closed()
        tally.record(leg, self._plan, self._plane.log, outcome, reason)

    def _close(self, *, reset: bool = False) -> None:
        """The client's socket is closed, here if it was not before; nothing of this is left."""
        plane = self._plane
        plane.deadlines.drop(self)
        if self.client.fileno() >= 0:
            plane.readiness.forget(self.client.fileno())
            close(self.client, reset=reset)
        self._carried = self._attempts = self._waiting = None
        plane.lost(self)
