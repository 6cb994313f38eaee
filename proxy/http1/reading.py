"""Whether a client is read: it is not while there is a reason, and there may be several at once."""

import asyncio
from typing import Final

PIPELINED: Final = 1
"""Enough waits behind the request in hand."""

PROVIDER: Final = 2
"""The provider does not take what it was sent, or is not there yet."""

SLICED: Final = 4
"""What came last is looked through a slice at a time."""


class Reading:
    """held: the reasons why it is paused, so that neither FIN nor RST would be noticed; 0 while it is not."""

    __slots__ = ("_transport", "held")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.held = 0

    def hold(self, reason: int) -> None:
        """Read no more while this reason lasts."""
        if not self.held and not self._transport.is_closing():
            self._transport.pause_reading()
        self.held |= reason

    def unhold(self, reason: int) -> None:
        """This reason is gone."""
        if self.held & reason:
            self.held &= ~reason
            if not self.held and not self._transport.is_closing():
                self._transport.resume_reading()

    def resume(self) -> None:
        """No reason counts any more."""
        self.unhold(self.held)

    def forget(self) -> None:
        """Nothing is read any more in any case."""
        self.held = 0
