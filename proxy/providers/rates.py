"""The limits of rate of one policy at run time: whose bucket a request takes a token from, and what that comes to.

- A request takes one token of each limit that matches it, or of none.
- Buckets are this process's, or a Valkey server's for all instances. While that cannot be asked, each process keeps
  its own share of the limits: nobody is refused for an outage, and nobody let in without bound.
- Keys are digests under a secret, and the tables are bounded: what is kept names nobody and does not grow.
- A reload keeps the buckets of each limit that it leaves as it is.
"""

import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.policy.balance import RateLimit
from proxy.policy.facts import Address
from proxy.policy.rates import Rates
from proxy.policy.subject import ValkeyStore
from proxy.providers.token_bucket import BucketKeys, TokenBuckets, question

if TYPE_CHECKING:
    from proxy.providers.rate_store import RateStore

SMALLEST_SECRET: Final = 32
LARGEST_SECRET: Final = 4096
"""Bytes of a secret."""


class RatesRefused(Exception):
    """The operator's fault: a file that limits of rate need cannot be used."""


@dataclass(frozen=True, slots=True)
class Exceeded:
    """limit: the name of the limit that there is the longest wait for. wait: seconds until it has a token."""

    limit: str
    wait: float


class Unanswered:
    """times: how often a store did not answer, over all policies of this process."""

    __slots__ = ("times",)

    def __init__(self) -> None:
        self.times = 0


class _Meter(NamedTuple):
    """One limit. stated: as the policy says it; own: this process's share of it."""

    stated: RateLimit
    own: RateLimit
    keys: BucketKeys
    buckets: TokenBuckets


class Tokens:
    """What requests that are alike take: from which buckets. Kept with their plan, and taken by each of them.

    shared: whether a store has to be asked: `ask` then, and `take` only without.
    """

    __slots__ = ("_question", "_store", "_unanswered", "_wanted", "shared")

    def __init__(
        self, wanted: Sequence[tuple[_Meter, bytes]], store: "RateStore | None", unanswered: Unanswered
    ) -> None:
        self._unanswered = unanswered
        self._wanted = tuple((meter.stated.name, meter.buckets, key) for meter, key in wanted)
        self._store = store
        self.shared = store is not None
        asked = [(meter.stated, key) for meter, key in wanted]
        self._question = b"" if store is None else question(store.definition.prefix, asked)

    def take(self, now: float) -> Exceeded | None:
        """Takes from this process's buckets; None: it may pass. now: monotonic seconds."""
        wanted = self._wanted
        if len(wanted) > 1:
            waits = [buckets.wait(key, now) for _, buckets, key in wanted]
            longest = max(waits)
            if longest > 0.0:
                return Exceeded(wanted[waits.index(longest)][0], longest)
        for name, buckets, key in wanted:
            wait = buckets.take(key, now)
            if wait > 0.0:
                return Exceeded(name, wait)
        return None

    async def ask(self, now: float) -> Exceeded | None:
        """Takes from the store's, or from this process's where the store does not answer in time."""
        if self._store is None:
            return self.take(now)
        answer = await self._store.ask(self._question)
        if answer is None or answer[0] >= len(self._wanted):
            self._unanswered.times += 1
            return self.take(now)
        which, wait = answer
        return Exceeded(self._wanted[which][0], wait) if wait > 0.0 else None


class RateLimits:
    """All limits of one policy. Belongs to the event loop's thread, once it was opened.

    unanswered: what is counted of stores, of earlier policies' too.
    """

    def __init__(
        self,
        rates: Rates,
        secret: bytes,
        meters: Mapping[str, _Meter],
        store: "RateStore | None",
        unanswered: Unanswered,
    ) -> None:
        self.unanswered = unanswered
        self._rates = rates
        self._secret = secret
        self._meters = meters
        self._store = store

    @classmethod
    def open(cls, rates: Rates, old: "RateLimits | None" = None) -> "RateLimits":
        """Reads files, asks nobody yet. old: those in force, whose buckets carry over. Raises RatesRefused."""
        unanswered = Unanswered() if old is None else old.unanswered
        if not rates.limits:
            return cls(rates, b"", {}, None, unanswered)
        if rates.secret is not None:
            secret = _secret(rates.secret if isinstance(rates.secret, Path) else rates.secret.reveal().encode())
        else:
            secret = old._secret if old is not None and old._rates.secret is None and old._secret else os.urandom(32)
        kept = old._meters if old is not None and old._secret == secret else {}
        meters = {}
        for stated, own in zip(rates.limits, rates.alone or rates.limits, strict=True):
            meter = kept.get(stated.name)
            if meter is None or (meter.stated, meter.own) != (stated, own):
                meter = _Meter(stated, own, BucketKeys(secret, stated), TokenBuckets(own))
            meters[stated.name] = meter
        store = None if rates.store is None else _opened(rates.store, old)
        return cls(rates, secret, meters, store, unanswered)

    def tokens(self, limits: Sequence[RateLimit], subject: str | None, client: Address | None) -> Tokens | None:
        """What a request that these limits match takes; None for no limit.

        subject: who was verified. client: its address, None where it has none.
        """
        if not limits:
            return None
        wanted = []
        for limit in limits:
            meter = self._meters[limit.name]
            if limit.by == "subject" and subject is not None:
                key = meter.keys.of_subject(subject)
            elif client is not None:
                key = meter.keys.of_network(client)
            else:
                key = meter.keys.of_nowhere()
            wanted.append((meter, key))
        return Tokens(wanted, self._store, self.unanswered)

    async def close(self, following: "RateLimits | None" = None) -> None:
        """Let go of the store, unless those that follow use it."""
        if self._store is not None and (following is None or following._store is not self._store):
            await self._store.close()


def _opened(store: ValkeyStore, old: RateLimits | None) -> "RateStore":
    # What speaks to a store takes tenths of a second to import.
    from proxy.providers.rate_store import RateStore

    if old is not None and old._store is not None and old._store.definition == store and store.ca is None:
        return old._store
    return RateStore(store, _context(store))


def _context(store: ValkeyStore) -> ssl.SSLContext | None:
    if not store.tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if store.ca is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(store.ca)
    except (ssl.SSLError, OSError):
        raise RatesRefused(f"{store.ca}: cannot be used as a file of authorities") from None
    return context


def _secret(given: Path | bytes) -> bytes:
    """The secret's bytes, but for the newline that editors and `openssl rand` add to a file."""
    where = given if isinstance(given, Path) else "rates.secret, from the environment"
    try:
        if isinstance(given, Path):
            with given.open("rb") as file:
                given = file.read(LARGEST_SECRET + 2).rstrip(b"\r\n")
    except OSError as error:
        raise RatesRefused(f"{where}: cannot be read: {error.strerror}") from None
    if not SMALLEST_SECRET <= len(given) <= LARGEST_SECRET:
        raise RatesRefused(f"{where}: a secret has {SMALLEST_SECRET} to {LARGEST_SECRET} bytes")
    return given


UNLIMITED: Final = RateLimits.open(Rates())
"""Of a policy without limits of rate."""
