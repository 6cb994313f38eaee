"""One request's tries: the endpoints that its permit covers, one after another, until one is connected.

An idle connection is taken where there is one; else a new one is dialled. Both ask for the permit.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from proxy.http1.plan import Planner
from proxy.http1.provider import ProviderConnection
from proxy.policy.decision import Permit
from proxy.providers.failure import DialFailure
from proxy.providers.fleet import EndpointState

if TYPE_CHECKING:
    from proxy.http1.plane import HttpPlane

# What a failed dial comes to when no other permitted endpoint is left: (status, cause).
_FAILURES: Final = {
    "refused": (502, "provider-refused"),
    "tls": (502, "provider-tls"),
    "timeout": (504, "provider-connect-timeout"),
    "name": (503, "provider-name"),
    "outside": (502, "provider-address-refused"),
    "full": (503, "provider-full"),
    "local": (503, "overload"),
}


class Traveller(Protocol):
    """Who wants to reach a provider."""

    def dialling(self) -> None:
        """A connection is being made: nothing can be sent meanwhile."""

    def connected(self, provider: ProviderConnection) -> None:
        """A connection to `place` is there, idle."""

    def unreachable(self, status: int, cause: str) -> None:
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
        permit: Permit,
        choices: Sequence[EndpointState[ProviderConnection]],
    ) -> None:
        self._plane = plane
        self._traveller = traveller
        self._planner = planner
        self._permit = permit
        self._choices = iter(choices)
        self._failure = (503, "unavailable")
        self._dial: asyncio.Task[None] | None = None
        self.place: EndpointState[ProviderConnection] | None = None
        self.count = 0
        self.connect: float | None = None
        self.undecided = False

    def next(self, now: float) -> None:
        """Try the next endpoint."""
        place = next(self._choices, None)
        if place is None:
            self._traveller.unreachable(*self._failure)
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

    def renew(
        self, planner: Planner, permit: Permit, choices: Sequence[EndpointState[ProviderConnection]], now: float
    ) -> None:
        """Go on under another decision, before anything was sent."""
        self._planner = planner
        self._permit = permit
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
            self._traveller.unreachable(500, "internal")
            raise

    async def _dial_to(self, place: EndpointState[ProviderConnection]) -> None:
        started = time.monotonic()
        try:
            _, provider = await place.connect(self._permit, lambda: self._plane.provider_connection(place))
        except DialFailure as failure:
            self._dial = None
            self._failure = _FAILURES[failure.kind]
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
