"""Who waits for a provider that is at its cap, and how they get their turn.

- A connection that is given back goes to the first who waits. Where one is closed instead, the first may make another:
  its place under the cap is kept for it.
- A connection to another endpoint of the provider that only idles makes room: whoever joins has it closed.
- Whoever waits costs no task, and all who wait for one provider cost one timer.

The order, and who has waited for too long, are `queue`'s to say.
"""

import asyncio
import time
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from proxy.policy.balance import Queue
from proxy.providers.queue import ProviderQueue

if TYPE_CHECKING:
    from proxy.providers.endpoint import EndpointState

Ended = Literal["served", "late", "left", "refused"]
"""How waiting ends; refused: it did not begin, for too many waited."""


class Waiter(Hashable, Protocol):
    """Who waits. Hashed by identity. passing: takes no connection that served others, but makes its own."""

    passing: bool

    def served(self, place: "EndpointState[Any]", connection: Any) -> None:
        """Its turn: with a connection to that endpoint; or None, and it may make one, `its_turn=True`.

        If it does not, it calls `place.state.closed()` for the place that was kept.
        """

    def late(self) -> None:
        """It has waited for too long."""


class Waiting:
    """The queue of one provider, with its clock. ended: how many waits came to what, until somebody counts them."""

    __slots__ = ("_places", "_queue", "_timer", "ended")

    def __init__(self, rules: Queue) -> None:
        self._queue: ProviderQueue[Waiter] = ProviderQueue(rules)
        self._places: dict[Waiter, EndpointState[Any]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.ended: dict[Ended, int] = {"served": 0, "late": 0, "left": 0, "refused": 0}

    def __len__(self) -> int:
        return len(self._queue)

    def first(self, now: float) -> Waiter | None:
        """Whose turn is next; None where all who waited are late."""
        self._tell(self._queue.expired(now))
        return self._queue.first

    def join(self, place: "EndpointState[Any]", waiter: Waiter, now: float) -> bool:
        """Whether there was room to wait in, for a connection to that endpoint."""
        if not self._queue.join(waiter, now):
            self.ended["refused"] += 1
            return False
        self._places[waiter] = place
        self._watch()
        return True

    def leave(self, waiter: Waiter) -> bool:
        """Forget one that waits no longer; whether it did."""
        if not self._queue.leave(waiter):
            return False
        del self._places[waiter]
        self.ended["left"] += 1
        return True

    def next(self, now: float) -> "tuple[Waiter, EndpointState[Any]] | None":
        """Take out the one to serve, and the endpoint that it waits for; None where nobody is left."""
        waiter, late = self._queue.next(now)
        found = None
        if waiter is not None:
            self.ended["served"] += 1
            found = waiter, self._places.pop(waiter)
        self._tell(late)
        return found

    def _watch(self) -> None:
        until = self._queue.until
        if self._timer is None and until is not None:
            self._timer = asyncio.get_running_loop().call_later(max(until - time.monotonic(), 0.0), self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._tell(self._queue.expired(time.monotonic()))
        self._watch()

    def _tell(self, late: Sequence[Waiter]) -> None:
        for waiter in late:
            self.ended["late"] += 1
            del self._places[waiter]
        for waiter in late:
            waiter.late()
