"""A provider that costs little: it answers twelve digits with so many bytes, and never touches them.

python -m benchmarks.passing.provider_program PORT

A request comes whole: twelve bytes that were written at once, the next one after the answer. Whoever ends, or breaks
that, is closed.
"""

import os
import select
import socket
import sys
from typing import Final

from benchmarks.passing.work import REQUEST
from benchmarks.work import KIB, MIB

_SMALL: Final = b"x" * KIB
_PIECE: Final = MIB
_BACKLOG: Final = 4096
_ENDED: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_EVENTS: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class Provider:
    """owed: bytes of answers that their receivers have not taken yet, by descriptor."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._epoll = select.epoll()
        self._epoll.register(listening.fileno(), select.EPOLLIN)
        self._connections: dict[int, socket.socket] = {}
        self._owed: dict[int, int] = {}
        self._body = os.memfd_create("body")
        os.pwrite(self._body, b"x" * _PIECE, 0)

    def serve(self) -> None:
        """Answer for ever."""
        while True:
            for descriptor, events in self._epoll.poll():
                if descriptor == self._listening.fileno():
                    self._accept()
                elif not self._goes_on(descriptor, events):
                    self._owed.pop(descriptor, None)
                    self._connections.pop(descriptor).close()

    def _accept(self) -> None:
        connection = self._listening.accept()[0]
        connection.setblocking(False)
        self._connections[connection.fileno()] = connection
        self._epoll.register(connection.fileno(), _EVENTS)

    def _goes_on(self, descriptor: int, events: int) -> bool:
        try:
            if descriptor in self._owed:
                self._send(descriptor)
            elif events & select.EPOLLIN:
                asked = os.read(descriptor, REQUEST)
                if len(asked) < REQUEST:
                    return False
                self._answer(descriptor, int(asked))
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False
        return not events & _ENDED

    def _answer(self, descriptor: int, size: int) -> None:
        if size <= len(_SMALL):
            os.write(descriptor, _SMALL[:size])
        else:
            self._owed[descriptor] = size
            self._send(descriptor)

    def _send(self, descriptor: int) -> None:
        """As much of an answer as its receiver takes."""
        while left := self._owed[descriptor]:
            begin = -left % _PIECE
            self._owed[descriptor] -= os.sendfile(descriptor, self._body, begin, min(left, _PIECE - begin))
        del self._owed[descriptor]


def main() -> None:
    """Listen on the port that the command line names."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind(("127.0.0.1", int(sys.argv[1])))
        listening.listen(_BACKLOG)
        Provider(listening).serve()


if __name__ == "__main__":
    main()
