"""One endpoint of a provider at run time: where a connection is taken, given back, waited for, or made."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from proxy.policy.decision import Permit
from proxy.policy.settings import Endpoint
from proxy.providers.checked import Checked
from proxy.providers.connect import Connected, Connecting, Failed, connect
from proxy.providers.dial import dial
from proxy.providers.failure import DialFailure, DialMisuse
from proxy.providers.guard import Admission
from proxy.providers.health import Health
from proxy.providers.pool import C, PoolKey
from proxy.providers.waiting import Waiter

if TYPE_CHECKING:
    from proxy.providers.fleet import ProviderState

P = TypeVar("P", bound=asyncio.BaseProtocol)

PASSING: Final = frozenset({"tls", "tcp"})
"""Schemes of endpoints whose bytes are passed on as they are; the others are spoken to in HTTP."""

# They say nothing of the endpoint.
_UNTOLD = frozenset({"full", "local"})


class EndpointState(Generic[C]):
    """label: `host:port`, as the policy file has it. health: how it does. checked: what its checks saw.

    begin: a request is on its way here; None where it may not be, since something happened after it was chosen. The end
    is told to what this returns, once, whatever it is; but not why `connect` failed: that is known.
    certificate, certificate_expires: the leaf that it showed last, and when that ends (seconds since the epoch).
    """

    __slots__ = (
        "admission",
        "begin",
        "certificate",
        "certificate_expires",
        "checked",
        "endpoint",
        "health",
        "key",
        "label",
        "state",
    )

    def __init__(self, state: "ProviderState[C]", endpoint: Endpoint, key: PoolKey, weight: float) -> None:
        definition = state.definition
        self.state = state
        self.endpoint = endpoint
        self.key = key
        self.label = endpoint.label
        self.health = Health(self.label, weight, definition.passive, definition.breaker)
        self.begin = self.health.begin
        self.admission = Admission()
        self.checked = Checked()
        self.certificate: bytes | None = None
        self.certificate_expires: float | None = None

    def take(self, permit: Permit, now: float) -> tuple[C | None, Sequence[C]]:
        """An idle connection or None, and those that the caller closes. Called once an attempt, before `connect`.

        While others wait for the provider there is none. Raises DialMisuse without a permit for the provider.
        """
        state = self.state
        self._demand(permit)
        state.asked = now
        if state.waiting:
            return None, ()
        return state.pool.take(self.key, now)

    def give(self, connection: C, now: float) -> Sequence[C]:
        """Puts a connection back whose exchange is over; returns those that the caller closes.

        Where others wait, the first of them gets it in a later step.
        """
        state = self.state
        if state.retired:
            return (connection,)
        if state.waiting:
            state.serve_soon()
        return state.pool.give(self.key, connection, now)

    def discard(self, connection: C) -> bool:
        """Forgets a connection that broke while idle."""
        return self.state.pool.discard(self.key, connection)

    def wait(self, permit: Permit, waiter: Waiter, now: float) -> bool:
        """Waits for a connection, where the provider is full. `waiter` is told in a later step, not in this one.

        False where the policy lets nobody wait, or too many do. Raises DialMisuse.
        """
        self._demand(permit)
        state = self.state
        if state.waiting is None or not state.waiting.join(self, waiter, now):
            return False
        state.serve_soon()
        return True

    def leave(self, waiter: Waiter) -> bool:
        """Waits no longer; whether it did."""
        return self.state.waiting is not None and self.state.waiting.leave(waiter)

    async def connect(
        self, permit: Permit, protocol_factory: Callable[[], P], first: bytes = b"", *, its_turn: bool = False
    ) -> tuple[asyncio.Transport, P]:
        """A new connection, as `dial` makes it, within the provider's cap; tells `health` when that fails.

        Counted in `state.open`: the caller calls `state.closed()` once, when the protocol's `connection_lost` runs.
        its_turn: it has waited, and is counted already. Raises DialFailure, DialMisuse; also where evidence has taken
        the endpoint out of service meanwhile.
        """
        state = self.state
        if not its_turn:
            if state.full:
                raise self._full()
            state.open += 1
        began = time.monotonic()
        try:
            transport, protocol = await dial(
                permit,
                state.definition,
                self.endpoint,
                protocol_factory,
                context=state.contexts.get(self.endpoint.scheme),
                resolver=state.resolver,
                first=first,
                admission=self.admission,
            )
        except BaseException as error:
            state.closed()
            if isinstance(error, DialFailure):
                self._missed(error, began)
            raise
        self.shown(transport)
        if self.health.held:
            transport.abort()
            raise self._held()
        return transport, protocol

    def reach(
        self, permit: Permit, connected: Connected, failed: Failed, *, its_turn: bool = False
    ) -> Connecting | None:
        """As `connect`, for a socket that carries bytes as they are: calls one of the two once, perhaps at once.

        Counted in `state.open` from now on, unless it fails: the caller calls `state.closed()` once, when it closes the
        socket, or has stopped what this returns. Raises DialMisuse.
        """
        state = self.state
        if self.endpoint.scheme not in PASSING:
            raise DialMisuse(f"provider {state.definition.name}: {self.endpoint.host}: not an endpoint for raw bytes")
        if not its_turn:
            if state.full:
                failed(self._full())
                return None
            state.open += 1
        began = time.monotonic()

        def made(sock: socket.socket) -> None:
            if self.health.held:
                sock.close()
                state.closed()
                failed(self._held())
            else:
                connected(sock)

        def missed(failure: DialFailure) -> None:
            state.closed()
            self._missed(failure, began)
            failed(failure)

        try:
            return connect(permit, state.definition, self.endpoint, state.resolver, made, missed, self.admission)
        except DialMisuse:
            state.closed()
            raise

    def shown(self, transport: asyncio.BaseTransport) -> None:
        """Remembers when the certificate ends that a verified connection showed."""
        session: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        leaf = None if session is None else session.getpeercert(binary_form=True)
        if session is None or leaf is None or leaf == self.certificate:
            return
        # The dict form holds what has been verified already; reading it takes longer than comparing bytes.
        ends = (session.getpeercert() or {}).get("notAfter")
        self.certificate = leaf
        self.certificate_expires = ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else None

    def _demand(self, permit: Permit) -> None:
        if not permit.covers(self.state.definition):
            raise DialMisuse(f"provider {self.state.definition.name}: no permit")

    def _full(self) -> DialFailure:
        name = self.state.definition.name
        return DialFailure("full", name, self.endpoint.host, "connection limit of the policy")

    def _held(self) -> DialFailure:
        return DialFailure("outside", self.state.definition.name, self.endpoint.host, "address not allowed")

    def _missed(self, failure: DialFailure, began: float) -> None:
        if failure.kind not in _UNTOLD and not self.health.held:
            self.health.unreached(began, time.monotonic())
