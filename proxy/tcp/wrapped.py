"""Bytes both ways where our own TLS is on the provider's side: a plaintext client, a `tls://` endpoint.

- The client's socket is read and written as in `relay.py`; the provider's side is a transport of the loop, verified by
  the dial. Each way stops the other side's reading while its bytes are not taken.
- Of the provider's ends only close_notify is one: the client gets all, and an end. A connection that is cut without it
  is a reset for the client too. (uvloop tells the two apart: `eof_received` comes for the first alone.)
- A TLS transport cannot half-close. When the client has ended, the provider is told by close_notify once it has been
  silent for a while, so that an answer that is under way still comes.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from math import inf
from typing import Final, cast

from proxy.tcp.readiness import BROKEN, ENDING, READ, WRITE, Readiness
from proxy.tcp.vessels import Vessels
from proxy.tcp.way import End

HIGH_WATER: Final = 256 * 1024
"""Bytes that may wait to be encrypted and sent before the client is not read any more."""

SILENCE: Final = 2.0
"""Seconds without a byte from the provider after which it is told that the client has ended."""

_READS: Final = READ | ENDING


class ProviderSide(asyncio.Protocol):
    """The transport's protocol. `gone()` is called once, when the connection is no more."""

    def __init__(self, gone: Callable[[], None]) -> None:
        self._gone = gone
        self._owner: Wrapped | None = None
        self._early: list[bytes] = []
        self._early_end = False
        self.lost = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)

    def belong(self, owner: "Wrapped") -> None:
        """Tell this one from now on, and what came before it was there."""
        self._owner = owner
        for data in self._early:
            owner.from_provider(data)
        self._early.clear()
        if self._early_end:
            owner.provider_ended()
        elif self.lost:
            owner.provider_broke()

    def leave(self) -> None:
        """Tell nobody any more."""
        self._owner = None

    def abort(self) -> None:
        self._owner = None
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._owner is None:
            self._early.append(data)
        else:
            self._owner.from_provider(data)

    def eof_received(self) -> bool:
        if self._owner is None:
            self._early_end = True
        else:
            self._owner.provider_ended()
        return False

    def pause_writing(self) -> None:
        if self._owner is not None:
            self._owner.provider_full()

    def resume_writing(self) -> None:
        if self._owner is not None:
            self._owner.provider_takes()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._gone()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.provider_broke()


class Wrapped:
    """A client's socket and a provider's transport. `over_by(end)` is called once; the client's socket is open then."""

    # fmt: off
    __slots__ = (
        "_client", "_client_ended", "_ending", "_full", "_over_by", "_provider_ended", "_readable", "_readiness",
        "_rest", "_silence", "_to_client", "_to_provider", "_vessels", "_watched", "first", "last", "over", "side",
    )
    # fmt: on

    def __init__(
        self,
        readiness: Readiness,
        vessels: Vessels,
        client: socket.socket,
        side: ProviderSide,
        over_by: Callable[[End], None],
    ) -> None:
        self._readiness = readiness
        self._vessels = vessels
        self._client = client
        self.side = side
        self._over_by = over_by
        self._rest: memoryview | None = None
        self._readable = self._ending = True
        self._full = False
        self._watched = False
        self._client_ended = False
        self._provider_ended = False
        self._to_provider = 0
        self._to_client = 0
        self._silence: asyncio.TimerHandle | None = None
        self.first = inf
        self.last = time.monotonic()
        self.over = False

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes that the provider's transport, and that the client has taken."""
        return self._to_provider, self._to_client

    def begin(self) -> None:
        """Move bytes from now on. The client's socket is entered in `readiness`."""
        self._readiness.hand(self._client.fileno(), self.client_ready)
        self.side.belong(self)
        self._read_client()

    def client_ready(self, events: int) -> None:
        """Something has changed at the client's socket."""
        if events & WRITE and self._rest is not None:
            self._write_rest()
        if events & _READS and not self.over:
            self._readable = True
            self._ending = self._ending or bool(events & ENDING)
            if not self._full and not self._client_ended:
                self._read_client()
            elif events & BROKEN and self._client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._end("client-left")

    def _read_client(self) -> None:
        vessels = self._vessels
        while self._readable and not self._full and not self.over:
            try:
                count = self._client.recv_into(vessels.buffer)
            except BlockingIOError:
                self._readable = self._ending = False
                return
            except OSError:
                self._end("client-left")
                return
            if not count:
                self._readable, self._client_ended = False, True
                self._await_silence()
                return
            if count < len(vessels.buffer):
                self._readable = self._ending
            self._to_provider += count
            self.last = time.monotonic()
            self.side.transport.write(bytes(vessels.view[:count]))

    def provider_full(self) -> None:
        self._full = True

    def provider_takes(self) -> None:
        self._full = False
        self.last = time.monotonic()
        self._read_client()

    def from_provider(self, data: bytes) -> None:
        """Bytes for the client."""
        if self.over:
            return
        if self._rest is not None:  # what was on its way when reading was paused
            self._rest = memoryview(bytes(self._rest) + data)
            return
        self._rest = memoryview(data)
        self._write_rest()

    def _write_rest(self) -> None:
        rest = self._rest
        assert rest is not None
        try:
            sent = self._client.send(rest)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end("client-left")
            return
        self._sent(sent)
        if sent < len(rest):
            self._rest = rest[sent:]
            self.side.transport.pause_reading()
            if not self._watched:
                self._watched = True
                self._readiness.watch_room(self._client.fileno())
            return
        self._rest = None
        if self._provider_ended:
            self._end("completed")
        elif not self.side.lost:
            self.side.transport.resume_reading()

    def _sent(self, count: int) -> None:
        if not count:
            return
        self.last = time.monotonic()
        if not self._to_client:
            self.first = self.last
        self._to_client += count
        if self._silence is not None:
            self._await_silence()

    def provider_ended(self) -> None:
        """close_notify: the client gets what is still held, and then its end."""
        self._provider_ended = True
        if self._rest is None:
            self._end("completed")

    def provider_broke(self) -> None:
        """The connection is gone. What the client was still to get it gets, if the provider had ended."""
        if not self._provider_ended:
            self._end("completed" if self._client_ended and self._rest is None else "reset")

    def _await_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        loop = asyncio.get_running_loop()
        self._silence = loop.call_later(SILENCE, self._end_provider)

    def _end_provider(self) -> None:
        """The client has ended, and nothing more comes back: tell the provider."""
        self._silence = None
        if self._rest is not None:
            self._await_silence()
            return
        self._provider_ended = True
        self._end("completed")

    def _end(self, end: End) -> None:
        if self.over:
            return
        self._let_go()
        if end == "completed":
            self.side.transport.close()
        else:
            self.side.transport.abort()
        over_by, self._over_by = self._over_by, _nobody
        over_by(end)

    def cut(self) -> None:
        """Break the provider's side. Nobody is called; the client's socket is the caller's to close."""
        if not self.over:
            self._let_go()
            self.side.transport.abort()

    def _let_go(self) -> None:
        self.over = True
        self._rest = None
        self.side.leave()
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None


def _nobody(end: End) -> None:
    """Whom it calls that is over."""
