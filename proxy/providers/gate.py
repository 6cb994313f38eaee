"""The protocol that stands on a new connection until it is verified.

It sends nothing and hands over everything: bytes that came early, an end that came early, and the transport.
"""

import asyncio
from typing import cast


class Gate(asyncio.Protocol):
    """Holds a connection closed to its later owner.

    lost: it ended before it was handed over. early: what came before; little, since reading is paused, or it is
    handed over as soon as the handshake ends.
    """

    def __init__(self) -> None:
        self.lost = False
        self._owner: asyncio.BaseProtocol | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._owner is not None:
            deliver(self._owner, data)
        else:
            self.early.append(data)

    def eof_received(self) -> bool:
        self.lost = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._owner is not None:
            self._owner.connection_lost(exc)

    def hand_over(self, transport: asyncio.Transport, owner: asyncio.BaseProtocol) -> None:
        """Makes `owner` the connection's protocol; from here on the gate is out of the way."""
        self._owner = owner
        transport.set_protocol(owner)
        owner.connection_made(transport)
        for data in self.early:
            deliver(owner, data)
        self.early.clear()
        transport.resume_reading()


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
