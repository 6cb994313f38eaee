"""Keeps the dates of a policy: at each `from` and `until`, what is under way is decided again.

By the clock of the world, which is set now and then, also back: while any date is known the clock is looked at every
CLOCK seconds, and a step back decides again too, for what was withdrawn may be permitted once more and the other way
round.
"""

import asyncio
import time
from collections.abc import Callable

from proxy.policy.decide import next_change
from proxy.policy.policy import Policy
from proxy.server.journal import JOURNAL

CLOCK = 30.0
"""Seconds between looks at the clock at most."""

_BEGINNING = float("-inf")


class Dates:
    """Watches one policy at a time. `redecide()` is called when a date has come, or the clock was set back."""

    def __init__(self, redecide: Callable[[], None], clock: Callable[[], float] = time.time) -> None:
        self._redecide = redecide
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, policy: Policy) -> None:
        """Keep this policy's dates from now on, and no other's."""
        self.end()
        if next_change(policy, _BEGINNING) is not None:
            self._await(policy, self._clock())

    def end(self) -> None:
        """Keep none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _await(self, policy: Policy, now: float) -> None:
        date = next_change(policy, now)
        delay = CLOCK if date is None else min(date - now, CLOCK)
        self._timer = asyncio.get_running_loop().call_later(delay, self._look, policy, date, now)

    def _look(self, policy: Policy, date: float | None, before: float) -> None:
        now = self._clock()
        if now < before:
            JOURNAL.warning("the clock was set back: what is under way is decided again")
            self._redecide()
        elif date is not None and now >= date:
            JOURNAL.info("a date of the policy has come: what is under way is decided again")
            self._redecide()
        self._await(policy, now)
