"""Who waits for a provider that is at its cap, and how they get their turn.

- A connection that is given back goes to the first who waits. Where one is closed instead, the first may make another:
  its place under the cap is kept for it.
- A connection that only idles, to whichever endpoint of the provider, goes to who joins; or it is closed to make room.
- Whoever waits costs no task, and all who wait for one provider cost one timer.
- Each is told in a step of its own, never in the midst of what somebody else does, and one that raises keeps nobody
  from being told. Who has left is told nothing any more.

The order, and who has waited for too long, are `queue`'s to say.
"""

import asyncio
import time
from collections.abc import Hashable
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

        If it does not, it calls `place.state.closed()` for the place that was kept. Raising is for who has not begun to
        use it: a connection is closed then, a place taken back.
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

    def first(self, now: float) -> "tuple[Waiter, EndpointState[Any]] | None":
        """Whose turn is next, and the endpoint that it waits for; None where nobody waits. Tells who is late."""
        self._tell(now)
        first = self._queue.first
        return None if first is None else (first, self._places[first])

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

    def served(self) -> None:
        """The first has its turn, and waits no longer."""
        waiter = self._queue.next()
        assert waiter is not None
        del self._places[waiter]
        self.ended["served"] += 1

    def _watch(self) -> None:
        until = self._queue.until
        if self._timer is None and until is not None:
            self._timer = asyncio.get_running_loop().call_later(max(until - time.monotonic(), 0.0), self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._tell(time.monotonic())
        self._watch()

    def _tell(self, now: float) -> None:
        # One by one: what one does may make others leave, or join.
        while (waiter := self._queue.late(now)) is not None:
            del self._places[waiter]
            self.ended["late"] += 1
            try:
                waiter.late()
            except Exception as error:
                report(error)


def report(error: Exception) -> None:
    """Tell the operator of a mistake in somebody who waited."""
    asyncio.get_running_loop().call_exception_handler({"message": "who waited for a provider", "exception": error})
