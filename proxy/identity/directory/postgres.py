"""Homes from a PostgreSQL database, by one query that can change nothing.

The query is given the key as $1 and, if it wants it, the time as $2 (seconds since the epoch). It returns at most
one row: `home`, and perhaps `until`, when a change that is dated ahead takes effect (seconds, or a timestamptz). More
than one row is a mistake, for nobody could say which of two homes is right.
"""

import asyncio
import re
import ssl
from datetime import datetime
from math import isfinite
from typing import Any, Final

import asyncpg

from proxy.identity.directory.dated import checked_home
from proxy.identity.directory.reader import Entry, Fault, ReaderFailed
from proxy.policy.subject import PostgresStore

DEFAULT_QUERY: Final = """
SELECT
  (SELECT home FROM domicile_homes WHERE subject = $1 AND effective <= to_timestamp($2)
    ORDER BY effective DESC LIMIT 1) AS home,
  (SELECT min(effective) FROM domicile_homes WHERE subject = $1 AND effective > to_timestamp($2)) AS until
"""

_IDLE: Final = 300.0
"""Seconds after which a connection that nobody needs is closed."""


# What a connection that is gone makes of a query.
_LOST = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    ConnectionResetError,
)


class _Connection(asyncpg.Connection):
    def get_reset_query(self) -> str:
        """Nothing that the one query could leave behind; resetting would be another round trip."""
        return ""


class PostgresReader:
    """A pool that connects when it is asked. timeout: the server's own limit for the query, in seconds."""

    def __init__(self, store: PostgresStore, context: ssl.SSLContext | None, timeout: float) -> None:
        query = DEFAULT_QUERY if store.query is None else store.query
        self._query = f"SELECT * FROM (\n{query}\n) AS found LIMIT 2"  # noqa: S608 - the operator's own query
        self._wants_time = re.search(r"\$2(?![0-9])", query) is not None
        self._store = store
        self._context = context
        self._timeout = timeout
        self._pool: asyncpg.Pool[Any] | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def find(self, key: str, now: float) -> Entry | None:
        if self._closed:
            raise ReaderFailed("closed")
        for left in range(self._store.connections, -1, -1):
            try:
                rows = await self._asked(key, now)
                break
            except _LOST as error:
                if not left:
                    raise ReaderFailed(_fault(error)) from None  # else: one that was closed while idle is no failure
            except (asyncpg.PostgresError, OSError, ValueError) as error:
                raise ReaderFailed(_fault(error)) from None
        if not rows:
            return None
        if len(rows) > 1 or "home" not in rows[0]:
            raise ReaderFailed("query")
        home, until = rows[0]["home"], _moment(rows[0].get("until"))
        if home is None and until is None:
            return None
        return Entry(checked_home(home), until)

    async def close(self) -> None:
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def _asked(self, key: str, now: float) -> "list[asyncpg.Record]":
        pool = await self._opened()
        async with pool.acquire() as connection:
            try:
                return await connection.fetch(self._query, key, *((now,) if self._wants_time else ()))
            except _LOST:
                connection.terminate()  # not every kind of these makes the pool do so
                raise

    async def _opened(self) -> "asyncpg.Pool[Any]":
        if self._pool is None:
            store = self._store
            self._pool = asyncpg.create_pool(
                host=store.host,
                port=store.port,
                user=store.user,
                password="" if store.password is None else store.password.reveal(),
                database=store.database,
                ssl=False if self._context is None else self._context,
                min_size=0,
                max_size=store.connections,
                max_inactive_connection_lifetime=_IDLE,
                connection_class=_Connection,
                server_settings={
                    "application_name": "domicile",
                    "default_transaction_read_only": "on",
                    "statement_timeout": str(max(1, round(self._timeout * 1000))),
                },
            )
        async with self._opening:
            await self._pool
        return self._pool


def _moment(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        if value == datetime.max:  # as asyncpg gives `infinity`, whichever type it has
            return None
        if value.tzinfo is None:
            raise ReaderFailed("query")
        return value.timestamp()
    try:
        moment = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ReaderFailed("query") from None
    return moment if isfinite(moment) else None


def _fault(error: Exception) -> Fault:
    match error:
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InsufficientPrivilegeError():
            return "login"
        case asyncpg.QueryCanceledError():
            return "timeout"
        case asyncpg.TooManyConnectionsError() | asyncpg.CannotConnectNowError():
            return "busy"
        case asyncpg.PostgresConnectionError() | asyncpg.InterfaceError() | ConnectionError():
            return "refused" if isinstance(error, ConnectionRefusedError) else "unreachable"
        case asyncpg.SyntaxOrAccessError() | asyncpg.DataError() | asyncpg.InvalidTransactionStateError():
            return "query"
        case asyncpg.InvalidCatalogNameError() | asyncpg.ReadOnlySQLTransactionError():
            return "query"
        case asyncpg.PostgresError():
            return "store"
        case OSError():
            return "unreachable"
        case _:
            return "protocol"
