"""A key-set server and a provider beside a proxy that is a process of its own, and requests to that."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.identity.key_server import KeyServer, key_server
from tests.running import Running

PATIENCE = 40.0


class Issuer:
    """A key-set server in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.server: KeyServer
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve(folder)])

    async def _serve(self, folder: Path) -> None:
        async with key_server(folder) as self.server:
            self._ready.set()
            await self._over.wait()

    def __enter__(self) -> KeyServer:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self.server

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE)
        self._loop.close()


class _Plain(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def provider() -> Iterator[int]:
    """A provider that answers 200; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Plain)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def ask(proxy: Running, request: bytes, listener: str = "edge") -> int:
    """The status of the answer to one request."""
    with socket.create_connection(("127.0.0.1", proxy.port(listener)), PATIENCE) as client:
        client.sendall(request)
        return int(client.makefile("rb").readline().split()[1])
