"""A plain reverse proxy of an aiohttp server and an aiohttp client on uvloop: what Python offers ready-made.

python -m benchmarks.proxies.aiohttp_program LISTEN LISTEN_TLS PROVIDER PROVIDER_TLS AUTHORITY BOTH LOG
"""

import asyncio
import json
import ssl
import sys
import time
import uuid
from typing import Final, TextIO

import aiohttp
import uvloop
from aiohttp import web

from benchmarks.work import HOST

_NOT_FORWARDED: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)


class Proxy:
    """Forwards whatever comes to one origin, streaming both ways."""

    def __init__(self, session: aiohttp.ClientSession, scheme: str, port: int, log: TextIO) -> None:
        self._session = session
        self._scheme = scheme
        self._origin = f"{scheme}://127.0.0.1:{port}"
        self._log = log

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        started = time.monotonic()
        request_id = uuid.uuid4().hex
        peer = request.remote or "unknown"
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED]
        client = request.headers.get("X-Forwarded-For", peer)
        headers += [
            ("X-Forwarded-For", peer),
            ("X-Forwarded-Proto", self._scheme),
            ("X-Forwarded-Host", request.host),
            ("Forwarded", f"for={client};host={request.host};proto={self._scheme}"),
            ("Via", "1.1 aiohttp"),
            ("X-Request-Id", request_id),
        ]
        body = request.content if request.body_exists else None
        sent = 0
        async with self._session.request(
            request.method,
            self._origin + request.raw_path,
            headers=headers,
            data=body,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            allow_redirects=False,
            server_hostname=HOST if self._scheme == "https" else None,
        ) as answer:
            first_byte = time.monotonic()
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in _NOT_FORWARDED:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                sent += len(piece)
                await response.write(piece)
            await response.write_eof()
        self._log.write(
            json.dumps(
                {
                    "time": time.time(),
                    "request_id": request_id,
                    "listener": self._scheme,
                    "method": request.method,
                    "host": request.host,
                    "status": answer.status,
                    "reason": "",
                    "home": "elsewhere",
                    "country": "unknown",
                    "zone": "elsewhere",
                    "provider": self._origin,
                    "rules": "everyone-else",
                    "client": client,
                    "to_client": sent,
                    "duration": time.monotonic() - started,
                    "first_byte": first_byte - started,
                    "attempts": 1,
                }
            )
            + "\n"
        )
        return response


async def main(arguments: list[str]) -> None:
    listen, listen_tls, provider, provider_tls = (int(port) for port in arguments[:4])
    authority, both, path = arguments[4:]
    serve_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serve_tls.load_cert_chain(both)
    connector = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=authority), keepalive_timeout=60)
    with open(path, "a", buffering=65536, encoding="utf-8") as log:  # noqa: ASYNC230 - opened once, before serving
        async with aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as session:
            for scheme, port, origin, context in (
                ("http", listen, provider, None),
                ("https", listen_tls, provider_tls, serve_tls),
            ):
                server = web.Server(Proxy(session, scheme, origin, log).handle, access_log=None)
                await asyncio.get_running_loop().create_server(server, "127.0.0.1", port, ssl=context, backlog=4096)
            await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
