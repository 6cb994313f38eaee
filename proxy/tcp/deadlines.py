"""Who has to be looked at when: a wheel of quarter seconds, so that nobody is looked at before it is their turn."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

PERIOD = 0.25
"""Seconds between two looks: how late one can be."""


class Timed(Protocol):
    """slot: where on the wheel it is; None for nowhere."""

    slot: int | None


T = TypeVar("T", bound=Timed)


class Deadlines(Generic[T]):
    """now, when: monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._next = int(now / PERIOD)
        self._slots: dict[int, dict[T, None]] = {}

    def put(self, item: T, when: float) -> None:
        """Look at it then, and no longer when it was to be looked at."""
        slot = max(int(when / PERIOD) + 1, self._next)
        if item.slot == slot:
            return
        if item.slot is not None:
            self.drop(item)
        item.slot = slot
        there = self._slots.get(slot)
        if there is None:
            self._slots[slot] = {item: None}
        else:
            there[item] = None

    def drop(self, item: T) -> None:
        """Look at it no more."""
        if item.slot is not None:
            there = self._slots.get(item.slot)
            if there is not None:
                there.pop(item, None)
            item.slot = None

    def due(self, now: float) -> Sequence[T]:
        """Take out whose time has come."""
        found: list[T] = []
        last = int(now / PERIOD)
        while self._next <= last:
            for item in self._slots.pop(self._next, ()):
                item.slot = None
                found.append(item)
            self._next += 1
        return found
