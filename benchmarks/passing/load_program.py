"""A load that costs little: it asks for so many bytes, and the kernel throws them away unread.

python -m benchmarks.passing.load_program PORT ANSWER CONNECTIONS SECONDS keep|new

Every connection has one request in flight; with `new`, each has one request in its life, and the client ends it. What
is in flight when the time is over is waited for. The last line is {"answers": .., "seconds": .., "failed": ..}.
"""

import json
import select
import socket
import sys
import time
from typing import Final

from benchmarks.passing.work import request
from benchmarks.work import MIB

_PATIENCE: Final = 10.0
"""Seconds without a byte on any connection, after which all of them have failed."""


class Load:
    """answers: those that came whole. failed: connections that ended early."""

    def __init__(self, port: int, answer: int, *, keep: bool) -> None:
        self._address = ("127.0.0.1", port)
        self._answer = answer
        self._request = request(answer)
        self._keep = keep
        self._epoll = select.epoll()
        self._connections: dict[int, socket.socket] = {}
        self._missing: dict[int, int] = {}
        self._ignored = bytearray(4 * MIB)
        self.answers = 0
        self.failed = 0

    def run(self, connections: int, seconds: float) -> None:
        """Keep so many busy for so long."""
        end = time.monotonic() + seconds
        for _ in range(connections):
            self._open()
        while self._connections:
            ready = self._epoll.poll(_PATIENCE)
            if not ready:
                self.failed += len(self._connections)
                return
            for descriptor, _ in ready:
                self._read(descriptor, end)

    def _open(self) -> None:
        try:
            connection = socket.create_connection(self._address, _PATIENCE)
            # Asked only when there is something to read; nothing waits.
            connection.settimeout(None)
            connection.send(self._request)
        except OSError:
            self.failed += 1
            return
        self._connections[connection.fileno()] = connection
        self._missing[connection.fileno()] = self._answer
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _read(self, descriptor: int, end: float) -> None:
        try:
            count = self._connections[descriptor].recv_into(self._ignored, 0, socket.MSG_TRUNC)
        except OSError:
            count = 0
        self._missing[descriptor] -= count
        if not count:
            self.failed += 1
            self._close(descriptor)
        elif not self._missing[descriptor]:
            self.answers += 1
            self._go_on(descriptor, time.monotonic() < end)

    def _go_on(self, descriptor: int, ask: bool) -> None:
        if self._keep and ask:
            self._missing[descriptor] = self._answer
            self._connections[descriptor].send(self._request)
            return
        self._close(descriptor)
        if ask:
            self._open()

    def _close(self, descriptor: int) -> None:
        del self._missing[descriptor]
        self._connections.pop(descriptor).close()


def main() -> None:
    """What the command line says."""
    port, answer, connections, seconds = (int(word) for word in sys.argv[1:5])
    load = Load(port, answer, keep=sys.argv[5] == "keep")
    start = time.monotonic()
    load.run(connections, seconds)
    print(json.dumps({"answers": load.answers, "seconds": time.monotonic() - start, "failed": load.failed}))


if __name__ == "__main__":
    main()
