"""What an exchange does when a provider fails it: another try where that may be, else an answer of our own.

Whose doing it was is told to the endpoint's health: a client that left, or that is slow, says nothing of a provider.
"""

import time
from math import inf
from typing import TYPE_CHECKING

from proxy.http1 import problems
from proxy.http1.attempts import Attempts
from proxy.http1.coupled import Coupled
from proxy.http1.occupant import Wait
from proxy.http1.plan import Plan
from proxy.http1.problems import Problem
from proxy.http1.repeat import Repeat
from proxy.http1.tally import Tally
from proxy.http1.upload import Upload
from proxy.providers.window import Failure

if TYPE_CHECKING:
    from proxy.http1.plane import HttpPlane


class Failing(Coupled):
    """The part of an exchange that meets failures."""

    # fmt: off
    __slots__ = (
        "_attempts", "_heard", "_plan", "_plane", "_repeat", "_sent_at", "_upload", "tally", "withdrawn_at",
    )
    # fmt: on

    _plane: "HttpPlane"
    _plan: Plan
    _attempts: Attempts | None
    _upload: Upload | None
    _repeat: Repeat | None
    _sent_at: float
    _heard: bool
    tally: Tally
    withdrawn_at: float

    @property
    def wants_body(self) -> bool:
        """Whether the client still owes a part of its request."""
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

    def provider_broke(self, cause: str) -> None:
        provider, attempts = self._provider, self._attempts
        self._provider = None
        now = time.monotonic()
        if attempts is None or provider is None:
            return
        if self.tally.status:
            attempts.failed("truncation", now)
            self.record(cause)
            self._client.cut()
            return
        attempts.counted("broken")
        stale = provider.serves > 1 and not provider.heard
        waited = 0.0 if self.wants_body else now - self._sent_at
        self._failed(attempts, problems.broken(cause), "truncation", now, waited, stale)

    def _failed(
        self, attempts: Attempts, problem: Problem, failure: Failure, now: float, waited: float, stale: bool = False
    ) -> None:
        """A try came to nothing before an answer began: make another, if nothing stands against that."""
        head, place, repeat = self._plan.head, attempts.place, self._repeat
        assert head is not None
        assert place is not None
        if repeat is None:
            first = place.state
            repeat = Repeat(self._plane, attempts, first.budget, first.definition.timeouts.first_byte)
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
