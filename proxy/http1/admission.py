"""Which requests are let in: the limit of what one worker does at once, and how it learns how busy this worker is.

- What a request waits here are turns of the loop, in which all that became ready together is done one after the other:
  about one before it is let in, and one when its answer has come. So twice the length of each turn in which requests
  were let in is told to the limit, once a turn.
- A turn lets nobody in for longer than BURST, and after two that were longer than the limit's patience, for no longer
  than that: one may be a burst, or a machine that stood still, and the next what came meanwhile. From then on each is
  given half of what the last was, until one is short again: else turning away what came in a long turn would make the
  next as long. Some are let in even so: where turning away alone is more than the machine can do, nothing keeps turns
  short.
- In a storm, which is when the limit was lowered and somebody was turned away lately, a turn is held to the length
  that the limit asks for: after a longer one the next lets in for half as long, after a shorter one for a little
  longer. The limit sees a median over a tenth of a second; this is what keeps the few slowest near it.
- A request that is under way for long waits for others, or is a tunnel: it is parked, and takes no place any more.
"""

import asyncio
import time
from typing import Final

from proxy.http1.tally import Tally
from proxy.policy.balance import Concurrency
from proxy.providers.concurrency import ConcurrencyLimit

PARKED: Final = 1.0
"""Seconds after which a request that is under way takes no place any more. The sweep looks, so it may be longer."""


BURST: Final = 0.25
"""Seconds for which a turn lets in while those before it were short."""

CALM: Final = 0.002
"""Seconds. While the limit was never lowered, a turn that was no longer is followed by as much time in which none is
looked at: looking costs as much as letting in. A storm that begins meanwhile is noticed so much later."""

SHORTEST: Final = 8
"""The part of its patience, one in so many, for which each turn lets in at least. A power of two."""

GROWTH: Final = 1.1
"""Times as long as the last lets in a turn of a storm, after one that was short."""

STORM: Final = 1.0
"""Seconds that a storm lasts after somebody was turned away."""


class Admission:
    """Belongs to the running loop's thread."""

    # fmt: off
    __slots__ = (
        "_began", "_calm_until", "_let_in", "_longest", "_loop", "_overlong", "_shed", "_stirred", "_storm_until",
        "_turned", "limit",
    )
    # fmt: on

    def __init__(self, loop: asyncio.AbstractEventLoop, rules: Concurrency) -> None:
        self.limit = ConcurrencyLimit(rules, time.monotonic())
        self._loop = loop
        self._stirred = False
        self._began = 0.0
        self._calm_until = 0.0
        self._let_in = 0
        self._overlong = 0
        self._shed = 0
        self._storm_until = 0.0
        self._longest = max(BURST, self.limit.patience)
        self._turned = self._end_turn

    def enter(self, now: float) -> bool:
        """Whether one more is let in; there is one `limit.end` for each that is."""
        if not self._stirred:
            if now < self._calm_until:
                return self.limit.begin()
            self._stirred = True
            self._began = now
            self._loop.call_soon(self._turned)
        if self.limit.begin(now - self._began > self._longest):
            self._let_in += 1
            return True
        return False

    def _end_turn(self) -> None:
        """All that became ready together with the first that came in is done."""
        self._stirred = False
        let_in, self._let_in = self._let_in, 0
        limit, now = self.limit, time.monotonic()
        length = now - self._began
        if let_in:
            limit.observe(2 * length, self._began, now, let_in)
        if length <= CALM and limit.free:
            self._calm_until = now + CALM
        if limit.shed != self._shed:
            self._shed = limit.shed
            self._storm_until = now + STORM
        self._overlong = self._overlong + 1 if length > limit.patience else 0
        self._longest = self._next(length, storm=now < self._storm_until and not limit.free)

    def _next(self, length: float, *, storm: bool) -> float:
        """For how many seconds the next turn lets in, after one that took so many."""
        limit, overlong = self.limit, self._overlong
        if storm:
            if length > limit.turn:
                return max(min(self._longest, limit.turn) / 2, limit.turn / SHORTEST)
            return min(self._longest * GROWTH, limit.turn)
        if overlong < 2:
            return max(BURST, limit.patience)
        return limit.patience / min(1 << min(overlong - 2, 8), SHORTEST)

    def park(self, tally: Tally) -> None:
        """One that is under way for long takes no place any more, if it has one."""
        if tally.admitted_by is not None and not tally.parked and not tally.over:
            tally.parked = True
            tally.admitted_by.park()
