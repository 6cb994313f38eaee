"""The accept stage: every client connection comes in here, whatever its listener.

    accept -> cap -> (PROXY header) -> (TLS: ClientHello -> certificate) -> hand over to the data plane

- Readiness callbacks accept; a connection costs a task only for its hand-over.
- A listener that is full answers 503 (TLS: closes) without reading.
- A PROXY header is looked for only where the peer is a trusted proxy. From anybody else the same bytes are what their
  client says, and no request: where a header is required such a peer is closed, elsewhere served as itself.
- Out of descriptors, or nearly, accepting pauses: the kernel's queue holds who comes, and what is kept free
  serves the admin endpoints, provider connections and reloads.
- `prepare` opens what a new policy needs and can fail; `commit` puts it in force and cannot. A bind that stays
  keeps its socket. One that goes is closed when its queue is empty, so nobody who was let in is reset.
"""

import asyncio
import logging
import os
import resource
import socket
import ssl
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from ipaddress import IPv6Address, ip_address

from proxy.http1.arrival import Arrival
from proxy.identity.addresses import unmapped
from proxy.identity.client_address import is_trusted
from proxy.policy.facts import Address
from proxy.policy.settings import Bind, Listener, TcpBind
from proxy.server.binding import BACKLOG, BindError, Bound, open_bind
from proxy.server.door import Door, Live, Opening
from proxy.server.farewell import OVERLOAD, Farewells
from proxy.server.greetings import Greetings
from proxy.wire.hello import Hello
from proxy.wire.proxy_header import Header

ACCEPTS = 64
"""Connections accepted a wake-up at most, so that one listener's burst does not hold up the others."""

PAUSE = 0.1
"""Seconds that accepting rests when descriptors run out."""

QUIET = 30.0
"""Seconds between two log lines that say so."""

TLS_GOODBYE = 5.0
"""Seconds that a client has to answer our close_notify."""

_SETTLING = 0.02
"""Seconds between looks at whether anybody is still coming in; once in a service's life."""

_SHORTEST_HANDSHAKE = 1.0
"""Seconds left for a handshake whose hello came just before the deadline."""

_PEERS = 4096
"""Addresses kept parsed."""

_log = logging.getLogger("domicile.accept")

_Key = tuple[str, Bind, int] | Bind


def kept_free(limit: int) -> int:
    """How many descriptors of `limit` clients may not take."""
    return min(max(16, limit // 16), 256, limit // 2)


class Prepared:
    """Sockets for the listeners of one policy: `commit` it or `abandon` it."""

    def __init__(self, plan: dict[_Key, tuple[str, Bound]], opened: list[Bound]) -> None:
        self.plan = plan
        self._opened = opened

    def abandon(self) -> None:
        for bound in self._opened:
            bound.close()


class AcceptStage:
    """Accepts for all listeners. `connect(arrival)` is the data plane's: the protocol that serves a connection.

    pauses: how often accepting paused for want of descriptors.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        connect: Callable[[Arrival], asyncio.Protocol],
        live: Callable[[str], Live],
    ) -> None:
        self._loop = loop
        self._connect = connect
        self._live = live
        self._doors: dict[str, Door] = {}
        self._bound: dict[_Key, tuple[Door, Bound]] = {}
        self._farewells = Farewells(loop)
        self._greetings = Greetings(loop, self._farewells, self._heard, self._told)
        self._handing: set[asyncio.Task[None]] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._paused: TimerHandle | None = None
        self._silent_until = 0.0
        self.pauses = 0
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # The kernel gives out the lowest free number, so a number this high says that all below are taken.
        self._highest = limit - kept_free(limit)

    # -- listeners

    def prepare(self, listeners: Iterable[Listener]) -> Prepared:
        """Open the sockets that these listeners need and that are not open yet. Raises BindError and opens none."""
        plan: dict[_Key, tuple[str, Bound]] = {}
        opened: list[Bound] = []
        try:
            for listener in listeners:
                for ordinal, bind in enumerate(listener.binds):
                    key = _key(listener.name, bind, ordinal)
                    if key in plan:
                        raise BindError(f"listener {listener.name}", bind, f"listener {plan[key][0]} has it")
                    if key in self._bound:
                        bound = self._bound[key][1]
                    else:
                        bound = open_bind(listener.name, bind)
                        opened.append(bound)
                    plan[key] = listener.name, bound
        except BindError:
            for bound in opened:
                bound.close()
            raise
        return Prepared(plan, opened)

    def commit(self, prepared: Prepared, openings: Iterable[Opening]) -> None:
        """Serve exactly what was prepared, from now on as `openings` (one for each listener) say."""
        for opening in openings:
            name = opening.listener.name
            if name in self._doors:
                self._doors[name].opening = opening
            else:
                self._doors[name] = Door(opening, self._live(name))
        for key in self._bound.keys() - prepared.plan.keys():
            self._close_bound(key)
        for key, (name, bound) in prepared.plan.items():
            new = key not in self._bound
            door = self._doors[name]
            if not new and self._bound[key][0] is not door:
                self._loop.remove_reader(bound.sock)
                new = True
            self._bound[key] = door, bound
            if new and self._paused is None:
                self._loop.add_reader(bound.sock, self._accept, door, bound)
        kept = {name for name, _ in prepared.plan.values()}
        for name in self._doors.keys() - kept:
            del self._doors[name]

    def addresses(self) -> dict[str, list[str]]:
        """Where each listener really listens."""
        found: dict[str, list[str]] = {name: [] for name in self._doors}
        for door, bound in self._bound.values():
            found[door.opening.listener.name].append(bound.text())
        return found

    def doors(self) -> Iterable[Door]:
        return self._doors.values()

    # -- the end

    def stop(self) -> None:
        """Take in who is queued, then listen no more. Who has not greeted yet may still do so."""
        for key in list(self._bound):
            self._close_bound(key)
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None

    async def settle(self, seconds: float) -> None:
        """Wait until all who came in are the data plane's; who is not within so many seconds is dropped."""
        for _ in range(int(seconds / _SETTLING)):
            if not self.pending():
                break
            await asyncio.sleep(_SETTLING)
        self.close()

    def pending(self) -> int:
        """Connections that are accepted and not the data plane's yet."""
        return len(self._greetings) + len(self._handing)

    def close(self) -> None:
        """Drop everything that is not the data plane's yet."""
        self.stop()
        self._greetings.close()
        self._farewells.close()
        for task in self._handshakes:
            task.cancel()

    def _close_bound(self, key: _Key) -> None:
        door, bound = self._bound.pop(key)
        self._loop.remove_reader(bound.sock)
        # As many as the queue held, and not for as long as somebody goes on connecting.
        self._accept_up_to(BACKLOG, door, bound, closing=True)
        bound.close()

    # -- connections

    def _accept(self, door: Door, bound: Bound) -> None:
        self._accept_up_to(ACCEPTS, door, bound)

    def _accept_up_to(self, most: int, door: Door, bound: Bound, closing: bool = False) -> None:
        for _ in range(most):
            try:
                sock, address = bound.sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # that client left while it was queued
            except OSError as error:
                self._pause((error.strerror or "accept fails").lower())
                return
            if sock.fileno() >= self._highest:
                self._pause("few file descriptors are left")
            self._admit(door, sock, address)
            if self._paused is not None and not closing:
                return

    def _admit(self, door: Door, sock: socket.socket, address: tuple[str, int] | str) -> None:
        opening = door.opening
        sock.setblocking(False)
        if door.full():
            door.counts.turned_away += 1
            if opening.certificates is None:
                self._farewells.say(sock, OVERLOAD)
            else:
                sock.close()
            return
        # A Unix peer's is text, mostly empty. TCP_NODELAY is the loop's doing.
        peer = _peer(address[0]) if isinstance(address, tuple) else None
        deadline = self._loop.time() + opening.head
        due = opening.listener.proxy_protocol
        if due == "none":
            self._greet(door, sock, peer, deadline)
        elif is_trusted(peer, opening.trusted):
            self._greetings.await_header(door, sock, peer, deadline)
        elif due == "optional":
            self._greet(door, sock, peer, deadline)
        else:
            door.counts.proxy_untrusted += 1
            sock.close()

    def _told(
        self, door: Door, sock: socket.socket, peer: Address | None, header: Header | None, deadline: float
    ) -> None:
        """A trusted proxy has spoken. What a reload changed meanwhile counts."""
        due = door.opening.listener.proxy_protocol
        if header is None and due != "required":
            self._greet(door, sock, peer, deadline)
        elif due == "none" or not is_trusted(peer, door.opening.trusted):
            door.counts.proxy_untrusted += 1
            sock.close()
        elif header is None:
            door.counts.proxy_missing += 1
            sock.close()
        else:
            client = peer if header.source is None else unmapped(header.source[0])
            self._greet(door, sock, client, deadline)

    def _greet(self, door: Door, sock: socket.socket, peer: Address | None, deadline: float) -> None:
        opening = door.opening
        if opening.certificates is None:
            arrival = Arrival(opening.listener, peer, tls=False, sni=None, certificate=None, ech=False)
            self._hand_over(door, sock, arrival, None, 0)
        else:
            self._greetings.await_hello(door, sock, peer, deadline)

    def _heard(self, door: Door, sock: socket.socket, peer: Address | None, hello: Hello, deadline: float) -> None:
        opening = door.opening
        if opening.certificates is None:  # a reload made the listener plain while this client greeted
            sock.close()
            return
        index = opening.certificates.choose(hello.server_name)
        arrival = Arrival(
            opening.listener,
            peer,
            tls=True,
            sni=hello.server_name,
            certificate=index,
            ech=hello.ech,
            demand=opening.certificates.demands[index],
        )
        patience = max(deadline - self._loop.time(), _SHORTEST_HANDSHAKE)
        self._hand_over(door, sock, arrival, opening.certificates.contexts[index], patience)

    def _hand_over(
        self, door: Door, sock: socket.socket, arrival: Arrival, context: ssl.SSLContext | None, patience: float
    ) -> None:
        door.pending += 1
        task = self._loop.create_task(self._wrap(door, sock, arrival, context, patience))
        self._handing.add(task)
        task.add_done_callback(self._handing.discard)
        if context is not None:
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _wrap(
        self, door: Door, sock: socket.socket, arrival: Arrival, context: ssl.SSLContext | None, patience: float
    ) -> None:
        try:
            if context is None:
                await self._loop.connect_accepted_socket(partial(self._connect_plain, door, arrival), sock)
            else:
                await self._loop.connect_accepted_socket(
                    partial(self._connect, arrival),
                    sock,
                    ssl=context,
                    ssl_handshake_timeout=patience,
                    ssl_shutdown_timeout=TLS_GOODBYE,
                )
        except (OSError, ssl.SSLError, asyncio.CancelledError):
            # The client's doing or its network's, and its address is nobody's business: a count is all there is.
            door.counts.handshake += 1
            sock.close()
        finally:
            if context is not None:
                door.passed_on()

    def _connect_plain(self, door: Door, arrival: Arrival) -> asyncio.Protocol:
        # Runs in the same turn of the loop as the protocol's connection_made, just before it: with the task's end,
        # a turn later, a burst would be counted twice and a listener be full too early.
        self._loop.call_soon(door.passed_on)
        return self._connect(arrival)

    # -- out of descriptors

    def _pause(self, cause: str) -> None:
        if self._paused is not None:
            return
        self.pauses += 1
        if self._loop.time() >= self._silent_until:
            self._silent_until = self._loop.time() + QUIET
            _log.warning("accepting pauses: %s", cause)
        for _, bound in self._bound.values():
            self._loop.remove_reader(bound.sock)
        self._paused = self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        if not self._bound:
            self._paused = None
            return
        try:
            probe = os.dup(next(iter(self._bound.values()))[1].sock.fileno())
        except OSError:
            probe = self._highest
        else:
            os.close(probe)
        if probe >= self._highest:
            self._paused = self._loop.call_later(PAUSE, self._resume)
            return
        self._paused = None
        for door, bound in self._bound.values():
            self._loop.add_reader(bound.sock, self._accept, door, bound)


def _key(listener: str, bind: Bind, ordinal: int) -> _Key:
    # Port 0 is another port for each that asks; every other bind is one socket, whoever's it is.
    return (listener, bind, ordinal) if isinstance(bind, TcpBind) and bind.port == 0 else bind


@lru_cache(_PEERS)
def _peer(text: str) -> Address:
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
