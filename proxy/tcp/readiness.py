"""Which sockets can go on: one epoll object for all of the plane's, itself watched by the loop.

- A socket is entered once and leaves by being closed. Events come when something changes (edge-triggered), so that a
  side that is not read for a while costs nothing, and an end or a reset of such a side is told all the same: the loop's
  own watching would have to be stopped and begun again, and would be blind in between.
- So who is told must go on until the kernel says that there is no more, or remember that there may be.
- An event is a hint. A descriptor may be another connection's by the time its event is looked at; what it says is
  always asked of the socket itself.

Against add_reader and add_writer of uvloop this saves a fifth of what a new connection costs.
"""

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import Final

BATCH: Final = 128
"""Events that are looked at in one turn of the loop."""

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
BROKEN: Final = select.EPOLLERR
ENDING: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
"""What says that behind the last byte there is an end, of one kind or another."""

_ALWAYS: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET

Handler = Callable[[int], None]


class Readiness:
    """Belongs to the running loop. turns: how often anybody was told anything."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._later: deque[Callable[[], None]] = deque()
        self.turns = 0
        loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, descriptor: int, handler: Handler) -> None:
        """Tell `handler` of what comes, and of an end; what is there already is told at once."""
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, _ALWAYS)

    def hand(self, descriptor: int, handler: Handler) -> None:
        """Tell another from now on."""
        self._handlers[descriptor] = handler

    def watch_room(self, descriptor: int) -> None:
        """Tell also when the socket takes bytes again; at once, where it does already."""
        self._epoll.modify(descriptor, _ALWAYS | WRITE)

    def forget(self, descriptor: int) -> None:
        """Tell no more; the socket is closed next."""
        self._handlers.pop(descriptor, None)

    def later(self, work: Callable[[], None]) -> None:
        """Do it in the next turn of the loop, after what else has become ready meanwhile."""
        if not self._later:
            self._loop.call_soon(self._go_on)
        self._later.append(work)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        handlers = self._handlers
        for descriptor, events in self._epoll.poll(0, BATCH):
            handler = handlers.get(descriptor)
            if handler is not None:
                self.turns += 1
                try:
                    handler(events)
                except Exception as error:
                    # A mistake of this program, and one connection's alone: its limits end it.
                    self._loop.call_exception_handler({"message": "a connection that is passed on", "exception": error})

    def _go_on(self) -> None:
        for _ in range(len(self._later)):
            work = self._later.popleft()
            try:
                work()
            except Exception as error:
                self._loop.call_exception_handler({"message": "a connection that is passed on", "exception": error})
        if self._later:
            self._loop.call_soon(self._go_on)
