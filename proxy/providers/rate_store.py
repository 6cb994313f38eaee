"""A Valkey server that holds the buckets of all instances: asked in one round trip, and never waited for long.

- All who ask while one trip is under way go together on the next, over one connection: an answer is read for each
  question that was sent, or the connection is closed, so none is ever taken for another's.
- Who asks waits ASKING at most. A store that failed is left alone for a moment, and then asked by one, until it
  answers. None is the answer meanwhile, at once: what then is the asker's to say.
"""

import asyncio
import logging
import ssl
import time
from math import inf
from typing import Any, Final

from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, NoScriptError, RedisError

from proxy.policy.subject import ValkeyStore
from proxy.providers.token_bucket import SCRIPT, command, wait_of

ASKING: Final = 0.1
"""Seconds that a request waits for the store at most."""

TRIP: Final = 0.25
"""Seconds for one round trip: longer than one waits, so that one late answer does not cost the connection."""

CONNECTING: Final = 2.0
"""Seconds for a new connection, which nobody waits for longer than ASKING."""

MOMENT: Final = 1.0
"""Seconds for which a store that failed is not asked."""

AT_ONCE: Final = 256
"""Questions in one trip."""

MOST: Final = 4096
"""Questions that wait at once."""

_JOURNAL = logging.getLogger("domicile")


Answer = tuple[int, float]
"""Which limit there is the longest wait for, and its seconds, 0.0 for none."""

_Asked = tuple[bytes, "asyncio.Future[Answer | None]"]


class RateStore:
    """Belongs to one event loop, from its first question to `close`."""

    def __init__(self, store: ValkeyStore, context: ssl.SSLContext | None) -> None:
        self.definition = store
        self._context = context
        self._settings: dict[str, Any] = {
            "host": store.host,
            "port": store.port,
            "db": store.database,
            "username": store.user,
            "password": None if store.password is None else store.password.reveal(),
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
        }
        self._connection: Connection | None = None
        self._asked: list[_Asked] = []
        self._trips: asyncio.Task[None] | None = None
        self._shut_until = -inf
        self._well = True
        self._closed = False

    async def ask(self, question: bytes) -> Answer | None:
        """The answer to what `token_bucket.question` made; None where there is none in time, or it may not be asked."""
        if self._closed or len(self._asked) >= MOST:
            return None
        if not self._well and (self._trips is not None or time.monotonic() < self._shut_until):
            return None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer | None] = loop.create_future()
        self._asked.append((question, answer))
        if self._trips is None:
            self._trips = loop.create_task(self._ask())
        late = loop.call_later(ASKING, _give_up, answer)
        try:
            return await answer
        finally:
            late.cancel()

    async def close(self) -> None:
        """Whoever waits is answered None. It may be called twice."""
        self._closed = True
        trips = self._trips
        if trips is not None:
            trips.cancel()
            await asyncio.wait((trips,), timeout=MOMENT)
        await self._disconnect()
        await asyncio.sleep(0)  # for the loop to close what was closed

    async def _ask(self) -> None:
        """Trips, until nobody asks any more."""
        under_way: list[_Asked] = []
        try:
            while self._asked:
                if self._connection is None:
                    async with asyncio.timeout(CONNECTING):
                        self._connection = await self._connect()
                under_way, self._asked = self._asked[:AT_ONCE], self._asked[AT_ONCE:]
                async with asyncio.timeout(TRIP):
                    await self._trip(self._connection, under_way)
                if not self._well:
                    self._well = True
                    _JOURNAL.info("the store of limits of rate answers again")
        except (RedisError, OSError, ValueError, TimeoutError) as error:
            await self._failed(error)
        finally:
            self._trips = None
            for _, answer in (*under_way, *self._asked):
                _give_up(answer)
            self._asked = []

    async def _trip(self, connection: Connection, asked: list[_Asked]) -> None:
        again = await self._send(connection, asked)
        if again:
            # The server has forgotten the script, as after its restart.
            load = command(b"SCRIPT", b"LOAD", SCRIPT)
            await connection.send_packed_command([load], check_health=False)
            await connection.read_response(disable_decoding=True)
            if await self._send(connection, again):
                raise InvalidResponse

    async def _send(self, connection: Connection, asked: list[_Asked]) -> list[_Asked]:
        """Ask them all; who has to ask again is returned."""
        await connection.send_packed_command([b"".join([question for question, _ in asked])], check_health=False)
        again = []
        for each in asked:
            try:
                reply = await connection.read_response(disable_decoding=True)
            except NoScriptError:
                again.append(each)
            else:
                answer, found = each[1], wait_of(reply)
                if not answer.done():
                    answer.set_result(found)
        return again

    async def _connect(self) -> Connection:
        if self._context is None:
            connection = Connection(**self._settings)
        else:
            connection = SSLConnection(**self._settings)
            connection.ssl_context.context = self._context
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _failed(self, error: Exception) -> None:
        self._shut_until = time.monotonic() + MOMENT
        if self._well and not self._closed:
            # By type alone: a server's text may quote anything.
            _JOURNAL.warning(
                "the store of limits of rate cannot be asked, so each process keeps them by itself: %s",
                type(error).__name__,
            )
        self._well = False
        await self._disconnect()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


def _give_up(answer: "asyncio.Future[Answer | None]") -> None:
    if not answer.done():
        answer.set_result(None)
