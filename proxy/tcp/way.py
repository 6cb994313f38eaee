"""One way of a relay: bytes from one socket to the other, moved in the kernel.

- What comes in small pieces is read into one buffer that all share, and written at once: two calls, as a pipe would
  take. A read that fills the buffer says that more is there, and from then on the bytes go socket -> pipe -> socket by
  `splice`, never into this program, until little comes at a time again. (Measured: up to 16 KiB copying costs the same
  and needs no pipe; at 64 KiB splicing costs three quarters, at 1 MiB a third.)
- A way reads only when what it read before is gone: it holds a pipe, or a rest of the buffer, only while its receiver
  takes no more, and nothing is read meanwhile. So memory is bounded by a buffer or a pipe for each slow receiver.
- It moves so much in one go at most (`MOST`), then others have their turn.
- Where the kernel cannot splice, or no pipe is to be had, everything is copied through the buffer.
"""

import contextlib
import errno
import os
import socket
from math import inf
from typing import TYPE_CHECKING, Final, Literal

from proxy.tcp.readiness import BROKEN, ENDING
from proxy.tcp.vessels import BUFFER, Pipe

if TYPE_CHECKING:
    from proxy.tcp.relay import Relay

MOST: Final = 4 * 1024 * 1024
"""Bytes that one way moves before others have their turn."""

_MOVE: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

# What splice says of a file that it does not do; nothing was moved then.
_CANNOT: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

End = Literal["completed", "reset", "client-left"]
"""How a relay ends by itself: both ways have ended, the provider's side broke, or the client's."""


class Way:
    """One way of a relay, from `source` to `sink`.

    moved: bytes that the sink has taken. first: when it took the first (the loop's seconds). ended: whether the source
    has ended, and the sink was told.
    """

    # fmt: off
    __slots__ = (
        "_blocked", "_bulky", "_ending", "_held", "_pipe", "_queued", "_readable", "_relay", "_rest", "_sink_end",
        "_source_end", "_watched", "ended", "first", "moved", "sink", "source",
    )
    # fmt: on

    def __init__(
        self, relay: "Relay", source: socket.socket, sink: socket.socket, source_end: End, sink_end: End
    ) -> None:
        self._relay = relay
        self.source = source
        self.sink = sink
        # What it comes to when one side breaks.
        self._source_end: End = source_end
        self._sink_end: End = sink_end
        self._readable = True
        self._ending = False
        self._bulky = False
        self._blocked = False
        self._watched = False
        self._queued = False
        self._rest: memoryview | None = None
        self._pipe: Pipe | None = None
        self._held = 0
        self.ended = False
        self.moved = 0
        self.first = inf

    @property
    def held(self) -> int:
        """Bytes that were read and that the sink has not taken."""
        return self._held if self._rest is None else len(self._rest)

    def readable(self, events: int) -> None:
        """The source has bytes, or an end."""
        self._readable = True
        if events & ENDING:
            self._ending = True
        if not self._blocked and not self.ended:
            self.pump()
        elif events & BROKEN and self.source.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            # Not read any more, or not now: the reset would not show otherwise.
            self._relay.end(self._source_end)

    def expect_end(self) -> None:
        """Read until there is nothing: an end may be behind it that nobody will tell of."""
        self._ending = True

    def writable(self) -> None:
        """The sink takes bytes again, or has broken."""
        if self._blocked:
            self._blocked = False
            self.pump()

    def pump(self) -> None:
        """Move what there is, as far as the sink takes it."""
        relay = self._relay
        before = self.moved
        most = before + MOST
        try:
            if not self.held or self._empty():
                while self._readable and self.moved < most:
                    if not (self._splice() if self._bulky else self._copy()):
                        break
        except _SinkBroke:
            relay.end(self._sink_end)
            return
        except OSError:
            relay.end(self._source_end)
            return
        if relay.over:
            return
        if self._pipe is not None and not self._held:
            relay.vessels.give(self._pipe)
            self._pipe = None
        if self.moved != before:
            relay.last = relay.time()
            if not before:
                self.first = relay.last
            if self.moved >= most and self._readable and not self._blocked and not self._queued:
                self._queued = True
                relay.readiness.later(self._go_on)

    def _go_on(self) -> None:
        self._queued = False
        if self._readable and not self._blocked:
            self.pump()

    # Each of these says whether to go on reading.

    def _copy(self) -> bool:
        vessels = self._relay.vessels
        try:
            count = self.source.recv_into(vessels.buffer)
        except BlockingIOError:
            self._readable = self._ending = False
            return False
        if count < BUFFER:
            if not count:
                self._end()
                return False
            # Nothing is left, unless an end was announced.
            self._readable = self._ending
        elif vessels.splices:
            self._bulky = True
        try:
            sent = self.sink.send(vessels.view[:count])
        except BlockingIOError:
            sent = 0
        except OSError:
            raise _SinkBroke from None
        self.moved += sent
        if sent == count:
            return True
        self._rest = memoryview(bytes(vessels.view[sent:count]))
        self._block()
        return False

    def _splice(self) -> bool:
        pipe = self._pipe
        if pipe is None:
            pipe = self._pipe = self._relay.vessels.take()
            if pipe is None:
                self._bulky = False
                return True
        try:
            count = os.splice(self.source.fileno(), pipe.write, pipe.size, flags=_MOVE)
        except BlockingIOError:
            self._readable = self._ending = False
            return False
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            self._relay.vessels.splices = self._bulky = False
            return True
        if not count:
            self._end()
            return False
        if count < BUFFER:
            self._bulky = False
        self._held = count
        return self._empty()

    def _empty(self) -> bool:
        """Write what was read before; whether all of it is gone."""
        try:
            if self._rest is not None:
                return self._write_rest(self._rest)
            pipe = self._pipe
            assert pipe is not None
            while self._held:
                count = os.splice(pipe.read, self.sink.fileno(), self._held, flags=_MOVE)
                self._held -= count
                self.moved += count
        except BlockingIOError:
            self._block()
            return False
        except OSError as error:
            if error.errno in _CANNOT and self._held:
                return self._unpipe()
            raise _SinkBroke from None
        return True

    def _write_rest(self, rest: memoryview) -> bool:
        sent = self.sink.send(rest)
        self.moved += sent
        self._rest = rest[sent:] if sent < len(rest) else None
        if self._rest is None:
            return True
        self._block()
        return False

    def _unpipe(self) -> bool:
        """Take the bytes out of a pipe that does not lead where they are to go."""
        assert self._pipe is not None
        self._relay.vessels.splices = self._bulky = False
        self._rest = memoryview(os.read(self._pipe.read, self._held))
        self._held = 0
        return self._empty()

    def _block(self) -> None:
        self._blocked = True
        # Entered once, when the first is blocked: most streams never are. Told at once where there is room again.
        if not self._watched:
            self._watched = True
            self._relay.readiness.watch_room(self.sink.fileno())

    def _end(self) -> None:
        """The source has ended, and all that came before is with the sink."""
        self.ended = True
        self._readable = False
        if not self._relay.both_ended():
            with contextlib.suppress(OSError):  # that the sink broke is told by the other way
                self.sink.shutdown(socket.SHUT_WR)

    def let_go(self) -> None:
        """The relay is over: give up what is held, and the relay, so that no circle is left for the collector."""
        if self._pipe is not None:
            if self._held:
                self._pipe.close()
            else:
                self._relay.vessels.give(self._pipe)
            self._pipe = None
        self._rest = None
        self._readable = False
        del self._relay


class _SinkBroke(Exception):
    """The other side than the one that was read; never leaves this module."""
