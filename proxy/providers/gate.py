"""The protocol that stands on a new connection until it is verified.

It sends nothing and hands over everything: bytes that came early, an end that came early, and the transport.
"""

import asyncio
from typing import cast


class Gate(asyncio.Protocol):
    """Holds a connection closed to its later owner. `lost`: it ended before it was handed over."""

    def __init__(self) -> None:
        self.lost = False
        self._transport: asyncio.Transport | None = None
        self._owner: asyncio.BaseProtocol | None = None
        # Reading is paused, but a loop may already have taken one read from the socket.
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._owner is not None:
            deliver(self._owner, data)
        else:
            self._early.append(data)

    def eof_received(self) -> bool:
        self.lost = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._owner is not None:
            self._owner.connection_lost(exc)

    def hand_over(self, owner: asyncio.BaseProtocol) -> None:
        """Makes `owner` the connection's protocol; from here on the gate is out of the way."""
        assert self._transport is not None
        self._owner = owner
        self._transport.set_protocol(owner)
        owner.connection_made(self._transport)
        for data in self._early:
            deliver(owner, data)
        self._early.clear()
        self._transport.resume_reading()


def deliver(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Gives bytes to either kind of stream protocol, as the loops do."""
    if not isinstance(protocol, asyncio.BufferedProtocol):
        cast("asyncio.Protocol", protocol).data_received(data)
        return
    view = memoryview(data)
    while view:
        buffer = memoryview(protocol.get_buffer(len(view)))
        taken = min(len(buffer), len(view))
        buffer[:taken] = view[:taken]
        protocol.buffer_updated(taken)
        view = view[taken:]
