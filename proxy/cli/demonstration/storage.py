"""A storage provider: HTTPS on loopback, objects in memory, and its own count of all that reached it.

Its count is a witness: it reads each request's token itself, with the identity service's key, and trusts no
header of the proxy.
"""

import asyncio
import hashlib
import json
import socket
import ssl
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import ClientError, web

from proxy.cli.demonstration.accounts import Identity
from proxy.cli.demonstration.authority import Issued

OPERATOR = "Storage-Operator"
"""The field of every answer in which a provider says whose it is."""

NOBODY = "nobody"
"""Stands for the residence of a request without a token that verifies."""

_PIECE = 256 << 10


@dataclass(frozen=True, slots=True)
class Seen:
    """What has reached a provider since it was made: TCP connections, requests and bytes of bodies.

    residences: of the accounts whose requests these were.
    """

    connections: int
    requests: int
    received: int
    sent: int
    residences: Counter[str]


class Storage:
    """name: in the policy file. operator: the company. Off when made; its port stays its own while it is off."""

    def __init__(self, name: str, operator: str, issued: Issued, identity: Identity) -> None:
        self.name = name
        self.operator = operator
        self._identity = identity
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(issued.certificate, issued.key)
        self._objects: dict[tuple[str, str], bytes] = {}
        self._connections = self._requests = self._received = self._sent = 0
        self._residences: Counter[str] = Counter()
        # Bound and not listening: connections are refused, and nobody else can be given the port meanwhile.
        self._reservation = _bound(0)
        self.port: int = self._reservation.getsockname()[1]
        self._listening: socket.socket | None = None
        self._server: web.Server | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._shaking: set[asyncio.Task[None]] = set()

    @property
    def seen(self) -> Seen:
        return Seen(self._connections, self._requests, self._received, self._sent, Counter(self._residences))

    def switch_on(self) -> None:
        """Listen and answer."""
        self._listening = _bound(self.port)
        self._listening.listen(128)
        self._server = web.Server(self._answer, access_log=None)
        self._accepting = asyncio.create_task(self._accept(self._listening, self._server))

    async def switch_off(self) -> None:
        """Close all connections and refuse new ones."""
        tasks = [task for task in (self._accepting, *self._shaking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._accepting = None
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        if self._server is not None:
            await self._server.shutdown(0.1)
            self._server = None

    async def close(self) -> None:
        """Switch off for good."""
        await self.switch_off()
        self._reservation.close()

    async def _accept(self, listening: socket.socket, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listening)
            self._connections += 1
            task = asyncio.create_task(self._shake(sock, server))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    async def _shake(self, sock: socket.socket, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(server, sock, ssl=self._context)
        except OSError:
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self._requests += 1
        residence = self._identity.residence(request.headers)
        self._residences[residence or NOBODY] += 1
        # What one account keeps is out of another's reach.
        place = (request.headers.get("Authorization", ""), request.path)
        if request.method == "PUT":
            return await self._keep(request, place)
        stored = self._objects.get(place)
        if stored is None:
            return self._say({"served_by": self.operator, "path": request.path, "residence": residence})
        return await self._give(request, stored)

    async def _keep(self, request: web.BaseRequest, place: tuple[str, str]) -> web.StreamResponse:
        body = bytearray()
        with suppress(ClientError):
            async for piece in request.content.iter_chunked(_PIECE):
                body += piece
                self._received += len(piece)
        self._objects[place] = bytes(body)
        digest = await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())
        return self._say({"stored_by": self.operator, "bytes": len(body), "sha256": digest}, 201)

    async def _give(self, request: web.BaseRequest, stored: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={OPERATOR: self.operator, "Content-Type": "application/octet-stream"})
        response.content_length = len(stored)
        await response.prepare(request)
        for start in range(0, len(stored), _PIECE):
            piece = stored[start : start + _PIECE]
            await response.write(piece)
            self._sent += len(piece)
        await response.write_eof()
        return response

    def _say(self, value: dict[str, object], status: int = 200) -> web.Response:
        body = json.dumps(value).encode()
        self._sent += len(body)
        return web.Response(
            status=status, body=body, headers={OPERATOR: self.operator, "Content-Type": "application/json"}
        )


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Without it the port could not be bound beside its reservation.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
