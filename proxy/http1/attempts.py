"""One request's tries: the endpoints that its permit covers, one after another, until one is connected.

An idle connection is taken where there is one; else a new one is dialled. Both ask for the permit.
"""

import asyncio
import time
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol

from proxy.http1.plan import Plan, Planner, Verdict
from proxy.http1.problems import INTERNAL, UNAVAILABLE, UNREACHED, Problem
from proxy.http1.provider import ProviderConnection
from proxy.policy.decision import Permit
from proxy.providers.choice import order
from proxy.providers.endpoint import EndpointState
from proxy.providers.failure import DialFailure
from proxy.telemetry.metrics import Attempt

if TYPE_CHECKING:
    from proxy.http1.plane import HttpPlane


class Traveller(Protocol):
    """Who wants to reach a provider."""

    def dialling(self) -> None:
        """A connection is being made: nothing can be sent meanwhile."""

    def connected(self, provider: ProviderConnection) -> None:
        """A connection to `place` is there, idle."""

    def unreachable(self, problem: Problem) -> None:
        """No endpoint is left to try."""

    def redecide(self, planner: Planner, now: float, wall: float) -> None:
        """Go on by what this planner decides, by `renew`, or end."""


class Attempts:
    """place: the endpoint in hand; None before the first. count: tries so far. connect: seconds of the last dial.

    undecided: a source has to answer before it is known what is permitted now; nothing is tried until then.
    """

    # fmt: off
    __slots__ = (
        "_choices", "_dial", "_failure", "_permit", "_plane", "_planner", "_traveller", "connect", "count", "place",
        "undecided",
    )
    # fmt: on

    def __init__(
        self,
        plane: "HttpPlane",
        traveller: Traveller,
        planner: Planner,
        plan: Plan,
        permit: Permit,
        now: float,
    ) -> None:
        self._plane = plane
        self._traveller = traveller
        self._planner = planner
        self._permit = permit
        self._choices = iter(_choices(planner, plan, now))
        self._failure = UNAVAILABLE
        self._dial: asyncio.Task[None] | None = None
        self.place: EndpointState[ProviderConnection] | None = None
        self.count = 0
        self.connect: float | None = None
        self.undecided = False

    def next(self, now: float) -> None:
        """Try the next endpoint."""
        place = next(self._choices, None)
        if place is None:
            self._traveller.unreachable(self._failure)
            return
        self.count += 1
        self.place = place
        if self.count > 1:
            self._plane.retried(place)
        provider, closings = place.take(self._permit, now)
        for closing in closings:
            closing.close()
        if provider is not None:
            self._traveller.connected(provider)
        else:
            self._begin_dial(place)

    def again(self) -> None:
        """Try the endpoint in hand once more, on a connection of its own."""
        if self.place is not None and self._decided():
            self.count += 1
            self._plane.retried(self.place)
            self._begin_dial(self.place)

    def renew(self, planner: Planner, plan: Plan, permit: Permit, now: float) -> None:
        """Go on under another decision, before anything was sent."""
        self._planner = planner
        self._permit = permit
        choices = _choices(planner, plan, now)
        place = None if self._dial is None else self.place
        if place is not None and not place.state.retired and permit.covers(place.state.definition):
            self._choices = iter([choice for choice in choices if choice is not place])
            return
        self.stop()
        self._choices = iter(choices)
        self.next(now)

    def _decided(self) -> bool:
        """Whether the permit is of the line in force. If not, the request is decided anew, and goes on by that.

        A reload decides living requests a share at a time: one that is about to try a provider comes first.
        """
        if self.undecided:
            return False
        planner = self._plane.planner
        if self._planner is planner:
            return True
        self._traveller.redecide(planner, time.monotonic(), time.time())
        return False

    def answered(self, seconds: float, now: float) -> None:
        """The first byte came after so many seconds."""
        if self.place is not None:
            self.place.state.first_byte(seconds, now)

    def give(self, provider: ProviderConnection, now: float) -> None:
        """Put the connection back, which is as good as before."""
        for closing in () if self.place is None else self.place.give(provider, now):
            closing.close()

    def failed(self, result: Attempt) -> None:
        """Count what came of the try in hand."""
        if self.place is not None:
            self._plane.attempted(self.place, result)

    @property
    def idle(self) -> float:
        """Seconds without a byte after which a tunnel to the endpoint in hand ends."""
        return inf if self.place is None else self.place.state.definition.timeouts.idle

    def covered(self, verdict: Verdict) -> bool:
        """Whether the endpoint in hand may be sent this request by another decision, too."""
        place = self.place
        return place is not None and isinstance(verdict, Permit) and verdict.names(place.state.definition)

    def withdrawn(self, listener: str) -> None:
        """Count that the permit was withdrawn under way."""
        if self.place is not None:
            self._plane.metrics.withdrawn(listener, self.place.state.definition.name).count += 1

    def last(self) -> None:
        """After the endpoint in hand, try no other."""
        self._choices = iter(())

    def stop(self) -> None:
        """Try no longer."""
        self.last()
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None

    def _begin_dial(self, place: EndpointState[ProviderConnection]) -> None:
        self._traveller.dialling()
        self._dial = self._plane.loop.create_task(self._connect(place))

    async def _connect(self, place: EndpointState[ProviderConnection]) -> None:
        try:
            await self._dial_to(place)
        except Exception:
            # A mistake of this program: the request ends, and the loop's handler tells the operator.
            self._dial = None
            self._traveller.unreachable(INTERNAL)
            raise

    async def _dial_to(self, place: EndpointState[ProviderConnection]) -> None:
        started = time.monotonic()
        try:
            _, provider = await place.connect(self._permit, lambda: self._plane.provider_connection(place))
        except DialFailure as failure:
            self._dial = None
            self._failure = UNREACHED[failure.kind]
            self._plane.attempted(place, failure.kind)
            if self._decided():
                self.next(time.monotonic())
            return
        self._dial = None
        self.connect = time.monotonic() - started
        try:
            if self._decided():
                self._traveller.connected(provider)
            else:
                provider.abort()
        except Exception:
            provider.abort()
            raise


def _choices(planner: Planner, plan: Plan, now: float) -> Sequence[EndpointState[ProviderConnection]]:
    """The endpoints that the plan's permit covers, in the order in which they are tried."""
    return () if plan.preferred is None else order(plan.preferred, planner.line.fleet, plan.key, now)
