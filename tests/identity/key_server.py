"""An issuer's key-set server, as OpenID providers have one, which can be made to fail in every way.

async with key_server(tmp_path) as issuer:
    issuer.publish(tokens.ed_jwk(kid="d"))
    source = jwt_by_url(issuer)
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from proxy.policy.subject import KeySetUrl
from tests.authority import make_authority
from tests.identity import tokens

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KeyServer:
    """fetches: the head fields of each request so far. gate: what every answer waits for."""

    def __init__(self, ca: Path | None) -> None:
        self.ca = ca
        self.port = 0
        self.content = b""
        self.fetches: list[CIMultiDict[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.answer: Answer = self._keys
        self.met: asyncio.Event = asyncio.Event()
        self._runner: web.AppRunner
        self._context: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'http' if self.ca is None else 'https'}://127.0.0.1:{self.port}/jwks.json"

    def publish(self, *keys: dict[str, Any]) -> None:
        """The set from now on."""
        self.content = tokens.key_set(*keys)

    def settings(self, **changes: Any) -> KeySetUrl:
        return KeySetUrl(**({"url": self.url, "ca": self.ca, "timeout": 2.0} | changes))

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        """Listen, at the same port as before."""
        self._context = context or self._context
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._context, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Listen no longer: whoever connects is refused."""
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.fetches.append(CIMultiDict(request.headers))
        self.met.set()
        await self.gate.wait()
        return await self.answer(request)

    async def _keys(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self.content, content_type="application/json")


@asynccontextmanager
async def key_server(folder: Path, *, tls: bool = True, names: bool = True) -> AsyncIterator[KeyServer]:
    """A server with one Ed25519 key, `d`. names: whether its certificate is for the address it has."""
    context = None
    ca: Path | None = None
    if tls:
        authority = make_authority(folder)
        issued = authority.issue(["id.example"], ["127.0.0.1"] if names else [])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        ca = authority.certificate
    server = KeyServer(ca)
    server.publish(tokens.ed_jwk(kid="d"))
    await server.start(context)
    try:
        yield server
    finally:
        server.gate.set()
        await server.stop()


async def redirected(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/elsewhere")


async def endless(request: web.Request) -> web.StreamResponse:
    """More than any key set is, and no end of it."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def silent(request: web.Request) -> web.StreamResponse:
    """A head, and then nothing."""
    response = web.StreamResponse()
    await response.prepare(request)
    await asyncio.sleep(60)
    return response


def saying(content: bytes, status: int = 200, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=content, status=status, headers=headers)

    return answer
