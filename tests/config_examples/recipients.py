"""Providers that write down what reaches them, down to bare connections.

    with recipient(certificate, "eu-own") as own:
        ... own.origin ...
        own.requests, own.connections

Each runs in a thread of its own, so that it answers while a test waits for something else.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from aiohttp import web

from tests.authority import Issued

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Heard:
    """One request as a provider got it. headers: names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class _Counting(socket.socket):
    """A listening socket that counts whom it lets in, before a byte is read: a handshake that fails counts too."""

    accepted = 0

    def accept(self) -> tuple[socket.socket, object]:
        pair = super().accept()
        self.accepted += 1
        return pair


class Recipient:
    """A provider. answer: what it says, by default its own name; may be replaced while it runs."""

    def __init__(self, name: str, scheme: str, listening: _Counting) -> None:
        self.name = name
        self.origin = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
        self.requests: list[Heard] = []
        self.answer: Answer = self._say_name
        self._listening = listening

    @property
    def connections(self) -> int:
        """How many connections were made to it."""
        return self._listening.accepted

    @property
    def heard(self) -> tuple[int, int]:
        """Connections and requests so far."""
        return self.connections, len(self.requests)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.content.read()  # `request.read` would stop at a megabyte
        self.requests.append(Heard(request.method, request.raw_path, headers, body))
        return await self.answer(request)  # type: ignore[arg-type]

    async def _say_name(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=self.name)


@contextlib.contextmanager
def recipient(name: str, certificate: Issued | None = None) -> Iterator[Recipient]:
    """A provider on a free port of loopback, over TLS if it is given a certificate."""
    context: ssl.SSLContext | None = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
    with _Counting() as listening:
        listening.bind(("127.0.0.1", 0))
        made = Recipient(name, "http" if context is None else "https", listening)
        loop = asyncio.new_event_loop()
        ended = asyncio.Event()
        serving = threading.Event()

        async def serve() -> None:
            runner = web.ServerRunner(web.Server(made.handle))
            await runner.setup()
            await web.SockSite(runner, listening, ssl_context=context).start()
            serving.set()
            await ended.wait()
            await runner.cleanup()

        def live() -> None:
            with contextlib.closing(loop):
                loop.run_until_complete(serve())

        thread = threading.Thread(target=live)
        thread.start()
        assert serving.wait(20)
        try:
            yield made
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join(20)
