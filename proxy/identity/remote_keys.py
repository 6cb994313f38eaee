"""A key set by URL: fetched before it is needed, kept while its issuer is away.

- A set is fetched when the source comes into force, and again well before it reaches its max_age. Requests have it
  fetched for one reason alone, a token that names an unknown key, and at most every INTERVAL seconds, whatever
  strangers send.
- What cannot be fetched, or is judged as no key set, changes nothing: the keys that are here serve for `keep`. After
  that, and before the first set came, there are none.
- The URL is the policy's, and nothing in a token has a say. No redirect is followed, no cookie kept, no environment's
  proxy used, and what comes is read up to a bound.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from typing import Final, Literal

import aiohttp

from proxy.identity.counts import SourceCount
from proxy.identity.keyset import LARGEST_KEY_SET, KeySet, read_key_set
from proxy.identity.refused import SourceRefused
from proxy.policy.subject import KeySetUrl

INTERVAL: Final = 10.0
"""Seconds between two fetches that tokens with unknown keys ask for."""

EARLY: Final = 0.75
"""The share of max_age after which a set is fetched again: time enough for some tries."""

FIRST_RETRY: Final = 1.0
LAST_RETRY: Final = 60.0
"""Seconds until the next try after a failure: doubled from the first to the last."""

Fault = Literal["tls", "unreachable", "timeout", "redirect", "status", "oversize", "judged"]
"""Why a fetch failed.

tls: the server's certificate. unreachable: name, network, or the connection broke. redirect: it sent us elsewhere.
status: any other but 200. oversize: larger than a key set is. judged: not a key set that is taken.
"""

_log = logging.getLogger("domicile.identity")


class RemoteKeys:
    """Belongs to one event loop, from its first fetch to `close`. clock: monotonic seconds."""

    # fmt: off
    __slots__ = (
        "_clock", "_context", "_count", "_fault", "_fetched", "_issuer", "_keys", "_over", "_ready", "_retry",
        "_source", "_task", "_timer", "_tried",
    )
    # fmt: on

    def __init__(
        self,
        source: KeySetUrl,
        issuer: str,
        count: SourceCount,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises SourceRefused when the CA's file cannot be used."""
        self._source = source
        self._issuer = issuer
        self._count = count
        self._clock = clock
        self._context = _context(source)
        self._keys: KeySet | None = None
        self._fetched = 0.0
        self._tried: float | None = None
        self._fault: Fault | None = None
        self._retry = FIRST_RETRY
        self._ready: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    @property
    def failing(self) -> bool:
        """Whether the last fetch failed."""
        return self._fault is not None

    def current(self) -> KeySet | None:
        """The keys that may be used now; None for none."""
        if self._keys is not None and self._clock() - self._fetched >= self._source.keep:
            self._keys = None
        return self._keys

    def age(self) -> float | None:
        """Seconds since the keys were fetched, None where there are none."""
        return None if self.current() is None else self._clock() - self._fetched

    def begin(self) -> None:
        """Fetch, unless it was begun before. Called on the running loop."""
        if self._tried is None:
            self._fetch()

    def coming(self) -> asyncio.Future[None] | None:
        """What is done when the fetch under way has ended; None where none is."""
        self.begin()
        return self._ready

    def look_again(self) -> asyncio.Future[None] | None:
        """As `coming`, for a token whose key is unknown: fetches, if the last fetch is long enough ago."""
        if self._ready is None and (self._tried is None or self._clock() - self._tried >= INTERVAL):
            self._fetch()
        return self._ready

    async def close(self) -> None:
        """Fetch no more. Whoever waits is told."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def _fetch(self) -> None:
        if self._ready is not None or self._over:
            return
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tried = self._clock()
        self._ready = loop.create_future()
        self._task = loop.create_task(self._fetch_once())

    async def _fetch_once(self) -> None:
        ready = self._ready
        try:
            fault = await self._try()
            self._took(fault)
            self._timer = asyncio.get_running_loop().call_later(self._delay(), self._fetch)
        finally:
            self._ready = None
            if ready is not None:
                ready.set_result(None)

    def _delay(self) -> float:
        if self._fault is None:
            self._retry = FIRST_RETRY
            return self._source.max_age * EARLY
        delay, self._retry = self._retry, min(self._retry * 2, LAST_RETRY)
        return min(delay, max(FIRST_RETRY, self._source.max_age))

    def _took(self, fault: Fault | None) -> None:
        if fault is not None and self._fault is None:
            kept = (
                f"the keys that are here serve for at most {self._source.keep:g} s" if self._keys else "there are none"
            )
            _log.warning("key set of %s: cannot be fetched (%s), %s", self._issuer, fault, kept)
        elif fault is None and self._fault is not None:
            _log.info("key set of %s: fetched again", self._issuer)
        self._fault = fault

    async def _try(self) -> Fault | None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._source.timeout):
                content = await self._get()
        except TimeoutError:
            return "timeout"
        except aiohttp.ClientSSLError:
            return "tls"
        except (aiohttp.ClientError, OSError, ValueError):
            return "unreachable"
        finally:
            self._count.observe(time.monotonic() - began)
        if not isinstance(content, bytes):
            return content
        try:
            keys = await asyncio.to_thread(read_key_set, content, "key set")
        except SourceRefused:
            return "judged"
        self._fetched = self._clock()
        # The same object for the same content, so that what was verified by it stays verified.
        if self._keys is None or self._keys.digest != keys.digest:
            self._keys = keys
        return None

    async def _get(self) -> bytes | Fault:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, ssl=self._context),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"},
                max_line_size=8190,
            ) as session,
            session.get(self._source.url, allow_redirects=False) as response,
        ):
            if 300 <= response.status < 400:
                return "redirect"
            if response.status != 200:
                return "status"
            content = bytearray()
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > LARGEST_KEY_SET:
                    return "oversize"
            return bytes(content)


def _context(source: KeySetUrl) -> ssl.SSLContext | bool:
    """What verifies the server; True is the system's authorities."""
    if not source.url.startswith("https:"):
        return True
    try:
        return ssl.create_default_context(cafile=None if source.ca is None else str(source.ca))
    except (OSError, ssl.SSLError) as error:
        raise SourceRefused(f"{source.ca}: cannot be used as a CA: {error.strerror or 'no certificates'}") from None
