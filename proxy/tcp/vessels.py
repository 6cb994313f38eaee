"""What bytes are carried in: one buffer for all that is small, and pipes for what is not.

- A pipe is taken when there is something to put in, and given back when it is empty: as many are in use as there are
  streams whose receiver is slow, however many are open. A few empty ones are kept.
- It holds 1 MiB. A user without privileges may have 63 such, so that further ones hold what the system gives (64 KiB);
  past 1,023 that is 8 KiB, which is worse than copying: then there is no pipe, and who wanted one copies.
- Pipes heed what is kept free of descriptors, as connections to providers do.
"""

import contextlib
import os
from fcntl import F_GETPIPE_SZ, F_SETPIPE_SZ, fcntl
from typing import Final

from proxy.providers.descriptors import for_providers

BUFFER: Final = 16 * 1024
"""Bytes that are copied at a time. Measured: up to here copying costs no more than moving through a pipe."""

LARGE: Final = 1024 * 1024
"""Bytes that a pipe should hold."""

LEAST: Final = 64 * 1024
"""Bytes that a pipe has to hold to be of use."""

KEPT: Final = 32
"""Empty pipes that are kept."""


class Pipe:
    """size: the bytes that it can hold at most; fewer, where they come in small pieces."""

    __slots__ = ("read", "size", "write")

    def __init__(self, read: int, write: int, size: int) -> None:
        self.read = read
        self.write = write
        self.size = size

    def close(self) -> None:
        """Close it with what is in it."""
        os.close(self.read)
        os.close(self.write)


class Vessels:
    """The plane's. buffer: for what is read and written in one go; nothing may stay in it. splices: whether pipes
    can be had at all."""

    def __init__(self, *, splices: bool = True) -> None:
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self.splices = splices
        self._empty: list[Pipe] = []

    def take(self) -> Pipe | None:
        """An empty pipe; None where only a useless one is to be had."""
        if self._empty:
            return self._empty.pop()
        return _open() if self.splices else None

    def give(self, pipe: Pipe) -> None:
        """Take back a pipe that is empty."""
        if len(self._empty) < KEPT:
            self._empty.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        """Close all that wait here."""
        while self._empty:
            self._empty.pop().close()


def _open() -> Pipe | None:
    try:
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if write < for_providers():
        with contextlib.suppress(OSError):
            return Pipe(read, write, fcntl(write, F_SETPIPE_SZ, LARGE))
        size = fcntl(write, F_GETPIPE_SZ)
        if size >= LEAST:
            return Pipe(read, write, size)
    os.close(read)
    os.close(write)
    return None
