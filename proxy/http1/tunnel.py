"""What becomes of an exchange after a 101: bytes both ways, as they come.

A FIN travels on, the other way stays open. Each way pauses the other's reading when its writes are not taken.
"""

import time
from math import inf
from typing import TYPE_CHECKING

from proxy.http1.client import LEAVING
from proxy.http1.coupled import Coupled
from proxy.http1.occupant import Wait
from proxy.http1.plan import Planner
from proxy.http1.provider import ProviderConnection
from proxy.http1.standing import Standing

if TYPE_CHECKING:
    from proxy.http1.client import ClientConnection
    from proxy.http1.exchange import Exchange


class Tunnel(Coupled):
    """Takes the exchange's place at the client's connection and at the provider's."""

    _provider: ProviderConnection
    withdrawn_at = inf

    def __init__(
        self,
        exchange: "Exchange",
        standing: Standing,
        client: "ClientConnection",
        provider: ProviderConnection,
        idle: float,
    ) -> None:
        self._exchange = exchange
        self.tally = exchange.tally
        self._standing = standing
        self._client = client
        self._provider = provider
        self._idle = idle
        self.changes_at = exchange.changes_at
        self._client_ended = False
        self._provider_ended = False

    def begin(self, rest: bytes) -> None:
        """Take the exchange's place. rest: what came behind the 101; what waits behind the request goes on, too."""
        client = self._client
        client.exchange = self
        client.feed_exchange(self.from_client)
        self._provider.tunnel(self)
        self._renew()
        waiting = client.kept()
        if waiting:
            self.from_client(waiting)
        if rest:
            self.tunnelled(rest)

    def from_client(self, data: bytes) -> None:
        """Bytes for the provider."""
        self._exchange.tally.to_provider += len(data)
        self._provider.transport.write(data)
        self._renew()

    def tunnelled(self, data: bytes) -> None:
        self._exchange.tally.to_client += len(data)
        self._client.transport.write(data)
        self._renew()

    def client_half_closed(self) -> bool:
        """The client will send no more; whether its connection stays open for the other way."""
        self._client_ended = True
        if self._provider_ended or not self._provider.transport.can_write_eof():
            self._finish()
            return False
        self._provider.transport.write_eof()
        return self._client.transport.can_write_eof()

    def client_may_be_leaving(self) -> bool:
        """Not by what it sends: its end is passed on when all before it has been."""
        return False

    def provider_half_closed(self) -> bool:
        self._provider_ended = True
        if self._client_ended or not self._client.transport.can_write_eof():
            self._finish()
            return False
        self._client.transport.write_eof()
        return self._provider.transport.can_write_eof()

    def provider_broke(self, cause: str) -> None:
        self._finish(None if self._provider_ended else cause)

    def client_left(self) -> None:
        """The client's connection is gone. What it sent last still goes on, but a reset gives it a moment only."""
        self._provider.close(self._idle if self._client_ended else LEAVING)
        self._exchange.record(None if self._client_ended else "client-left")

    def _finish(self, reason: str | None = None) -> None:
        """Nothing more comes from either side; what came last still goes on."""
        self._provider.close(self._idle)
        self._exchange.record(reason)
        self._client.finished(keep=False, linger=not self._client_ended)

    def overdue(self, now: float, wait: Wait) -> None:
        """Nothing moved for the idle time."""
        if self._client.uptake.progressed():
            self._renew()
        else:
            self._end("idle")

    def redecide(self, planner: Planner, now: float, wall: float) -> None:
        """Another line is in force, or a date has passed: without a permit the tunnel ends now."""
        plan = self._standing.again(planner, wall)
        self.changes_at = plan.changes_at
        if not self._standing.allowed(plan):
            self.end_withdrawn()

    def end_withdrawn(self) -> None:
        """End it: its permit was withdrawn."""
        self._standing.withdrawn()
        self._end("permit-withdrawn")

    def _end(self, reason: str) -> None:
        self._provider.abort()
        self._exchange.record(reason)
        self._client.cut()

    def _renew(self) -> None:
        self._client.expect(Wait.IDLE, time.monotonic() + self._idle)
