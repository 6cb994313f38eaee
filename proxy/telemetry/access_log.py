"""A worker's side of the access log: lines are queued by the event loop and written to a pipe by a thread.

- `write` never blocks, locks or makes a system call; what finds the queue full is dropped and counted.
- The writer sleeps while there is nothing to do and, once woken, lets a batch gather: waking a thread costs ten
  times what formatting a line does, so it happens once a batch.
- A pipe that takes nothing, because the log cannot be written at its other end (log_collector.py), fills the queue,
  and its drops are counted. A write goes on where it stopped: lines are never torn.
- One writer thread, one descriptor. Make it in the process that uses it: a thread does not survive a fork.
"""

import contextlib
import logging
import os
import select
import time
from collections import deque
from queue import Empty, SimpleQueue
from threading import Thread

QUEUE_LINES = 65_536
QUEUE_BYTES = 32 * 1024 * 1024
"""The most that waits for the writer: over a second at 50,000 requests a second. A batch in hand comes on top."""

_BATCH_LINES = 1024
_BATCH_BYTES = 256 * 1024
"""How much is queued when the writer is woken early, so that a busy proxy writes before its queue is long."""

_GATHER = 0.1
"""Seconds for which a line may wait for company."""

_RETRY = 1.0
"""Seconds between tries while writing fails."""

_NEVER = QUEUE_BYTES + 1

_log = logging.getLogger("domicile.access_log")


class AccessLog:
    """Lines to a descriptor, which is owned and closed here: best effort; `dropped` says what was lost."""

    def __init__(self, descriptor: int, *, queue_lines: int = QUEUE_LINES, queue_bytes: int = QUEUE_BYTES) -> None:
        os.set_blocking(descriptor, False)
        self._fd = descriptor
        self._queue_lines = queue_lines
        self._queue_bytes = queue_bytes
        self._lines: deque[bytes] = deque()
        # Each number has one writing thread: the loop counts what it queued, the writer what it took.
        self._queued = 0
        self._taken = 0
        self._refused = 0
        self._lost = 0
        self._wake_at = 1
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._closing: float | None = None
        self._problem: str | None = None
        self._batch = b""
        self._written = 0
        self._thread = Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were given to `write` and will never be written."""
        return self._refused + self._lost

    @property
    def problem(self) -> str | None:
        """Why lines cannot leave this process at present, None while they can."""
        return self._problem

    def write(self, line: bytes) -> None:
        """Queue one whole line, newline included. Called by the event loop's thread alone."""
        waiting = self._queued - self._taken + len(line)
        if waiting > self._queue_bytes or len(self._lines) >= self._queue_lines:
            self._refused += 1
            return
        self._lines.append(line)
        self._queued += len(line)
        if waiting >= self._wake_at:
            self._wake_at = _NEVER
            self._bell.put(None)

    def close(self, bound: float = 2.0) -> None:
        """Write what is queued, for at most `bound` seconds, and stop. What is left then counts as dropped."""
        if self._closing is not None:
            return
        self._queue_lines = 0
        self._closing = time.monotonic() + bound
        self._bell.put(None)
        self._thread.join(bound + 0.5)
        unfinished = self._batch.rfind(b"\n", 0, self._written) + 1
        self._lost = self._batch.count(b"\n", unfinished) + len(self._lines)

    def _run(self) -> None:
        while True:
            self._await_lines()
            if self._written == len(self._batch):
                self._take()
            self._write_batch()
            if self._closing is not None and (self._is_idle() or self._problem or time.monotonic() > self._closing):
                os.close(self._fd)
                return

    def _is_idle(self) -> bool:
        return not self._lines and self._written == len(self._batch)

    def _await_lines(self) -> None:
        if self._problem:
            self._hear(_RETRY)
            return
        if self._written < len(self._batch):
            return
        self._wake_at = 1
        if not self._lines and self._closing is None:
            self._bell.get()
        self._wake_at = _BATCH_BYTES
        if self._queued - self._taken < _BATCH_BYTES and self._closing is None:
            self._hear(_GATHER)
        self._wake_at = _NEVER

    def _hear(self, seconds: float) -> None:
        with contextlib.suppress(Empty):
            self._bell.get(timeout=seconds)

    def _take(self) -> None:
        lines = self._lines
        self._batch = b"".join([lines.popleft() for _ in range(min(len(lines), _BATCH_LINES))])
        self._written = 0
        self._taken += len(self._batch)

    def _write_batch(self) -> None:
        while self._written < len(self._batch):
            try:
                self._written += os.write(self._fd, memoryview(self._batch)[self._written :])
            except BlockingIOError:
                self._recovered()
                self._await_room()
                return
            except OSError as error:
                self._failed(error)
                return
            self._recovered()

    def _recovered(self) -> None:
        if self._problem:
            _log.warning("access-log lines leave this process again; %d were dropped so far", self.dropped)
            self._problem = None

    def _await_room(self) -> None:
        seconds = _GATHER
        if self._closing is not None:
            seconds = min(seconds, max(0.0, self._closing - time.monotonic()))
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        poller.poll(seconds * 1000)

    def _failed(self, error: OSError) -> None:
        if not self._problem:
            _log.error("access-log lines cannot leave this process (%s); tried again every second", error.strerror)
        self._problem = error.strerror or "error"
