"""Who waits for a provider that is at its connection cap.

A full provider is full and not failed: no mark is set on it, nobody is sent elsewhere because of it, and whoever finds
no place here, or waits too long, gets a 503. First come, first served: who comes while others wait joins behind
them, even if a connection is free just then.

Sans I/O: the caller serves, answers and keeps the clock; `now` is monotonic seconds. Everything is O(1), but for the
late, each of whom is looked at once.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from proxy.policy.balance import Queue

W = TypeVar("W", bound=Hashable)


class ProviderQueue(Generic[W]):
    """The waiting, in the order in which they came. One is at most once in it."""

    __slots__ = ("_longest", "_most", "_waiting")

    def __init__(self, rules: Queue) -> None:
        self._most = rules.most
        self._longest = rules.longest
        # Not a dict: finding its first entry takes as long as there are entries that were deleted before it.
        self._waiting: OrderedDict[W, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> W | None:
        """Whose turn is next; perhaps late already."""
        return next(iter(self._waiting), None)

    @property
    def until(self) -> float | None:
        """When the first of them will have waited for too long; None while nobody waits."""
        return next(iter(self._waiting.values()), None)

    def join(self, waiter: W, now: float) -> bool:
        """Whether there was a place; then it waits until `next` or `late` gives it, or it leaves."""
        if len(self._waiting) >= self._most:
            return False
        assert waiter not in self._waiting
        self._waiting[waiter] = now + self._longest
        return True

    def leave(self, waiter: W) -> bool:
        """Forgets one that will wait no longer; whether it was here."""
        return self._waiting.pop(waiter, None) is not None

    def next(self) -> W | None:
        """Takes out the one to serve, now that there is a connection. Those who are late are taken out before."""
        return self._waiting.popitem(last=False)[0] if self._waiting else None

    def late(self, now: float) -> W | None:
        """Takes out one that has waited for too long; None where nobody has."""
        for waiter, until in self._waiting.items():
            if now < until:
                break
            del self._waiting[waiter]
            return waiter
        return None
