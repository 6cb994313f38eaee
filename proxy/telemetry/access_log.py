"""The access log: lines are queued by the event loop and written in batches by a thread.

- `write` never blocks, locks or makes a system call; what finds the queue full is dropped and counted.
- The writer sleeps while there is nothing to do and, once woken, lets a batch gather: waking a thread costs ten
  times what formatting a line does, so it happens once a batch.
- A write that fails (disk full, reader gone) is tried again from where it stopped; meanwhile the queue fills and
  its drops are counted. Neither a file nor a pipe ever gets half a line followed by another.
- One writer thread, one descriptor. Make it in the process that uses it: a thread does not survive a fork.
"""

import contextlib
import logging
import os
import select
import stat
import time
from collections import deque
from pathlib import Path
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
    """Lines to a file, or to standard output if `path` is None. Best effort; `dropped` says what was lost.

    Raises OSError if the file cannot be opened; a FIFO without a reader is such a file. Files are created with
    mode 0640 and appended to.
    """

    def __init__(self, path: Path | None, *, queue_lines: int = QUEUE_LINES, queue_bytes: int = QUEUE_BYTES) -> None:
        self._path = path
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
        self._reopen = False
        self._problem: str | None = None
        self._batch = b""
        self._written = 0
        self._fd = _open(path)
        self._thread = Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were given to `write` and will never be written."""
        return self._refused + self._lost

    @property
    def problem(self) -> str | None:
        """Why writing fails at present, None while it does not."""
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

    def reopen(self) -> None:
        """Have the writer open the path anew, after rotation. If that fails, it says so and keeps the old file."""
        self._reopen = True
        self._bell.put(None)

    def close(self, bound: float = 2.0) -> None:
        """Write what is queued, for at most `bound` seconds, and stop. What is left then counts as dropped."""
        if self._closing is not None:
            return
        self._queue_lines = 0
        self._closing = time.monotonic() + bound
        self._bell.put(None)
        # Only a descriptor that cannot be made non-blocking (a socket as standard output) outlasts this.
        self._thread.join(bound + 0.5)
        unfinished = self._batch.rfind(b"\n", 0, self._written) + 1
        self._lost = self._batch.count(b"\n", unfinished) + len(self._lines)

    def _run(self) -> None:
        while True:
            self._await_lines()
            if self._reopen:
                self._open_anew()
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
        if not self._lines and self._closing is None and not self._reopen:
            self._bell.get()
        self._wake_at = _BATCH_BYTES
        if self._queued - self._taken < _BATCH_BYTES and self._closing is None and not self._reopen:
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
            _log.warning("the access log is written again; %d lines were dropped so far", self.dropped)
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
            _log.error("the access log cannot be written (%s); tried again every second", error.strerror)
        self._problem = error.strerror or "error"

    def _open_anew(self) -> None:
        self._reopen = False
        if self._path is None:
            return
        try:
            descriptor = _open(self._path)
        except OSError as error:
            _log.error("the access log cannot be reopened (%s); the old file is kept", error.strerror)
            return
        # A line that the old file holds half of is whole in the new one.
        self._written = self._batch.rfind(b"\n", 0, self._written) + 1
        os.close(self._fd)
        self._fd = descriptor


def _open(path: Path | None) -> int:
    if path is not None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(path, flags, 0o640)
    if stat.S_ISFIFO(os.fstat(1).st_mode):
        # A description of our own: O_NONBLOCK on the shared one would surprise everybody else who writes there.
        with contextlib.suppress(OSError):
            return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.dup(1)
