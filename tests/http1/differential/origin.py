"""A provider that records what it was asked: an aiohttp server on a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True)
class Asked:
    """One request as the provider saw it. host: every Host field's value."""

    method: str
    target: str
    host: tuple[str, ...]
    body: bytes


class Origin:
    """What has been asked since it was last taken. port: on 127.0.0.1."""

    def __init__(self) -> None:
        self.port = 0
        self._asked: list[Asked] = []

    def take(self) -> list[Asked]:
        asked, self._asked = self._asked, []
        return asked

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        hosts = tuple(request.headers.getall("Host", ()))
        self._asked.append(Asked(request.method, request.raw_path, hosts, body))
        return web.Response(text="seen")


@contextmanager
def origin() -> Iterator[Origin]:
    """Serve until the block is left."""
    recorded = Origin()
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def serve() -> None:
        server = web.Server(recorded.answer, auto_decompress=False)
        runner = web.ServerRunner(server)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        recorded.port = runner.addresses[0][1]
        stopped = asyncio.Event()
        stops.append(stopped)
        ready.set()
        await stopped.wait()
        await runner.cleanup()

    stops: list[asyncio.Event] = []
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield recorded
    finally:
        loop.call_soon_threadsafe(stops[0].set)
        thread.join()
        loop.close()
