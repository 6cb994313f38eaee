"""Whether a request is tried once more.

- The law first: only where the permit in force covers the provider.
- A client never gets two answers: not once anything of one was passed on.
- What may have been acted upon is not sent twice: not after a byte was sent, unless the method is idempotent and the
  body, as far as it was read, is still held from its first byte on.
- Then cost: attempts, the time that is left, and a budget, so that a provider in trouble gets at most a share of its
  traffic on top, whatever fails. A connection that could not be made was sent nothing, and does not ask.

All of it is pure but the counting; times are monotonic seconds.
"""

from math import floor
from typing import Final, Literal

from proxy.policy.balance import Retries

Hindrance = Literal["not-permitted", "answered", "sent", "body", "attempts", "time", "budget"]
"""Why a request is not tried again. sent: it is not idempotent. body: of which some is no longer held."""

WINDOW: Final = 10.0
"""Seconds of traffic that retries are a share of."""

_SLOTS: Final = 10
_SLOT: Final = WINDOW / _SLOTS


def hindrance(
    rules: Retries,
    *,
    covered: bool,
    answered: bool,
    idempotent: bool,
    sent: int,
    body_read: int,
    body_held: int,
    attempts: int,
    time_left: float,
    needed: float,
    budget_left: float,
) -> Hindrance | None:
    """What stands against one more try; None is nothing, it may be made.

    covered: the permit in force covers the provider to be tried. answered: the client has had some of an answer.
    sent: bytes of the request that were given to a provider. body_read, body_held: bytes of the body that the client
    sent so far, and how many of them, from the first on, are still held. attempts: until now. time_left: until the
    request has to be answered; needed: what the next try is expected to take.
    """
    if not covered:
        return "not-permitted"
    if answered:
        return "answered"
    if sent and not idempotent:
        return "sent"
    if sent and body_held < body_read:
        return "body"
    if attempts >= rules.attempts:
        return "attempts"
    if time_left <= needed:
        return "time"
    if budget_left < 1.0:
        return "budget"
    return None


def may_hedge(
    rules: Retries,
    *,
    covered: bool,
    answered: bool,
    reading: bool,
    body: bool,
    waited: float,
    attempts: int,
    time_left: float,
    needed: float,
    budget_left: float,
) -> bool:
    """Whether a request whose answer is late is asked at a second endpoint as well, once.

    reading: the method only reads, and asks for no upgrade. body: it has one. waited: since it was sent.
    """
    return (
        rules.hedge is not None
        and covered
        and not answered
        and reading
        and not body
        and waited >= rules.hedge
        and attempts < min(rules.attempts, 2)
        and time_left > needed
        and budget_left >= 1.0
    )


class RetryBudget:
    """Counts one provider's requests and retries, in this process.

    At each retry that `spend` grants, the retries of the last WINDOW seconds, that one among them, are at most `share`
    of the requests of the same seconds and `least` for each of them. Slots of a second make it cheap; where a slot lies
    across the window's beginning its requests are left out and its retries counted, so that the bound is kept exactly.
    """

    __slots__ = ("_floor", "_past_requests", "_past_retries", "_requests", "_retries", "_share", "_turn")

    def __init__(self, rules: Retries, now: float) -> None:
        self._share = rules.share
        self._floor = rules.least * WINDOW
        # Newest first, the present slot aside.
        self._past_requests = [0] * (_SLOTS - 1)
        self._past_retries = [0] * _SLOTS
        self._requests = 0
        self._retries = 0
        self._turn = (floor(now / _SLOT) + 1) * _SLOT

    def request(self, now: float) -> None:
        """One request, at its first try."""
        if now >= self._turn:
            self._advance(now)
        self._requests += 1

    def left(self, now: float) -> float:
        """How many retries there could be now; less than 1 is none."""
        if now >= self._turn:
            self._advance(now)
        requests = self._requests + sum(self._past_requests)
        return self._share * requests + self._floor - self._retries - sum(self._past_retries)

    def spend(self, now: float) -> bool:
        """Takes one retry from the budget, if it has one."""
        if self.left(now) < 1.0:
            return False
        self._retries += 1
        return True

    def _advance(self, now: float) -> None:
        passed = floor((now - self._turn) / _SLOT) + 1
        for _ in range(min(passed, _SLOTS + 1)):
            self._past_requests = [self._requests, *self._past_requests[:-1]]
            self._past_retries = [self._retries, *self._past_retries[:-1]]
            self._requests = self._retries = 0
        self._turn = (floor(now / _SLOT) + 1) * _SLOT
