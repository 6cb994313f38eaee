"""One request's tries: the endpoints that its permit covers, one after another, until one is connected.

- An idle connection is taken where there is one; else a new one is dialled. Both ask for the permit.
- A provider at its connection cap is passed over while another that is permitted takes the request. Where none does,
  the request waits for the first of those that are full.
- What each try came to is told to its endpoint's health, once.
"""

import asyncio
import time
from collections.abc import Iterator
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Protocol

from proxy.http1.plan import Plan, Planner, Verdict
from proxy.http1.problems import FULL, INTERNAL, UNAVAILABLE, UNREACHED, Problem
from proxy.http1.provider import ProviderConnection
from proxy.policy.decision import Permit
from proxy.providers.choice import order
from proxy.providers.endpoint import EndpointState
from proxy.providers.failure import DialFailure
from proxy.providers.health import Try
from proxy.providers.window import Failure
from proxy.telemetry.metrics import Attempt

if TYPE_CHECKING:
    from proxy.http1.plane import HttpPlane


class Traveller(Protocol):
    """Who wants to reach a provider."""

    def dialling(self) -> None:
        """A connection is being made, or waited for: nothing can be sent meanwhile."""

    def connected(self, provider: ProviderConnection) -> None:
        """A connection to `place` is there, idle."""

    def unreachable(self, problem: Problem) -> None:
        """No endpoint is left to try."""

    def redecide(self, planner: Planner, now: float, wall: float) -> None:
        """Go on by what this planner decides, by `renew`, or end."""


class Attempts:
    """place, tried: the endpoint in hand and the try there; None before the first. count: tries so far.

    connect: seconds of the last dial.
    failure: what the request comes to if nobody else can be tried.
    undecided: a source has to answer before it is known what is permitted now; nothing is tried until then.
    """

    # fmt: off
    __slots__ = (
        "_choices", "_dial", "_failed", "_fresh", "_full", "_permit", "_plane", "_planner", "_queued", "_traveller",
        "_turn", "connect", "count", "failure", "place", "tried", "undecided",
    )
    # fmt: on

    passing = False

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
        self._choices = _choices(planner, plan, now)
        self.tried: Try | None = None
        self._failed: Try | None = None  # the last that did
        self._dial: asyncio.Task[None] | None = None
        self._queued: EndpointState[ProviderConnection] | None = None
        self._turn: EndpointState[ProviderConnection] | None = None
        self._full: EndpointState[ProviderConnection] | None = None
        self._fresh: EndpointState[ProviderConnection] | None = None
        self.failure = UNAVAILABLE
        self.place: EndpointState[ProviderConnection] | None = None
        self.count = 0
        self.connect: float | None = None
        self.undecided = False

    def next(self, now: float) -> None:
        """Try the next endpoint that takes it."""
        fresh, self._fresh = self._fresh, None
        for place in self._choices:
            tried = place.begin(now)
            if tried is None:
                continue
            provider = None
            if place is not fresh:
                provider, closings = place.take(self._permit, now)
                for closing in closings:
                    closing.close()
            if provider is not None:
                self.place = place
                self.tried = tried
                self.count += 1
                if self.count > 1:
                    self._plane.retried(place)
                self._traveller.connected(provider)
                return
            if place.state.waiting is None or not place.state.full:
                self._begin(place, tried)
                self._begin_dial(place)
                return
            tried.left()
            self._full = self._full or place
        full, self._full = self._full, None
        if full is not None:
            self._wait(full, now)
        else:
            self._traveller.unreachable(self.failure)

    def _begin(self, place: EndpointState[ProviderConnection], tried: Try) -> None:
        self.place = place
        self.tried = tried
        self.count += 1
        if self.count > 1:
            self._plane.retried(place)

    def following(self, same: bool) -> EndpointState[ProviderConnection] | None:
        """Where the next try would go; it stays the next. same: to the endpoint in hand, on a new connection."""
        place = self.place if same and self.place is not None and not self.place.state.retired else None
        self._fresh = place
        place = place or next(self._choices, None)
        if place is None:
            return self._full
        self._choices = chain((place,), self._choices)
        return place

    def again(self, now: float) -> None:
        """Try the endpoint that `following` named, or whom the decision in force has instead."""
        self._traveller.dialling()
        if self._decided():
            self.next(now)

    # Beside the one in hand

    def beside(self, now: float) -> tuple[EndpointState[ProviderConnection], Try, ProviderConnection | None] | None:
        """A second endpoint for the same request, a try that is begun there, and an idle connection or None."""
        for place in self._choices:
            tried = place.begin(now)
            if tried is None:
                continue
            provider, closings = place.take(self._permit, now)
            for closing in closings:
                closing.close()
            if provider is None and place.state.full:
                tried.left()
                continue
            self.count += 1
            self._plane.retried(place)
            return place, tried, provider
        return None

    def won(self, place: EndpointState[ProviderConnection], tried: Try) -> None:
        """The second answered first, and is the one in hand from now on."""
        self.left()
        self.place = place
        self.tried = tried

    async def reach(self, place: EndpointState[ProviderConnection], *, its_turn: bool = False) -> ProviderConnection:
        """A new connection, by the permit in hand. Raises DialFailure."""
        _, provider = await place.connect(
            self._permit, lambda: self._plane.provider_connection(place), its_turn=its_turn
        )
        return provider

    @property
    def decided(self) -> bool:
        """Whether the permit in hand is of the line in force."""
        return not self.undecided and self._planner is self._plane.planner

    def renew(self, planner: Planner, plan: Plan, permit: Permit, now: float) -> None:
        """Go on under another decision, while nothing is under way at a provider."""
        self._planner = planner
        self._permit = permit
        choices = _choices(planner, plan, now)
        place = self.place if self._dial is not None else self._queued
        if place is not None and not place.state.retired and permit.covers(place.state.definition):
            self._choices = iter([choice for choice in choices if choice is not place])
            return
        self.stop()
        self.left()
        self._choices = choices
        self.next(now)

    def _decided(self) -> bool:
        """Whether the permit is of the line in force. If not, the request is decided anew, and goes on by that.

        A reload decides living requests a share at a time: one that is about to try a provider comes first.
        """
        if not self.decided and not self.undecided:
            self._traveller.redecide(self._plane.planner, time.monotonic(), time.time())
            return False
        return self.decided

    # What became of the one in hand

    def answered(self, seconds: float, now: float) -> None:
        """The first byte came after so many seconds, or was waited for that long."""
        if self.place is not None and self.tried is not None:
            self.place.state.first_byte(seconds, now)
            self.tried.answered(seconds, now)

    def failed(self, failure: Failure, now: float, beside: Try | None = None) -> None:
        """It failed, and that is the endpoint's doing. beside: not that one, but this, begun beside it."""
        tried = beside or self.tried
        if tried is not None:
            tried.failed(failure, now, self._failed)
            self._failed = tried

    def left(self) -> None:
        """It is over, and nothing is to be learnt of that."""
        if self.tried is not None:
            self.tried.left()

    def give(self, provider: ProviderConnection, now: float) -> None:
        """Put the connection back, which is as good as before."""
        for closing in () if self.place is None else self.place.give(provider, now):
            closing.close()

    def counted(self, result: Attempt) -> None:
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

    def last(self) -> None:
        """After the endpoint in hand, try no other."""
        self._choices = iter(())
        self._full = None

    def stop(self) -> None:
        """Try no longer. What is under way at a provider is not touched."""
        self.last()
        if self._queued is not None:
            self._queued.leave(self)
            self._queued = None
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
            self.left()
            if self._turn is not None:
                # A task that never ran was counted, and can take nothing back.
                self._turn.state.closed()
                self._turn = None

    # Waiting for a provider that is full

    def _wait(self, place: EndpointState[ProviderConnection], now: float) -> None:
        self.place = self._queued = place
        self.tried = None
        self._traveller.dialling()
        if not place.wait(self._permit, self, now):
            self.late()

    def served(self, place: EndpointState[ProviderConnection], connection: ProviderConnection | None) -> None:
        """Its turn has come: with a connection, or with a place under the cap for one."""
        self._queued = None
        try:
            self._take_turn(place, connection, time.monotonic())
        except Exception:
            # A mistake of this program: the request ends, what it was given is taken back, and the operator is told.
            self._traveller.unreachable(INTERNAL)
            raise

    def _take_turn(
        self, place: EndpointState[ProviderConnection], connection: ProviderConnection | None, now: float
    ) -> None:
        decided = self._decided()
        tried = place.begin(now) if decided else None
        if tried is not None:
            self._begin(place, tried)
            if connection is not None:
                self._traveller.connected(connection)
            else:
                self._begin_dial(place, its_turn=True)
            return
        if connection is not None:
            connection.close()
        else:
            place.state.closed()
        if decided:
            self.next(now)

    def late(self) -> None:
        """It has waited for too long, or too many did."""
        self._queued = None
        try:
            self._traveller.unreachable(FULL)
        except Exception:
            self._traveller.unreachable(INTERNAL)  # as in `served`
            raise

    def _begin_dial(self, place: EndpointState[ProviderConnection], *, its_turn: bool = False) -> None:
        self._traveller.dialling()
        self._turn = place if its_turn else None
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
        its_turn = self._turn is not None
        self._turn = None
        try:
            provider = await self.reach(place, its_turn=its_turn)
        except DialFailure as failure:
            self._dial = None
            self.failure = UNREACHED[failure.kind]
            self._plane.attempted(place, failure.kind)
            self.left()
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


def _choices(planner: Planner, plan: Plan, now: float) -> Iterator[EndpointState[ProviderConnection]]:
    """The endpoints that the plan's permit covers, in the order in which they are tried."""
    return iter(() if plan.preferred is None else order(plan.preferred, planner.line.fleet, plan.key, now))
