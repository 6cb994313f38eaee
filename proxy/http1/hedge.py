"""Reads whose answer is late, and are asked of a second endpoint that their permit covers; the first head wins.

- One timer for all requests that wait: who began to wait first is late first.
- The other is aborted and says nothing of its endpoint, unless it failed by itself.
- Nothing but a final head of the second is passed on. Where the first failed meanwhile, the second is waited for.
- A hedge belongs to the decision that it was begun by: whatever is decided anew ends it.
"""

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from proxy.http1.attempts import Attempts
from proxy.http1.leg import Leg
from proxy.http1.problems import Problem
from proxy.http1.provider import ProviderConnection
from proxy.policy.facts import READING_METHODS
from proxy.providers.endpoint import EndpointState
from proxy.providers.failure import DialFailure
from proxy.providers.health import Try
from proxy.providers.retry_budget import may_hedge
from proxy.wire.body import Piece
from proxy.wire.request_head import RequestHead
from proxy.wire.response_head import ResponseHead

if TYPE_CHECKING:
    from proxy.http1.failing import Failing
    from proxy.http1.plane import HttpPlane


class Hedges:
    """Who waits for a first byte. after: seconds until that is late; None is never."""

    __slots__ = ("_loop", "_timer", "_waiting", "after")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        # Not a dict: finding its first entry takes as long as there are entries that were deleted before it.
        self._waiting: OrderedDict[Hedge, float] = OrderedDict()
        self.after: float | None = None

    def watch(self, hedge: "Hedge", now: float, after: float) -> None:
        """It begins to wait."""
        self._waiting[hedge] = now + after
        self._look_at(now + after, now)

    def forget(self, hedge: "Hedge") -> None:
        """It waits no longer."""
        self._waiting.pop(hedge, None)

    def _look_at(self, when: float, now: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(max(when - now, 0.0), self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._waiting:
            hedge, when = next(iter(self._waiting.items()))
            if now < when:
                self._look_at(when, now)
                return
            del self._waiting[hedge]
            hedge.begin(now)


class Hedge:
    """One read's second way, from when the first is waited for.

    problem: what the first came to; None while it is waited for. leg, sent_at, tried, place: of the second.
    """

    __slots__ = (
        "_attempts",
        "_dial",
        "_host",
        "_over",
        "_plane",
        "leg",
        "place",
        "problem",
        "provider",
        "sent_at",
        "tried",
    )

    def __init__(self, plane: "HttpPlane", host: "Failing", attempts: Attempts) -> None:
        self._plane = plane
        self._host = host
        self._attempts = attempts
        self._dial: asyncio.Task[None] | None = None
        self._over = False
        self.problem: Problem | None = None
        self.place: EndpointState[ProviderConnection] | None = None
        self.tried: Try | None = None
        self.provider: ProviderConnection | None = None
        self.leg: Leg | None = None
        self.sent_at = 0.0

    @property
    def under_way(self) -> bool:
        """Whether a second endpoint is being asked."""
        return self.tried is not None and not self._over

    def begin(self, now: float) -> None:
        """The first is late: ask a second, if one may be asked."""
        try:
            self._begin(now)
        except Exception as error:
            self._host.mistaken(error)

    def _begin(self, now: float) -> None:
        attempts, first = self._attempts, self._attempts.place
        if self._over or first is None or not attempts.decided:
            return
        budget, since = first.state.budget, self._host.since
        if not may_hedge(
            self._plane.line.policy.retries,
            covered=True,
            answered=False,
            reading=True,
            body=False,
            waited=now - since,
            attempts=1,
            time_left=since + first.state.definition.timeouts.first_byte - now,
            needed=0.0,
            budget_left=budget.left(now),
        ):
            return
        found = attempts.beside(now)
        if found is None:
            return
        budget.spend(now)
        self.place, self.tried, provider = found
        definition = self.place.state.definition
        self._plane.metrics.hedges(definition.name, definition.zone).count += 1
        if provider is not None:
            self._send(provider)
        else:
            self._dial = self._plane.loop.create_task(self._connect(self.place))

    async def _connect(self, place: EndpointState[ProviderConnection]) -> None:
        try:
            provider = await self._attempts.reach(place)
        except DialFailure as failure:
            self._dial = None
            self._plane.attempted(place, failure.kind)
            self._fell()
            return
        except Exception as error:
            self._dial = None
            self._host.mistaken(error)
            return
        self._dial = None
        try:
            if self._attempts.decided:
                self._send(provider)
            else:
                provider.abort()
                self._fell()
        except Exception as error:
            provider.abort()
            self._host.mistaken(error)

    def _send(self, provider: ProviderConnection) -> None:
        assert self.place is not None
        self.provider = provider
        self.sent_at = time.monotonic()
        self.leg, start, to_head = self._host.way(self.place)
        provider.begin(self, to_head, start)

    def _fell(self) -> None:
        """It came to nothing."""
        if self._over:
            return
        self.stop()
        if self.problem is not None:
            self._host.fail(self.problem)

    def stop(self) -> None:
        """Ask no second, or no longer."""
        if self._over:
            return
        self._over = True
        self._plane.hedges.forget(self)
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        if self.tried is not None:
            self.tried.left()
        if self.provider is not None:
            self.provider.abort()

    # What the second says

    def interim(self, head: ResponseHead) -> None:
        """Nobody is told: the first may still win."""

    def response(self, head: ResponseHead, payload: Piece, done: bool) -> None:
        self._over = True
        self._host.take_over(self)
        self._host.response(head, payload, done)

    def more(self, payload: Piece, done: bool) -> None:
        """Never: who took over is told."""

    def upgraded(self, head: ResponseHead, rest: bytes) -> None:
        self.provider_broke("provider-upgrade-unasked")

    def provider_broke(self, cause: str) -> None:
        provider, tried = self.provider, self.tried
        if self._over or provider is None or tried is None or self.place is None:
            return
        self._plane.attempted(self.place, "broken")
        if not provider.stale:
            self._attempts.failed("truncation", time.monotonic(), tried)
        self._fell()

    def provider_paused(self) -> None:
        """There is nothing more to send."""

    def provider_resumed(self) -> None:
        """There is nothing more to send."""


def hedged(head: RequestHead) -> bool:
    """Whether a request may be asked of two endpoints at once."""
    return head.method in READING_METHODS and not head.has_body and head.upgrade is None
