"""The two ends of `benchmarks.overload`: a provider that takes its time, and clients that do not wait for each other.

    python -m benchmarks.overload_program provider PORT MILLISECONDS
    python -m benchmarks.overload_program load PORT RATE SECONDS CONNECTIONS

The load is open: so many requests a second come at times that no answer changes, each on a connection that is idle. A
latency counts from when its request was due, also if no connection was idle then. No two heads are alike. It prints
one line of JSON: for each status how many answers there were, and their quantiles in seconds.
"""

import asyncio
import json
import sys
import time
from collections import deque
from typing import Final, cast

import uvloop

from benchmarks.work import HEADERS

_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world"
_ENDS: Final = b"\r\n\r\n"
_FIELDS: Final = "".join(f"{name}: {value}\r\n" for name, value in HEADERS).encode() + _ENDS[2:]
_TICK: Final = 0.001


class _Provider(asyncio.Protocol):
    """Answers each head after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._loop.call_later(self._seconds, self._transport.write, _ANSWER)


class _Load:
    """seen: latencies by status. late: due times of requests that no connection was idle for."""

    def __init__(self, rate: float, seconds: float) -> None:
        self.seen: dict[str, list[float]] = {}
        self.idle: list[_Client] = []
        self.late: deque[float] = deque()
        self._loop = asyncio.get_running_loop()
        self._rate = rate
        self._seconds = seconds
        self.sent = 0
        self.over = False

    async def run(self, port: int, connections: int) -> None:
        """Until it is over."""
        for _ in range(connections):
            await self._loop.create_connection(lambda: _Client(self), "127.0.0.1", port)
        started = time.monotonic()
        while (passed := time.monotonic() - started) < self._seconds:
            due = int(passed * self._rate)
            while self.sent < due:
                self.sent += 1
                moment = started + self.sent / self._rate
                if self.idle:
                    self.idle.pop().send(moment)
                else:
                    self.late.append(moment)
            await asyncio.sleep(_TICK)
        self.over = True

    def next(self, client: "_Client") -> None:
        """A connection has had its answer."""
        if self.late:
            client.send(self.late.popleft())
        else:
            self.idle.append(client)


class _Client(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load
        self._due = 0.0
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._load.idle.append(self)

    def send(self, due: float) -> None:
        self._due = due
        self._transport.write(b"GET /12?probe=%d HTTP/1.1\r\n%b" % (self._load.sent, _FIELDS))

    def data_received(self, data: bytes) -> None:
        self._data = data = self._data + data if self._data else data
        end = data.find(_ENDS)
        if end < 0:
            return
        size = data.find(b"Content-Length: ") + 16
        if len(data) < end + 4 + int(data[size : data.index(b"\r", size)]):
            return
        self._data = b""
        if not self._load.over:
            self._load.seen.setdefault(data[9:12].decode(), []).append(time.monotonic() - self._due)
        self._load.next(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.seen.setdefault("lost", []).append(0.0)


async def _provide(port: int, seconds: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Provider(seconds), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


async def _load(port: int, rate: float, seconds: float, connections: int) -> None:
    load = _Load(rate, seconds)
    await load.run(port, connections)
    seen: dict[str, dict[str, float]] = {}
    for status, latencies in load.seen.items():
        latencies.sort()
        count = len(latencies)
        seen[status] = {"count": count, "p50": latencies[count // 2], "p99": latencies[int(count * 0.99)]}
    print(json.dumps(seen))


def main() -> None:
    """Be what the command line says."""
    kind, port, *figures = sys.argv[1:]
    if kind == "provider":
        uvloop.run(_provide(int(port), float(figures[0]) / 1000))
    else:
        rate, seconds, connections = figures
        uvloop.run(_load(int(port), float(rate), float(seconds), int(connections)))


if __name__ == "__main__":
    main()
