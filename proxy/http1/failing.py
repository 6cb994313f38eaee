"""What an exchange does when a provider fails it: another try where that may be, else an answer of our own.

Whose doing it was is told to the endpoint's health: a client that left, or that is slow, says nothing of a provider.
One that ends while it waits for its client may have waited for too long, or may refuse what it is sent: any client can
bring that about, as it can ask for what is answered with a 5xx. So it counts like one.
"""

import time
from math import inf
from typing import TYPE_CHECKING

from proxy.http1 import problems
from proxy.http1.attempts import Attempts
from proxy.http1.coupled import Coupled
from proxy.http1.hedge import Hedge, hedged
from proxy.http1.leg import Leg
from proxy.http1.occupant import Wait
from proxy.http1.plan import Plan
from proxy.http1.problems import Problem
from proxy.http1.provider import CLOSED, ProviderConnection
from proxy.http1.repeat import Repeat
from proxy.http1.tally import Tally
from proxy.http1.upload import Upload
from proxy.providers.endpoint import EndpointState
from proxy.providers.window import Failure
from proxy.wire.body import Piece
from proxy.wire.response_head import ResponseHead

if TYPE_CHECKING:
    from proxy.http1.plane import HttpPlane


class Failing(Coupled):
    """The part of an exchange that meets failures."""

    # fmt: off
    __slots__ = (
        "_attempts", "_heard", "_hedge", "_held_up", "_leg", "_plan", "_plane", "_repeat", "_sent_at", "_upload",
        "tally", "withdrawn_at",
    )
    # fmt: on

    _plane: "HttpPlane"
    _plan: Plan
    _attempts: Attempts | None
    _upload: Upload | None
    _repeat: Repeat | None
    _hedge: Hedge | None
    _leg: Leg | None
    _sent_at: float
    _heard: bool
    _held_up: bool
    tally: Tally
    withdrawn_at: float

    @property
    def wants_body(self) -> bool:
        """Whether the client still owes a part of its request."""
        raise NotImplementedError

    def way(self, place: EndpointState[ProviderConnection]) -> tuple[Leg, bytes, bool]:
        """The leg to an endpoint, the head that it is sent, and whether that is a HEAD's."""
        raise NotImplementedError

    def interim(self, head: ResponseHead) -> None:
        """A 1xx other than 101."""
        raise NotImplementedError

    def upgraded(self, head: ResponseHead, rest: bytes) -> None:
        """A 101, and the bytes behind it."""
        raise NotImplementedError

    def more(self, payload: Piece, done: bool) -> None:
        """Further content."""
        raise NotImplementedError

    def response(self, head: ResponseHead, payload: Piece, done: bool) -> None:
        """A final head and the content that came with it; done: that is all of it."""
        raise NotImplementedError

    def fail(self, problem: Problem) -> None:
        """End it here: with an answer if none has begun, else by cutting the connection."""
        raise NotImplementedError

    def record(self, reason: str | None) -> None:
        """Count and log what came of the request, once; reason: a word of a fixed list, None for success."""
        raise NotImplementedError

    def _await_provider(self, now: float) -> None:
        """Wait for the rest of the request, or for the response to it, or for more of that."""
        raise NotImplementedError

    def client_paused(self) -> None:
        self._held_up = True
        super().client_paused()

    def provider_broke(self, cause: str) -> None:
        provider, attempts = self._provider, self._attempts
        self._provider = None
        now = time.monotonic()
        if attempts is None or provider is None:
            return
        failure: Failure = "truncation"
        if cause == CLOSED and (self._held_up or self.wants_body):
            failure = "error"
        if self.tally.status:
            attempts.failed(failure, now)
            self.record(cause)
            self._client.cut()
            return
        attempts.counted("broken")
        stale = provider.stale
        if self._hedge is not None and self._hedge.under_way:
            self._hedge.problem = problems.broken(cause)
            if not stale:
                attempts.failed("truncation", now)
            return
        waited = 0.0 if self.wants_body else now - self._sent_at
        self._failed(attempts, problems.broken(cause), failure, now, waited, stale)

    def _failed(
        self, attempts: Attempts, problem: Problem, failure: Failure, now: float, waited: float, stale: bool = False
    ) -> None:
        """A try came to nothing before an answer began: make another, if nothing stands against that."""
        beside = self._hedge is not None and self._hedge.provider is not None
        self._hedge_ends()
        head, place, repeat = self._plan.head, attempts.place, self._repeat
        assert head is not None
        assert place is not None
        if repeat is None:
            first = place.state
            repeat = Repeat(self._plane, attempts, first.budget, first.definition.timeouts.first_byte, int(beside))
            self._repeat = repeat
        permitted = self.withdrawn_at == inf
        granted = repeat.granted(
            head, self._upload, now, stale=stale, waited=waited, permitted=permitted, answered=self._heard
        )
        if not granted or not stale:
            attempts.failed(failure, now)
        else:
            attempts.left()
        if not granted:
            self.fail(problem)
            return
        if self._upload is not None:
            self._upload.rewind()
        attempts.failure = problem
        attempts.again(now)

    def overdue(self, now: float, wait: Wait) -> None:
        """What was waited for did not come in time."""
        attempts = self._attempts
        if wait is Wait.BODY and not self._client.reading.held:
            self.fail(problems.BODY_TOO_SLOW)
        elif wait is Wait.IDLE:
            if self._client.uptake.progressed():
                self._await_provider(now)
                return
            if (
                attempts is not None
                and self._client.writable
                and not (self.wants_body and not self._client.reading.held)
            ):
                attempts.failed("timeout", now)
            self.fail(problems.IDLE)
        elif attempts is not None and self._provider is not None:
            self._provider.abort()
            self._provider = None
            attempts.counted("timeout")
            attempts.answered(now - self._sent_at, now)
            waited = now - self._sent_at if wait is Wait.FIRST_BYTE else inf
            self._failed(attempts, problems.TOO_SLOW, "timeout", now, waited)
        else:
            # The first has failed, and the second was asked in vain.
            self.fail(problems.TOO_SLOW)

    # A second try beside the first

    def _hedge_later(self, attempts: Attempts, now: float, after: float) -> None:
        """From now on an answer is waited for: ask elsewhere too when it is late, if that may be."""
        head = self._plan.head
        if head is not None and self._hedge is None and self._repeat is None and not self._heard and hedged(head):
            self._hedge = Hedge(self._plane, self, attempts)
            self._plane.hedges.watch(self._hedge, now, after)

    def _hedge_ends(self) -> None:
        """No second is asked any more."""
        if self._hedge is not None:
            self._hedge.stop()
            self._hedge = None

    @property
    def since(self) -> float:
        """When the first was sent its request whole."""
        return self._sent_at

    def take_over(self, hedge: Hedge) -> None:
        """The second was first: it is the one in hand from now on."""
        first, attempts, second = self._provider, self._attempts, hedge.provider
        self._hedge = None
        assert attempts is not None
        assert second is not None
        assert hedge.place is not None
        assert hedge.tried is not None
        if first is not None:
            first.abort()
        attempts.won(hedge.place, hedge.tried)
        self._provider, self._leg, self._sent_at = second, hedge.leg, hedge.sent_at
        second.hand_over(self)

    def mistaken(self, error: Exception) -> None:
        """A mistake of this program was met beside the request: it ends, and the operator is told."""
        self._plane.failed(self._client, error)
