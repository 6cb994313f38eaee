"""One connection's tries: the endpoints that its permit covers, one after another, until one is connected.

- Nothing of the client's is sent or even read before, so that a try that fails costs it nothing. A provider that wants
  to be told who the client is (`send_proxy`) is told here, ahead of everything.
- A provider at its cap is passed over while another that is permitted takes the connection. Where none does, it waits
  for the first that was full.
- Each try is told to its endpoint's health: to be connected is all that is asked of an endpoint.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from proxy.policy.decision import Permit
from proxy.providers.connect import Connecting
from proxy.providers.failure import DialFailure
from proxy.providers.health import Try
from proxy.tcp.arrival import Arrival
from proxy.tcp.header import introduction
from proxy.tcp.plan import Place, Planner
from proxy.tcp.relay import close
from proxy.tcp.tally import Tally
from proxy.tcp.wrapped import ProviderSide
from proxy.telemetry.metrics import Outcome

if TYPE_CHECKING:
    from proxy.tcp.plane import TcpPlane

# What it comes to where nobody can be tried.
_NOBODY: Final[Outcome] = "unavailable"

# What a failed dial comes to when no other permitted endpoint is left.
_FAILURES: Final[dict[str, Outcome]] = {
    "refused": "unreachable",
    "tls": "unreachable",
    "timeout": "timeout",
    "name": "unreachable",
    "outside": "unreachable",
    "full": "unavailable",
    "local": "unavailable",
}

_VANISHED: Final = 90.0
"""Seconds that what was sent may stay without a sign of life, unless the idle limit is longer."""


class Traveller(Protocol):
    """Who wants to reach a provider."""

    arrival: Arrival
    client: socket.socket
    tally: Tally

    def dialling(self, until: float) -> None:
        """A connection is being made, until when at most (monotonic seconds)."""

    def queued(self) -> None:
        """It waits for a provider that is full."""

    def reached(self, sock: socket.socket) -> None:
        """`place` is connected, by a socket that is to be passed on to."""

    def wrapped(self, side: ProviderSide) -> None:
        """`place` is connected, by our own TLS."""

    def unreachable(self, outcome: Outcome) -> None:
        """No endpoint is left to try."""

    def redecide(self, planner: Planner, wall: float) -> None:
        """Go on by what this planner decides, by `renew`, or end."""

    def failed(self, error: Exception) -> None:
        """A mistake of this program."""


class Attempts:
    """place: the endpoint in hand, perhaps waited for; None before the first. began: when its dial did (monotonic
    seconds)."""

    # fmt: off
    __slots__ = (
        "_again", "_choices", "_connecting", "_failure", "_full", "_permit", "_plane", "_planner", "_queued",
        "_reaching", "_task", "_traveller", "_tried", "_trying", "_turn", "began", "place",
    )
    # fmt: on

    passing = True

    def __init__(
        self, plane: "TcpPlane", traveller: Traveller, planner: Planner, permit: Permit, choices: Sequence[Place]
    ) -> None:
        self._plane = plane
        self._traveller = traveller
        self._planner = planner
        self._permit = permit
        self._choices = iter(choices)
        self._failure: Outcome = _NOBODY
        self._tried: Try | None = None
        self._connecting: Connecting | None = None
        self._task: asyncio.Task[None] | None = None
        # Whether an answer of `reach` is outstanding; whether `next` is on the stack, and wanted once more.
        self._reaching = self._trying = self._again = False
        # The first that was full; who is waited for; for whom a place under the cap is kept, that was not used yet.
        self._full: Place | None = None
        self._queued: Place | None = None
        self._turn: Place | None = None
        self.began = 0.0
        self.place: Place | None = None

    def next(self) -> None:
        """Try the next endpoint, and those behind it where one fails at once."""
        if self._trying:
            self._again = True
            return
        self._trying = self._again = True
        try:
            while self._again:
                self._again = False
                self._try()
        finally:
            self._trying = False

    def renew(self, planner: Planner, permit: Permit, choices: Sequence[Place]) -> None:
        """Go on under another decision."""
        self._planner = planner
        self._permit = permit
        place = self._queued if self._connecting is None and self._task is None else self.place
        if place is not None and self._stands(place) and permit.covers(place.state.definition):
            self._choices = iter([choice for choice in choices if choice is not place])
            return
        self.stop()
        self._choices = iter(choices)
        self.next()

    def _stands(self, place: Place) -> bool:
        """Whether a reload has left it as it was, certificates and all. (`retired` is said a moment later.)"""
        state = place.state
        return self._planner.line.fleet.states.get(state.definition.name) is state

    def stop(self) -> None:
        """Try, and wait, no longer."""
        self._choices = iter(())
        self._full = None
        if self._queued is not None:
            self._queued.leave(self)
            self._queued = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._turn is not None:
            self._turn.state.closed()
            self._turn = None
        if self._connecting is not None:
            self._connecting.stop()
            self._connecting = None
            assert self.place is not None
            self.place.state.closed()
        self.left()

    def connected(self, took: float, now: float) -> None:
        """The endpoint in hand is connected, after so many seconds."""
        if self._tried is not None:
            self._tried.connected(took, now)

    def left(self) -> None:
        """What the try in hand came to is known, or is nobody's doing; or its connection has ended."""
        if self._tried is not None:
            self._tried.left()

    def time_out(self) -> None:
        """The dial in hand has had its time."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.time_out()

    def _try(self) -> None:
        now = time.monotonic()
        turn = self._turn
        if turn is not None:
            if self._planner is self._plane.planner and (tried := turn.begin(now)) is not None:
                self._begin(turn, tried, now)
                return
            self._turn = None
            turn.state.closed()
        if not self._decided():
            return
        for place in self._choices:
            if place.state.waiting is not None and place.state.full:
                self._full = self._full or place
            elif (tried := place.begin(now)) is not None:
                self._begin(place, tried, now)
                return
        full, self._full = self._full, None
        if full is not None:
            self._wait(full, now)
        else:
            self._traveller.unreachable(self._failure)

    def _begin(self, place: Place, tried: Try, now: float) -> None:
        self.place, self._tried = place, tried
        tally, listener = self._traveller.tally, self._traveller.arrival.listener
        tally.tries += 1
        if tally.tries > 1:
            self._plane.retried(place)
        self.began = now
        until = now + place.state.definition.timeouts.connect
        place.take(self._permit, now)
        if place.endpoint.scheme == "tls" and listener.protocol == "tcp":
            self._traveller.dialling(until)
            self._task = self._plane.loop.create_task(self._wrap(place))
            return
        self._reaching = True
        connecting = place.reach(self._permit, self._reached, self._missed, its_turn=self._is_its_turn())
        if self._reaching:
            self._connecting = connecting
            self._traveller.dialling(until)

    # Waiting for a provider that is full

    def _wait(self, place: Place, now: float) -> None:
        self.place = place
        if place.wait(self._permit, self, now):
            self._queued = place
            self._traveller.queued()
        else:
            self._traveller.unreachable(_NOBODY)

    def served(self, place: Place, connection: object) -> None:
        """Its turn has come: there is a place under the cap for it."""
        self._queued, self._turn = None, place
        try:
            self.next()
        except Exception as error:
            self._traveller.failed(error)

    def late(self) -> None:
        """It has waited for too long."""
        self._queued = None
        try:
            self._traveller.unreachable(_NOBODY)
        except Exception as error:
            self._traveller.failed(error)

    def _is_its_turn(self) -> bool:
        """Whether a place under the cap is kept for it, which is used now."""
        kept, self._turn = self._turn, None
        return kept is not None

    # What came of it

    def _decided(self) -> bool:
        """Whether the permit is of the line in force. If not, the connection is decided anew, and goes on by that.

        A reload decides living connections a share at a time: one that is about to use a provider comes first.
        """
        planner = self._plane.planner
        if self._planner is planner:
            return True
        self._traveller.redecide(planner, time.time())
        return False

    def _missed(self, failure: DialFailure) -> None:
        """The endpoint in hand could not be reached."""
        self._connecting, self._reaching = None, False
        try:
            self._go_on_after(failure)
        except Exception as error:
            self._traveller.failed(error)

    def _go_on_after(self, failure: DialFailure) -> None:
        self._failure = _FAILURES[failure.kind]
        self.left()
        assert self.place is not None
        self._plane.attempted(self.place, failure.kind)
        self.next()

    def _reached(self, sock: socket.socket) -> None:
        self._connecting, self._reaching = None, False
        try:
            if self._introduced(sock):
                self._traveller.reached(sock)
        except Exception as error:
            self._traveller.failed(error)

    def _introduced(self, sock: socket.socket) -> bool:
        """Whether the provider knows what it is to know; if not, its socket is closed, and something else goes on."""
        place, traveller = self.place, self._traveller
        assert place is not None
        provider = place.state.definition
        if self._planner is not self._plane.planner:
            self._give_up(place, sock)
            self.left()
            self._decided()
            return False
        try:
            header = introduction(provider, traveller.arrival, traveller.client, traveller.tally.request_id)
            _limit(traveller.client, sock, provider.timeouts.idle)
            if header and sock.send(header) < len(header):
                raise BlockingIOError("a new connection takes no header")
        except OSError:
            self._give_up(place, sock)
            if self._tried is not None:
                self._tried.failed("truncation", time.monotonic())
            self._go_on_after(DialFailure("refused", provider.name, place.endpoint.host, "connection reset"))
            return False
        except Exception:
            self._give_up(place, sock)
            raise
        return True

    def _give_up(self, place: Place, sock: socket.socket) -> None:
        close(sock, reset=True)
        place.state.closed()

    async def _wrap(self, place: Place) -> None:
        """As `reach`, with our TLS on it."""
        try:
            await self._wrap_or_miss(place)
        except Exception as error:
            self._task = None
            self._traveller.failed(error)

    async def _wrap_or_miss(self, place: Place) -> None:
        traveller = self._traveller
        header = introduction(place.state.definition, traveller.arrival, traveller.client, traveller.tally.request_id)
        try:
            _, side = await place.connect(
                self._permit, lambda: ProviderSide(place.state.closed), header, its_turn=self._is_its_turn()
            )
        except DialFailure as failure:
            self._task = None
            self._go_on_after(failure)
            return
        self._task = None
        if self._planner is self._plane.planner:
            traveller.wrapped(side)
        else:
            side.abort()
            self.left()
            self._decided()


def _limit(client: socket.socket, provider: socket.socket, idle: float) -> None:
    """How long the kernel waits, on either side, for a sign that what it sent has come. The rest is set already: by the
    dial on the provider's socket, by the accept stage on the client's."""
    patience = int(max(idle, _VANISHED) * 1000)
    provider.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
    with contextlib.suppress(OSError):  # a Unix socket has none
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
