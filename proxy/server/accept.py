"""The accept stage: every client connection comes in here, whatever its listener.

    accept -> cap -> (PROXY header) -> (TLS: ClientHello -> certificate) -> hand over to the data plane

- Readiness callbacks accept; a connection costs a task only for its hand-over to the HTTP plane. The TCP plane takes
  the socket itself: of a tls listener with the ClientHello still in it, of a tcp listener unread.
- A listener that is full answers 503 (tls: an alert; else it closes) without reading.
- A PROXY header is looked for only where the peer is a trusted proxy. From anybody else the same bytes are what their
  client says, and no request: where a header is required such a peer is closed, elsewhere served as itself.
- Out of descriptors, or nearly, accepting pauses: the kernel's queue holds who comes, and what is kept free
  serves the admin endpoints, provider connections and reloads.
- Sockets are the master's, who lends them; a bind that stays keeps its sockets. One that goes is closed when its queue
  is empty, so nobody who was let in is reset.
"""

import asyncio
import logging
import os
import socket
import ssl
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from ipaddress import IPv6Address, ip_address

from proxy.http1.arrival import Arrival
from proxy.identity.addresses import unmapped
from proxy.identity.client_address import is_trusted
from proxy.policy.facts import Address
from proxy.policy.settings import Listener
from proxy.providers.connect import KEEP_ALIVE
from proxy.providers.descriptors import for_clients
from proxy.server.binding import BACKLOG
from proxy.server.door import Caller, Door, Live, Opening
from proxy.server.farewell import INTERNAL_ERROR, OVERLOAD, Farewells
from proxy.server.greetings import Greetings
from proxy.server.listening import Key, keys
from proxy.tcp.arrival import Arrival as Passing
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

HELLO = 5.0
"""Seconds that the ClientHello of a connection may take that is not decrypted here, if `timeouts.head` allows more."""

_SHORTEST_HANDSHAKE = 1.0
"""Seconds left for a handshake whose hello came just before the deadline."""

_PEERS = 4096
"""Addresses kept parsed."""

_log = logging.getLogger("domicile.accept")


class AcceptStage:
    """Accepts for all listeners. `connect(arrival)` is the HTTP plane's: the protocol that serves a connection.
    `take(arrival, sock)` is the TCP plane's: it owns the socket from then on.

    pauses: how often accepting paused for want of descriptors.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        connect: Callable[[Arrival], asyncio.Protocol],
        live: Callable[[str], Live],
        take: Callable[[Passing, socket.socket], None],
    ) -> None:
        self._loop = loop
        self._connect = connect
        self._take = take
        self._live = live
        self._doors: dict[str, Door] = {}
        self._bound: dict[Key, tuple[Door, Sequence[socket.socket]]] = {}
        self._farewells = Farewells(loop)
        self._greetings = Greetings(loop, self._farewells, self._heard, self._told)
        self._handing: set[asyncio.Task[None]] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._paused: TimerHandle | None = None
        self._silent_until = 0.0
        self.pauses = 0

    # -- listeners

    def commit(self, openings: Sequence[Opening], given: Mapping[Key, Sequence[socket.socket]]) -> None:
        """Serve exactly these listeners from now on, on the sockets that are there and on those `given`."""
        for opening in openings:
            name = opening.listener.name
            if name in self._doors:
                self._doors[name].opening = opening
            else:
                self._doors[name] = Door(opening, self._live(name))
        plan = keys(opening.listener for opening in openings)
        for key in self._bound.keys() - plan.keys():
            self._close_bound(key)
        for key, name in plan.items():
            door = self._doors[name]
            known = self._bound.get(key)
            if known is not None and known[0] is door:
                continue
            socks = given[key] if known is None else known[1]
            self._bound[key] = door, socks
            for sock in socks:
                _give_options(sock)
                if self._paused is None:
                    self._loop.add_reader(sock, self._accept, door, sock)
        for name in self._doors.keys() - set(plan.values()):
            del self._doors[name]

    def keys(self) -> Collection[Key]:
        """The binds that it listens at."""
        return self._bound.keys()

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

    def _close_bound(self, key: Key) -> None:
        door, socks = self._bound.pop(key)
        for sock in socks:
            self._loop.remove_reader(sock)
            # As many as the queue held, and not for as long as somebody goes on connecting.
            self._accept_up_to(BACKLOG, door, sock, closing=True)
            sock.close()

    # -- connections

    def _accept(self, door: Door, listening: socket.socket) -> None:
        self._accept_up_to(ACCEPTS, door, listening)

    def _accept_up_to(self, most: int, door: Door, listening: socket.socket, closing: bool = False) -> None:
        highest = for_clients()  # a limit may be changed under a running program
        for _ in range(most):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # that client left while it was queued
            except OSError as error:
                self._pause((error.strerror or "accept fails").lower())
                return
            if sock.fileno() >= highest:
                self._pause("few file descriptors are left")
            self._admit(door, sock, address)
            if self._paused is not None and not closing:
                return

    def _admit(self, door: Door, sock: socket.socket, address: tuple[str, int] | str) -> None:
        opening = door.opening
        sock.setblocking(False)
        if door.full():
            door.counts.turned_away += 1
            self._turn_away(opening, sock)
            return
        # A Unix peer's is text, mostly empty.
        caller = Caller(_peer(address[0]), address[1]) if isinstance(address, tuple) else Caller(None)
        passing = opening.listener.protocol == "tls"
        deadline = self._loop.time() + (min(opening.head, HELLO) if passing else opening.head)
        due = opening.listener.proxy_protocol
        if due == "none":
            self._greet(door, sock, caller, deadline)
        elif is_trusted(caller.peer, opening.trusted):
            self._greetings.await_header(door, sock, caller, deadline)
        elif due == "optional":
            self._greet(door, sock, caller, deadline)
        else:
            door.counts.proxy_untrusted += 1
            sock.close()

    def _turn_away(self, opening: Opening, sock: socket.socket) -> None:
        if opening.listener.protocol == "tls":
            self._farewells.say(sock, INTERNAL_ERROR)
        elif opening.listener.protocol == "http" and opening.certificates is None:
            self._farewells.say(sock, OVERLOAD)
        else:
            sock.close()

    def _told(self, door: Door, sock: socket.socket, caller: Caller, header: Header | None, deadline: float) -> None:
        """A trusted proxy has spoken. What a reload changed meanwhile counts."""
        due = door.opening.listener.proxy_protocol
        if header is None and due != "required":
            self._greet(door, sock, caller, deadline)
        elif due == "none" or not is_trusted(caller.peer, door.opening.trusted):
            door.counts.proxy_untrusted += 1
            sock.close()
        elif header is None:
            door.counts.proxy_missing += 1
            sock.close()
        else:
            self._greet(door, sock, _told_by(caller, header), deadline)

    def _greet(self, door: Door, sock: socket.socket, caller: Caller, deadline: float) -> None:
        opening = door.opening
        if opening.listener.protocol == "tcp":
            self._take(_passing(opening.listener, caller, None), sock)
        elif opening.listener.protocol == "tls" or opening.certificates is not None:
            self._greetings.await_hello(door, sock, caller, deadline)
        else:
            arrival = Arrival(opening.listener, caller.peer, tlvs=caller.tlvs)
            self._hand_over(door, sock, arrival, None, 0)

    def _heard(self, door: Door, sock: socket.socket, caller: Caller, hello: Hello, deadline: float) -> None:
        opening = door.opening
        if opening.listener.protocol == "tls":
            self._take(_passing(opening.listener, caller, hello), sock)
            return
        if opening.certificates is None:  # a reload made the listener another while this client greeted
            sock.close()
            return
        index = opening.certificates.choose(hello.server_name)
        arrival = Arrival(
            opening.listener,
            caller.peer,
            tls=True,
            sni=hello.server_name,
            certificate=index,
            ech=hello.ech,
            demand=opening.certificates.demands[index],
            tlvs=caller.tlvs,
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
        for _, socks in self._bound.values():
            for sock in socks:
                self._loop.remove_reader(sock)
        self._paused = self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        if not self._bound:
            self._paused = None
            return
        highest = for_clients()
        try:
            probe = os.dup(next(iter(self._bound.values()))[1][0].fileno())
        except OSError:
            probe = highest
        else:
            os.close(probe)
        if probe >= highest:
            self._paused = self._loop.call_later(PAUSE, self._resume)
            return
        self._paused = None
        for door, socks in self._bound.values():
            for sock in socks:
                self._loop.add_reader(sock, self._accept, door, sock)


def _give_options(listening: socket.socket) -> None:
    """What every connection inherits from the socket that it comes to: a call each, once and for all."""
    if listening.family == socket.AF_UNIX:
        return
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEP_ALIVE:
        listening.setsockopt(socket.IPPROTO_TCP, option, value)


def _passing(listener: Listener, caller: Caller, hello: Hello | None) -> Passing:
    peer, port, destination, tlvs = caller
    if hello is None:
        return Passing(listener, peer, port, destination=destination, tlvs=tlvs)
    return Passing(listener, peer, port, hello.server_name, hello.alpn, hello.ech, destination, tlvs)


def _told_by(caller: Caller, header: Header) -> Caller:
    """Who a believed header says that it is; the connection's own peer where it names nobody."""
    if header.source is None:
        return Caller(caller.peer, caller.port, None, header.fields)
    destination = None if header.destination is None else (unmapped(header.destination[0]), header.destination[1])
    return Caller(unmapped(header.source[0]), header.source[1], destination, header.fields)


@lru_cache(_PEERS)
def _peer(text: str) -> Address:
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
