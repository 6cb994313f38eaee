"""What tests of the plane look at from outside: a provider that records whole requests, records and counters."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

import h11

from proxy.http1.arrival import Arrival
from tests.http1.staging import PATIENCE, Client, Conversation, Stage


@dataclass
class Recorder:
    """A provider's script that answers what h11 takes for a whole request, and keeps it.

    keep: whether connections stay. Without it each request has a conversation of its own, which ends.
    """

    body: bytes = b"recorded"
    keep: bool = False
    whole: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, conversation: Conversation) -> None:
        reader = h11.Connection(h11.SERVER)
        request, body = None, b""
        while True:
            event = reader.next_event()
            if event is h11.NEED_DATA:
                data = await conversation.read_some()
                reader.receive_data(data)
                if not data:
                    return
            elif isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                self.whole.append((bytes(request.method), bytes(request.target), body))
                self.arrived.set()
                connection = b"" if self.keep else b"Connection: close\r\n"
                content = b"" if request.method == b"HEAD" else self.body
                await conversation.say(
                    b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (connection, len(self.body), content)
                )
                if not self.keep:
                    return
                reader.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                reader.send(h11.EndOfMessage())
                reader.start_next_cycle()
            else:
                return


class KeptLog:
    """Takes the place of an access log: its lines in memory, at once."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.records: list[dict[str, object]] = []
        self._more = asyncio.Event()

    def write(self, line: bytes) -> None:
        self.lines.append(line)
        self.records.append(json.loads(line))
        self._more.set()

    async def wait(self, count: int) -> list[dict[str, object]]:
        """All records once there are so many, and what the loop still had to do has been done."""
        async with asyncio.timeout(PATIENCE):
            while len(self.lines) < count:
                self._more.clear()
                await self._more.wait()
        await turns()
        return self.records


def keep_log(stage: Stage) -> KeptLog:
    """From now on the stage's records stay in memory."""
    log = KeptLog()
    stage.plane.log = log  # type: ignore[assignment]
    return log


def requests_counted(stage: Stage) -> Counter[tuple[str, str]]:
    """domicile_requests_total as it is scraped, by (provider, status)."""
    counted: Counter[tuple[str, str]] = Counter()
    for family in stage.metrics.families():
        for sample in family.samples:
            if sample.name == "domicile_requests_total" and sample.value:
                counted[sample.labels["provider"], sample.labels["status"]] += int(sample.value)
    return counted


async def one_record(stage: Stage, log: KeptLog, count: int = 1) -> dict[str, object]:
    """The last record, after making sure of one record and one metric for each of `count` requests."""
    records = await log.wait(count)
    assert len(records) == count
    assert requests_counted(stage).total() == count
    by_class = Counter((record["provider"] or "none", _class(record["status"])) for record in records)
    assert by_class == requests_counted(stage)
    return records[-1]


def _class(status: object) -> str:
    assert isinstance(status, int)
    return f"{status // 100}xx" if status else "none"


async def turns(count: int = 20) -> None:
    """Let the loop do what it has ready."""
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def entrance(stage: Stage, peer: str | None, **arrival: object) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    """Another way into a stage's plane, for peers of another address (by default only loopback is trusted)."""
    listener = stage.plane.line.policy.listeners[0]
    came = Arrival(listener, None if peer is None else ip_address(peer), **arrival)  # type: ignore[arg-type]
    server = await asyncio.get_running_loop().create_server(lambda: stage.plane.connection(came), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def connect() -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        stage.clients.append(client)
        return client

    try:
        yield connect
    finally:
        server.close()
