"""Homes from an HTTP service.

    GET https://accounts.example/home?subject=acct-7f3a   -> 200 {"home": "eu"}, or 404: it does not know the subject

Anything else is a failure, never an answer: redirects are not followed, cookies not kept, proxies of the environment
not used, contents not decompressed. A key that is a dot segment is known to nobody: a server could take it for
another path.
"""

import ssl
from typing import Final
from urllib.parse import quote

import aiohttp
from yarl import URL

from proxy.identity.directory.dated import LARGEST_RECORD, read_object
from proxy.identity.directory.reader import Entry, Fault, ReaderFailed
from proxy.policy.subject import HttpStore

_IDLE: Final = 15.0
"""Seconds that a connection waits for the next question; services commonly close theirs later than that."""


class HttpReader:
    """Keeps at most `connections` open."""

    def __init__(self, store: HttpStore, context: ssl.SSLContext | None, connections: int) -> None:
        self._before, _, self._after = store.url.partition("{}")
        self._headers = {name: value.reveal() for name, value in store.headers}
        self._headers.setdefault("Accept", "application/json")
        self._headers["Accept-Encoding"] = "identity"
        self._context = context
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def find(self, key: str, now: float) -> Entry | None:
        if self._closed:
            raise ReaderFailed("closed")
        if key in (".", ".."):
            return None
        url = URL(f"{self._before}{quote(key, safe='')}{self._after}", encoded=True)
        try:
            async with self._opened().get(url, allow_redirects=False) as response:
                if response.status == 404:
                    return None
                if response.status != 200:
                    raise ReaderFailed(_fault(response.status))
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise ReaderFailed("protocol")
                return read_object(await _bounded(response), now)
        except aiohttp.ClientError as error:
            raise ReaderFailed(_fault_of(error)) from None
        except (OSError, ValueError):
            raise ReaderFailed("unreachable") from None

    async def close(self) -> None:
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        session = self._session
        if session is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections,
                ssl=True if self._context is None else self._context,
                keepalive_timeout=_IDLE,
            )
            session = self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # whoever asks keeps the time
                auto_decompress=False,
                trust_env=False,
                max_line_size=LARGEST_RECORD,
                max_field_size=LARGEST_RECORD,
            )
        return session


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > LARGEST_RECORD:
            raise ReaderFailed("protocol")
    return bytes(body)


def _fault(status: int) -> Fault:
    if status in (401, 403, 407):
        return "login"
    return "busy" if status in (429, 503) else "store" if status >= 500 else "query"


def _fault_of(error: aiohttp.ClientError) -> Fault:
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError | aiohttp.ServerDisconnectedError):
        return "protocol"
    return "unreachable"
