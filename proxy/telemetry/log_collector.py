"""The access log's one writer: takes the lines of all workers from their pipes and writes them to the log's target.

- A thread of its own, which sleeps in `poll`; the loop is never in its way, nor it in the loop's.
- Only whole lines are written. One worker's lines keep their order. What a worker that died left half is thrown away.
- What is in hand is written before more is read. So a target that takes nothing (a full disk, a reader that stopped)
  fills the pipes, then the workers' queues, and the workers drop and count: nothing here grows.
- A write that fails is tried again from where it stopped. To pipes and sockets, lines go in pieces that the kernel
  takes whole or not at all, so that two programs (an upgrade) cannot tear each other's lines; files are appended to.
"""

import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Thread

from proxy.telemetry.log_target import Target

_READ = 64 * 1024
"""Bytes read from a pipe at once: what it holds. Four times as much costs three times as much, in fresh pages."""

_RETRY = 1.0
"""Seconds between tries while writing fails."""

_log = logging.getLogger("domicile.access_log")


class LogCollector:
    """Lines from pipes to a target, which is owned and closed here."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tails: dict[int, bytes] = {}
        self._batch = b""
        self._written = 0
        self._lost = 0
        self._problem: str | None = None
        self._closing: float | None = None
        self._drained = False
        self._orders: deque[Callable[[], None]] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._pipes = select.poll()
        self._pipes.register(self._bell, select.POLLIN)
        self._thread = Thread(target=self._run, name="log-collector", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that came here and will never be written: what `close` had to leave."""
        return self._lost

    @property
    def problem(self) -> str | None:
        """Why writing fails at present, None while it does not."""
        return self._problem

    def attach(self, descriptor: int) -> None:
        """Read lines from the end of a pipe, which is owned and closed here, until nobody can write to it."""
        os.set_blocking(descriptor, False)
        self._order(partial(self._add, descriptor))

    def reopen(self) -> None:
        """Open the path anew, after rotation. If that fails, it says so and keeps the old file."""
        self._order(self._open_anew)

    def replace(self, target: Target) -> None:
        """Write to another target from now on; what is in hand goes there too."""
        self._order(partial(self._turn_to, target))

    def close(self, bound: float = 2.0) -> None:
        """Write what the pipes still hold, for at most `bound` seconds, and stop. What is left counts as dropped.

        Call it once the workers have closed theirs.
        """
        if self._closing is not None:
            return
        self._closing = time.monotonic() + bound
        os.eventfd_write(self._bell, 1)
        # Only a terminal that stopped (Ctrl-S) outlasts this.
        self._thread.join(bound + 0.5)
        if not self._thread.is_alive():
            os.close(self._bell)

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        if self._closing is None:
            os.eventfd_write(self._bell, 1)

    # -- everything below runs in the thread

    def _run(self) -> None:
        while not self._is_done():
            if self._written == len(self._batch):
                self._collect()
            else:
                self._await_room()
            self._obey()
            self._write()
        self._obey()
        self._end()

    def _is_done(self) -> bool:
        if self._closing is None:
            return False
        finished = self._drained and self._written == len(self._batch)
        return finished or self._problem is not None or time.monotonic() > self._closing

    def _obey(self) -> None:
        while self._orders:
            self._orders.popleft()()

    def _collect(self) -> None:
        closing = self._closing is not None
        ready = [descriptor for descriptor, _ in self._pipes.poll(0 if closing else None)]
        self._hear_bell(ready)
        self._batch = b"".join(map(self._read, ready))
        self._written = 0
        self._drained = closing and not self._batch

    def _hear_bell(self, ready: list[int]) -> None:
        if self._bell in ready:
            ready.remove(self._bell)
            os.eventfd_read(self._bell)

    def _read(self, descriptor: int) -> bytes:
        """The whole lines that came."""
        try:
            data = os.read(descriptor, _READ)
        except BlockingIOError:
            return b""
        if not data:
            self._remove(descriptor)
            return b""
        end = data.rfind(b"\n") + 1
        if not end:
            self._tails[descriptor] += data
            return b""
        lines = self._tails[descriptor] + data[:end]
        self._tails[descriptor] = data[end:]
        return lines

    def _add(self, descriptor: int) -> None:
        self._tails[descriptor] = b""
        self._pipes.register(descriptor, select.POLLIN)

    def _remove(self, descriptor: int) -> None:
        self._pipes.unregister(descriptor)
        del self._tails[descriptor]
        os.close(descriptor)

    def _await_room(self) -> None:
        seconds = _RETRY
        if self._closing is not None:
            seconds = min(seconds, max(0.0, self._closing - time.monotonic()))
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        if self._problem is None:
            poller.register(self._target, select.POLLOUT)
        self._hear_bell([descriptor for descriptor, _ in poller.poll(seconds * 1000)])

    def _write(self) -> None:
        view = memoryview(self._batch)
        while self._written < len(view):
            try:
                self._written += self._target.write(view[self._written : self._piece_end()])
            except BlockingIOError:
                self._recovered()
                return
            except OSError as error:
                self._failed(error)
                return
            self._recovered()

    def _piece_end(self) -> int:
        """Where what is written next ends: after as many whole lines as the target takes as one, but at least one."""
        largest, start = self._target.largest, self._written
        if largest is None or len(self._batch) - start <= largest:
            return len(self._batch)
        end = self._batch.rfind(b"\n", start, start + largest)
        return (end if end >= 0 else self._batch.index(b"\n", start + largest)) + 1

    def _failed(self, error: OSError) -> None:
        if not self._problem:
            _log.error("the access log cannot be written (%s); tried again every second", error.strerror)
        self._problem = error.strerror or "error"

    def _recovered(self) -> None:
        if self._problem:
            _log.warning("the access log is written again")
            self._problem = None

    def _open_anew(self) -> None:
        if self._target.path is None:
            return
        try:
            target = Target(self._target.path)
        except OSError as error:
            _log.error("the access log cannot be reopened (%s); the old file is kept", error.strerror)
            return
        self._turn_to(target)

    def _turn_to(self, target: Target) -> None:
        # A line that the old one holds half of is whole in the new one.
        self._written = self._line_start()
        self._target.close()
        self._target = target

    def _line_start(self) -> int:
        return self._batch.rfind(b"\n", 0, self._written) + 1

    def _end(self) -> None:
        lost = self._batch.count(b"\n", self._line_start())
        for descriptor in list(self._tails):
            lost += self._read(descriptor).count(b"\n")
        for descriptor in list(self._tails):
            self._remove(descriptor)
        self._lost = lost
        self._target.close()
