"""Requests to the proxy over TLS, as a client somewhere in the world would make them."""

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self
from uuid import uuid4

import aiohttp

from proxy.cli.demonstration.storage import OPERATOR

_TIMEOUT = aiohttp.ClientTimeout(total=20.0)
_TO_ANSWER, _TO_ANSWER_AGAIN = 5.0, 0.5
"""Seconds to wait for raw bytes' first answer, and for more behind it: a proxy may leave a connection open for a
while after its last answer, so that the answer is not lost."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client is: a public address of an institution there."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. status: 0 if nothing did; then `body` says why. seconds: until its last byte.

    request_id: as the access log names the request: what the proxy said in its own answers, else what we sent and a
    proxy that trusts us keeps.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    request_id: str

    @property
    def operator(self) -> str | None:
        """The company that answered, by its own word; None where no provider did."""
        return self.headers.get(OPERATOR)

    def value(self) -> dict[str, Any]:
        """The body as a JSON object; empty where it is not one."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class Client:
    """Sends to the proxy at `edge` (ADDRESS:PORT), trusting one CA. Used as an asynchronous context."""

    def __init__(self, edge: str, authority: ssl.SSLContext) -> None:
        self._origin = f"https://{edge}"
        self._host, _, port = edge.rpartition(":")
        self._port = int(port)
        self._authority = authority
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._authority)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(
        self, place: Place, token: str | None, *, method: str = "GET", path: str = "/", body: bytes | None = None
    ) -> Answer:
        """One request from a place; without a token, from nobody known. Never raises for what the network does."""
        request_id = uuid4().hex
        started = time.perf_counter()
        try:
            async with self._session.request(
                method,
                self._origin + path,
                headers=_fields(place, token, request_id),
                data=None if body is None else BytesIO(body),
                allow_redirects=False,
            ) as response:
                content = await response.read()
                named = response.headers.get("X-Request-Id", request_id)
                return Answer(response.status, response.headers, content, time.perf_counter() - started, named)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Answer(0, {}, type(error).__name__.encode(), time.perf_counter() - started, request_id)

    async def send_raw(self, data: bytes) -> bytes:
        """Bytes as they are, on a connection of their own; what comes back until its end, or until no more does."""
        came = bytearray()
        writer = None
        try:
            async with asyncio.timeout(_TO_ANSWER) as patience:
                reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._authority)
                writer.write(data)
                while piece := await reader.read(65536):
                    came += piece
                    patience.reschedule(asyncio.get_running_loop().time() + _TO_ANSWER_AGAIN)
        except (OSError, TimeoutError):
            pass
        finally:
            if writer is not None:
                writer.transport.abort()
        return bytes(came)

    @property
    def host(self) -> str:
        """The Host that requests name."""
        return f"{self._host}:{self._port}"


def _fields(place: Place, token: str | None, request_id: str) -> dict[str, str]:
    fields = {"X-Forwarded-For": place.address, "X-Request-Id": request_id, "User-Agent": "domicile-demo"}
    return fields if token is None else {**fields, "Authorization": f"Bearer {token}"}
