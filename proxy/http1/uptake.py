"""What a client has taken of all that was written to it: whether it still takes anything."""

import asyncio
import struct
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Final

_INT: Final = struct.Struct("i")
_NO_BYTES: Final = bytes(_INT.size)


class Uptake:
    """Compares what is left to take from one look to the next."""

    __slots__ = ("_left", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._left = 0

    def watch(self) -> None:
        """From now on."""
        self._left = self._untaken()

    def unwatch(self) -> None:
        """Nothing of what was written so far counts."""
        self._left = 0

    def progressed(self) -> bool:
        """Whether the client took bytes since this was last asked, or since `watch`."""
        before, self._left = self._left, self._untaken()
        return self._left < before

    def _untaken(self) -> int:
        """Bytes that were written and that the client has not acknowledged.

        The kernel's share counts too: it may be megabytes, which a slow client takes minutes for.
        """
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return 0  # closed
        try:
            (queued,) = _INT.unpack(ioctl(sock.fileno(), TIOCOUTQ, _NO_BYTES))
        except (OSError, ValueError):
            queued = 0  # being closed
        return self._transport.get_write_buffer_size() + int(queued)
