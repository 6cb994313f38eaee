"""The run-time state of all providers of one policy.

A reload makes a new Fleet beside the old one and takes over what has not changed; nothing of the old one is touched
until the caller retires what was left behind. All times are the loop's (monotonic) seconds.
"""

import asyncio
import hashlib
import random
import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Generic, Literal

from proxy.policy.balance import Retries
from proxy.policy.policy import Policy
from proxy.policy.settings import Endpoint, Provider
from proxy.providers.balance import chooser
from proxy.providers.contexts import (
    UnusableFile,
    UnusableFiles,
    client_certificate_expiry,
    fingerprint,
    provider_context,
)
from proxy.providers.endpoint import PASSING, EndpointState
from proxy.providers.pool import C, Pool, PoolKey
from proxy.providers.resolve import Resolver
from proxy.providers.retry_budget import RetryBudget
from proxy.providers.row import Row
from proxy.providers.waiting import Waiting, report

IDLE_PER_ENDPOINT = 256
"""How many idle connections one endpoint may keep; each holds a descriptor and, under TLS, its buffers."""

REMEASURE = 60.0
"""A first-byte latency older than this is no longer believed, and the provider tried again."""

TRIAL = 5.0
"""How long a provider that is tried for its latency may take before another request tries it."""

_SMOOTHING = 0.1
_STEADY = 1.25


class ProviderState(Generic[C]):
    """One provider at run time.

    contexts: by the scheme that is wrapped in TLS. endpoints: those that are spoken to in HTTP; passing: the others.
    row, passing_row: the same, made ready for choosing.
    open: connections now open or being opened, idle ones too. latency: smoothed seconds from a request sent to the
    first byte of its response, None before the first. pace: latency made steady, for comparing; it moves only when
    latency leaves it by a quarter, so that two providers as fast as each other do not change places all the time.
    measured, asked: when latency was last measured, and when a connection was last asked for.
    chooser: which endpoint is tried. waiting: who waits while it is full, None where nobody may. budget: its retries.
    """

    __slots__ = (
        "_serving",
        "asked",
        "budget",
        "chooser",
        "client_expiry",
        "contexts",
        "definition",
        "endpoints",
        "fingerprint",
        "latency",
        "measured",
        "open",
        "pace",
        "passing",
        "passing_row",
        "pool",
        "resolver",
        "retired",
        "retries",
        "row",
        "seed",
        "waiting",
    )

    def __init__(
        self,
        definition: Provider,
        contexts: Mapping[str, ssl.SSLContext],
        files: bytes,
        client_expiry: float | None,
        resolver: Resolver,
        retries: Retries,
    ) -> None:
        self.definition = definition
        self.contexts = contexts
        self.fingerprint = files
        self.client_expiry = client_expiry
        self.resolver = resolver
        self.pool: Pool[C] = Pool(definition.timeouts.idle, IDLE_PER_ENDPOINT)
        credential = _credential(definition, files)
        weights = definition.balance.weights or (1.0,) * len(definition.endpoints)
        states = [
            EndpointState(self, endpoint, _key(definition, endpoint, credential), weight)
            for endpoint, weight in zip(definition.endpoints, weights, strict=True)
        ]
        self.endpoints = tuple(state for state in states if state.endpoint.scheme not in PASSING)
        self.passing = tuple(state for state in states if state.endpoint.scheme in PASSING)
        self.row = Row(self.endpoints)
        self.passing_row = Row(self.passing)
        self.open = 0
        self.retired = False
        self._serving = False
        self.latency: float | None = None
        self.pace = 0.0
        self.measured = 0.0
        self.asked = float("-inf")
        self.chooser = chooser(definition.balance, random.random)
        queue = definition.queue if definition.connections is not None else None
        self.waiting = None if queue is None or not queue.most else Waiting(queue)
        self.renew_budget(retries)
        # Makes a subject's luck with each provider its own.
        self.seed = int.from_bytes(hashlib.sha256(definition.name.encode()).digest()[:8], "little")

    def __repr__(self) -> str:
        return f"ProviderState({self.definition.name!r}, open={self.open})"

    @property
    def full(self) -> bool:
        """Whether the policy's cap on its connections is reached, or others wait who come first."""
        cap = self.definition.connections
        return cap is not None and (self.open >= cap or bool(self.waiting))

    def healthy(self, now: float) -> bool:
        """Whether any endpoint is being sent anything."""
        return any(endpoint.health.in_service(now) for endpoint in (*self.endpoints, *self.passing))

    def closed(self) -> None:
        """One connection that `connect` returned has ended."""
        self.open -= 1
        self.serve_soon()

    def serve_soon(self) -> None:
        """Something may have become free for those who wait."""
        # Not at once: whoever says so may be in the midst of something.
        if self.waiting and not self._serving:
            self._serving = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Give those who wait what there is, in their order."""
        self._serving = False
        waiting, cap, now = self.waiting, self.definition.connections, time.monotonic()
        assert waiting is not None
        assert cap is not None
        while (first := waiting.first(now)) is not None:
            waiter, place = first
            idle = None if waiter.passing else self._idle(place, now)
            if idle is None and self.open >= cap:
                for connection in self.pool.evict():
                    connection.close()  # and when it is, its place is the next
                return
            waiting.served()
            if idle is None:
                self.open += 1
            try:
                waiter.served(*(idle or (place, None)))
            except Exception as error:
                report(error)
                if idle is None:
                    self.open -= 1
                else:
                    idle[1].close()

    def _idle(self, wanted: EndpointState[C], now: float) -> tuple[EndpointState[C], C] | None:
        """An idle connection: to the endpoint that is wanted, else to another that may be sent something."""
        for place in (wanted, *self.endpoints):
            if place.health.admits(now):
                connection, closings = self.pool.take(place.key, now)
                for closing in closings:
                    closing.close()
                if connection is not None:
                    return place, connection
        return None

    def renew_budget(self, retries: Retries) -> None:
        """Begins to count retries anew, by these rules."""
        self.retries = retries
        self.budget = RetryBudget(retries, time.monotonic())

    def first_byte(self, seconds: float, now: float) -> None:
        """One response's first byte came after so many seconds; for one that never came, those waited."""
        latency = self.latency
        if latency is None:
            self.latency = self.pace = seconds
        else:
            self.latency = latency = latency + _SMOOTHING * (seconds - latency)
            if not self.pace <= latency * _STEADY or not latency <= self.pace * _STEADY:
                self.pace = latency
        self.measured = now

    def retire(self) -> Sequence[C]:
        """Takes it out of use: returns its idle connections, and what is given back later, for closing."""
        self.retired = True
        return self.pool.drop(self.definition.name)


class Fleet(Generic[C]):
    """One ProviderState for each provider of a policy, by name; `states` is only read."""

    def __init__(self, states: Mapping[str, ProviderState[C]], resolver: Resolver) -> None:
        self.states = states
        self.resolver = resolver

    @classmethod
    def open(cls, policy: Policy, resolver: Resolver) -> "Fleet[C]":
        """All providers of a policy, none measured, none marked. Raises UnusableFiles with every fault."""
        return cls._made(policy, resolver, {})

    def renewed(self, policy: Policy) -> tuple["Fleet[C]", list[ProviderState[C]]]:
        """The fleet of a new policy, and the states it leaves behind, which the caller retires once it is in force.

        States whose definition and files are unchanged carry over with pools and marks. Raises UnusableFiles;
        then, and until something is retired, this fleet serves on. It reads files, and the system's authorities take
        some 40 ms to read, once: call it in a thread where a loop must not wait.
        """
        fleet = self._made(policy, self.resolver, self.states)
        return fleet, [state for name, state in self.states.items() if fleet.states.get(name) is not state]

    def expire(self, now: float) -> list[C]:
        """Removes and returns idle connections whose time is over."""
        return [connection for state in self.states.values() for connection in state.pool.expire(now)]

    @classmethod
    def _made(cls, policy: Policy, resolver: Resolver, old: Mapping[str, ProviderState[C]]) -> "Fleet[C]":
        states: dict[str, ProviderState[C]] = {}
        faults: list[UnusableFile] = []
        read: dict[Path, bytes] = {}
        contexts = {
            _context_key(state.definition, state.fingerprint, scheme): context
            for state in old.values()
            for scheme, context in state.contexts.items()
        }
        for provider in policy.providers:
            files = fingerprint(provider, read)
            known = old.get(provider.name)
            if known is not None and known.definition == provider and known.fingerprint == files:
                # Equal, so nobody can tell; but new permits hold this one, and `covers` is quickest on the same object.
                known.definition = provider
                if known.retries != policy.retries:
                    known.renew_budget(policy.retries)
                states[provider.name] = known
                continue
            try:
                wrapping = _contexts(provider, files, contexts)
                expiry = client_certificate_expiry(provider)
            except UnusableFiles as error:
                faults += error.faults
                continue
            states[provider.name] = ProviderState(provider, wrapping, files, expiry, resolver, policy.retries)
        if faults:
            raise UnusableFiles(tuple(faults))
        return cls(states, resolver)


_ContextKey = tuple[object, ...]


def _contexts(
    provider: Provider, files: bytes, made: dict[_ContextKey, ssl.SSLContext]
) -> Mapping[str, ssl.SSLContext]:
    """A provider's contexts by scheme; those that were made of the same, or are made now."""
    found: dict[str, ssl.SSLContext] = {}
    for scheme in _WRAPPED:
        key = _context_key(provider, files, scheme)
        context = made.get(key) if _has(provider, scheme) else None
        context = context or provider_context(provider, scheme)
        if context is not None:
            found[scheme] = made[key] = context
    return found


_WRAPPED: Final[tuple[Literal["https", "tls"], ...]] = ("https", "tls")


def _has(provider: Provider, scheme: str) -> bool:
    return any(endpoint.scheme == scheme for endpoint in provider.endpoints)


def _context_key(provider: Provider, files: bytes, scheme: str) -> _ContextKey:
    """What a context is made of: providers that agree in it share one. (Names and pins are checked by the dial.)"""
    tls = provider.tls
    return (scheme, tls.ca, tls.client_certificate, tls.client_key, tls.min_version, files)


def _key(provider: Provider, endpoint: Endpoint, credential: str) -> PoolKey:
    name = (provider.tls.server_name or endpoint.host) if endpoint.scheme == "https" else None
    return PoolKey(provider.zone, provider.name, credential, name, endpoint)


def _credential(provider: Provider, files: bytes) -> str:
    """What the provider knows us by, as a digest: client certificate and fixed headers."""
    digest = hashlib.sha256(files)
    for name, value in provider.headers:
        secret = value.reveal()
        digest.update(f"{len(name)}:{name}{len(secret)}:{secret}".encode())
    return digest.hexdigest()
