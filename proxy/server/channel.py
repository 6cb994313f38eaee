"""Messages between the processes of one program, with open descriptors where they go along.

A frame is its length, the number of its descriptors, then its bytes. Descriptors travel with a frame's first byte
(SCM_RIGHTS), in order, so they are here before the frame is whole. Nothing blocks: what the socket does not take
waits in order. What is said here is said by our own processes, over a socket pair or to a peer that was checked.
"""

import array
import os
import socket
import struct
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Sequence

LARGEST = 64 * 1024 * 1024
"""Bytes of a frame at most; a policy of five thousand rules takes some two million."""

MOST_DESCRIPTORS = 200
"""Descriptors of one frame at most; the kernel takes 253 (SCM_MAX_FD)."""

_HEADER = struct.Struct("!IH")
_AT_ONCE = 256 * 1024


class Channel:
    """One end. `heard(frame, descriptors)` gets each frame, and owns the descriptors; `ended()` is called once.

    ended: the other end is gone, or broke the framing. Not called after `close`.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        sock: socket.socket,
        heard: Callable[[bytes, list[int]], None],
        ended: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._heard = heard
        self._ended = ended
        self._in = bytearray()
        self._descriptors: deque[int] = deque()
        self._out: deque[tuple[memoryview, list[int]]] = deque()
        self._open = True
        sock.setblocking(False)
        loop.add_reader(sock, self._read)

    @property
    def waiting(self) -> bool:
        """Whether anything that was sent has not left yet."""
        return bool(self._out)

    def send(self, frame: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a frame; the descriptors stay the caller's, to close at once if it likes. Nothing once it ended."""
        assert len(frame) <= LARGEST
        assert len(descriptors) <= MOST_DESCRIPTORS
        if not self._open:
            return
        data = memoryview(_HEADER.pack(len(frame), len(descriptors)) + frame)
        self._out.append((data, [os.dup(each) for each in descriptors]))
        if len(self._out) == 1:
            self._write()

    def close(self) -> None:
        """End it; what waits is not sent."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        for descriptor in (*self._descriptors, *(each for _, many in self._out for each in many)):
            os.close(descriptor)
        self._descriptors.clear()
        self._out.clear()
        self._sock.close()

    def _end(self) -> None:
        self.close()
        self._ended()

    def _write(self) -> None:
        while self._out:
            data, descriptors = self._out[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            try:
                sent = self._sock.sendmsg((data,), rights)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock, self._write)
                return
            except OSError:
                # Told by the reader, which first takes in what the other end still said.
                self._out.popleft()
                _close(descriptors)
                continue
            _close(descriptors)
            if sent == len(data):
                self._out.popleft()
            else:
                self._out[0] = data[sent:], []
        self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        try:
            data, rights, _, _ = self._sock.recvmsg(
                _AT_ONCE, socket.CMSG_SPACE(MOST_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end()
            return
        for level, kind, content in rights:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self._descriptors += found
        if not data:
            self._end()
            return
        self._in += data
        self._take_frames()

    def _take_frames(self) -> None:
        while self._open and len(self._in) >= _HEADER.size:
            length, many = _HEADER.unpack_from(self._in)
            if length > LARGEST or many > len(self._descriptors):
                self._end()
                return
            end = _HEADER.size + length
            if len(self._in) < end:
                return
            frame = bytes(self._in[_HEADER.size : end])
            del self._in[:end]
            self._heard(frame, [self._descriptors.popleft() for _ in range(many)])


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
