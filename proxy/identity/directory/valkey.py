"""Homes from a Valkey or Redis server: one string a subject, as `dated` reads it.

One connection serves one look-up at a time and is only kept when its answer was read to the end: an answer that
came too late can never be taken for another subject's.
"""

import ssl
from typing import Any, Final

from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ConnectionError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from proxy.identity.directory.dated import LARGEST_RECORD, read_record
from proxy.identity.directory.reader import Entry, Fault, ReaderFailed
from proxy.policy.subject import ValkeyStore

CLOSING: Final = 1.0
"""Seconds that a connection has to close in an orderly way."""


class ValkeyReader:
    """As many connections as look-ups at once; the one used last is used first."""

    def __init__(self, store: ValkeyStore, context: ssl.SSLContext | None) -> None:
        self._prefix = store.prefix
        self._context = context
        self._settings: dict[str, Any] = {
            "host": store.host,
            "port": store.port,
            "db": store.database,
            "username": store.user,
            "password": None if store.password is None else store.password.reveal(),
            # Whoever asks keeps the time, by cancelling.
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
        }
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self._closed = False

    async def find(self, key: str, now: float) -> Entry | None:
        while not self._closed:
            connection = self._idle.pop() if self._idle else self._new()
            again = connection.is_connected
            self._used.add(connection)
            try:
                reply = await self._get(connection, self._prefix + key)
            except ConnectionError as error:
                if not again or isinstance(error, AuthenticationError | AuthorizationError | BusyLoadingError):
                    raise ReaderFailed(_fault(error)) from None
                continue  # the server had closed it meanwhile; a new one will tell
            except (RedisError, OSError, ValueError) as error:
                raise ReaderFailed(_fault(error)) from None
            finally:
                self._used.discard(connection)
            self._idle.append(connection)
            return read_record(reply, now)
        raise ReaderFailed("closed")

    async def close(self) -> None:
        self._closed = True
        for connection in (*self._idle, *self._used):
            await connection.disconnect(nowait=True)
        self._idle.clear()

    async def _get(self, connection: Connection, key: str) -> bytes:
        """Raises whatever happens, having closed the connection."""
        whole = False
        try:
            # GET has no bound on what it brings.
            await connection.send_command("GETRANGE", key, 0, LARGEST_RECORD, check_health=False)
            reply = await connection.read_response(disable_decoding=True)
            whole = isinstance(reply, bytes)
        finally:
            if not whole or self._closed:
                await connection.disconnect(nowait=True)
        if not whole:
            raise InvalidResponse
        return bytes(reply)

    def _new(self) -> Connection:
        if self._context is None:
            return Connection(**self._settings)
        connection = SSLConnection(**self._settings)
        connection.ssl_context.context = self._context
        return connection


def _fault(error: Exception) -> Fault:
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return "login"
    if isinstance(error, BusyLoadingError):
        return "busy"
    if isinstance(error, InvalidResponse):
        return "protocol"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ResponseError):
        return "query"
    return "refused" if _refused(error) else "unreachable"


def _refused(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ConnectionRefusedError):
        error = error.__cause__ or error.__context__
    return error is not None
