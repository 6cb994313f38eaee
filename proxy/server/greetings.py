"""Connections whose PROXY header or ClientHello is awaited.

The hello decides which certificate serves, so it is looked at before the handshake begins, and left where it is
(MSG_PEEK) for whoever makes the handshake. A header is looked at in the same way, and exactly its bytes are taken
once it is whole: what follows belongs to whoever comes next. Rules:
- A readiness callback that leaves its bytes in the socket would be called again at once, for ever. So the socket
  says how much it waits for (SO_RCVLOWAT), and gets its 1 back before it is handed on. Where that is not heeded
  (Unix sockets), the callback rests a while between looks.
- Everyone gets until one deadline. At most MOST wait at a time: past that the oldest goes, for a real client
  has spoken within a round trip and only those who never meant to are old.
"""

import select
import socket
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable

from proxy.server.door import Caller, Door
from proxy.server.farewell import DECODE_ERROR, Farewells
from proxy.wire import hello as hellos
from proxy.wire import proxy_header as headers
from proxy.wire.hello import Hello, read_hello
from proxy.wire.proxy_header import Header, read_proxy_header

MOST = 1024
"""How many connections may be in this state, over all listeners."""

SWEEP = 0.25
"""Seconds between looks at deadlines."""

_FIRST_REST = 0.01
_LONGEST_REST = 0.25
"""Seconds between looks at a socket that does not heed SO_RCVLOWAT."""

_TLS_HANDSHAKE = 22


class _Greeting:
    __slots__ = ("caller", "deadline", "door", "header", "needed", "rest", "resting", "sock", "watched")

    def __init__(self, door: Door, sock: socket.socket, caller: Caller, deadline: float, header: bool) -> None:
        self.header = header
        self.door = door
        self.sock = sock
        self.caller = caller
        self.deadline = deadline
        self.needed = 1
        self.watched = False
        self.rest = _FIRST_REST
        self.resting: TimerHandle | None = None


class Greetings:
    """Waits for what comes first on a connection, and calls with it.

    `heard(door, sock, caller, hello, deadline)`: the socket as it was given.
    `told(door, sock, caller, header, deadline)`: the socket without the header's bytes; header None where none came,
    but something else.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        farewells: Farewells,
        heard: Callable[[Door, socket.socket, Caller, Hello, float], None],
        told: Callable[[Door, socket.socket, Caller, Header | None, float], None],
    ) -> None:
        self._loop = loop
        self._farewells = farewells
        self._heard = heard
        self._told = told
        self._waiting: dict[_Greeting, None] = {}
        self._sweeping: TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def await_hello(self, door: Door, sock: socket.socket, caller: Caller, deadline: float) -> None:
        """Take over a non-blocking socket until its hello is there, or the loop's clock passes `deadline`."""
        self._await(_Greeting(door, sock, caller, deadline, header=False))

    def await_header(self, door: Door, sock: socket.socket, caller: Caller, deadline: float) -> None:
        """As `await_hello`, until a PROXY header is there, or whatever cannot become one."""
        self._await(_Greeting(door, sock, caller, deadline, header=True))

    def _await(self, greeting: _Greeting) -> None:
        if len(self._waiting) >= MOST:
            oldest = next(iter(self._waiting))
            oldest.door.counts.crowded_out += 1
            self._drop(oldest)
        self._waiting[greeting] = None
        greeting.door.pending += 1
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP, self._sweep)
        self._look(greeting)

    def close(self) -> None:
        """Drop everyone who has not greeted."""
        for greeting in list(self._waiting):
            self._drop(greeting)
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def _look(self, greeting: _Greeting) -> None:
        greeting.resting = None
        try:
            data = greeting.sock.recv(headers.LIMIT if greeting.header else hellos.LIMIT, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            self._watch(greeting)
            return
        except OSError:
            self._drop(greeting)
            return
        if not data:
            self._drop(greeting)
            return
        if greeting.header:
            self._look_for_header(greeting, data)
        else:
            self._look_for_hello(greeting, data)

    def _look_for_hello(self, greeting: _Greeting, data: bytes) -> None:
        found = read_hello(data)
        if isinstance(found, hellos.Incomplete):
            self._wait_for_more(greeting, len(data), found.needed)
        elif isinstance(found, hellos.NotHello):
            self._refuse(greeting, data)
        else:
            self._pass_on(greeting)
            self._heard(greeting.door, greeting.sock, greeting.caller, found, greeting.deadline)

    def _look_for_header(self, greeting: _Greeting, data: bytes) -> None:
        found = read_proxy_header(data)
        if isinstance(found, headers.Incomplete):
            self._wait_for_more(greeting, len(data), found.needed)
        elif isinstance(found, headers.Malformed) or (isinstance(found, Header) and not _take(greeting.sock, found)):
            greeting.door.counts.proxy_malformed += 1
            self._drop(greeting)
        else:
            self._pass_on(greeting)
            header = found if isinstance(found, Header) else None
            self._told(greeting.door, greeting.sock, greeting.caller, header, greeting.deadline)

    def _pass_on(self, greeting: _Greeting) -> None:
        if greeting.needed > 1:
            greeting.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._forget(greeting)

    def _wait_for_more(self, greeting: _Greeting, have: int, needed: int) -> None:
        if greeting.needed > have:
            # Woken with less than was asked for: either no more will come, or the socket heeds no such wish.
            if _ended(greeting.sock):
                self._drop(greeting)
                return
            self._unwatch(greeting)
            greeting.resting = self._loop.call_later(greeting.rest, self._look, greeting)
            greeting.rest = min(2 * greeting.rest, _LONGEST_REST)
        else:
            greeting.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)
            self._watch(greeting)
        greeting.needed = needed

    def _refuse(self, greeting: _Greeting, data: bytes) -> None:
        greeting.door.counts.not_tls += 1
        self._forget(greeting)
        if data[0] != _TLS_HANDSHAKE:
            greeting.sock.close()
            return
        self._farewells.say(greeting.sock, DECODE_ERROR)

    def _watch(self, greeting: _Greeting) -> None:
        if not greeting.watched:
            self._loop.add_reader(greeting.sock, self._look, greeting)
            greeting.watched = True

    def _unwatch(self, greeting: _Greeting) -> None:
        if greeting.watched:
            self._loop.remove_reader(greeting.sock)
            greeting.watched = False

    def _forget(self, greeting: _Greeting) -> None:
        self._unwatch(greeting)
        if greeting.resting is not None:
            greeting.resting.cancel()
            greeting.resting = None
        del self._waiting[greeting]
        greeting.door.passed_on()

    def _drop(self, greeting: _Greeting) -> None:
        self._forget(greeting)
        greeting.sock.close()

    def _sweep(self) -> None:
        now = self._loop.time()
        # A reload can change the time allowed, so a later one may be due before an earlier one.
        for greeting in [each for each in self._waiting if each.deadline <= now]:
            greeting.door.counts.too_slow += 1
            self._drop(greeting)
        self._sweeping = self._loop.call_later(SWEEP, self._sweep) if self._waiting else None


def _take(sock: socket.socket, header: Header) -> bool:
    """Take the header's bytes, which were seen to be there, and none behind them."""
    try:
        return len(sock.recv(header.length)) == header.length
    except OSError:
        return False


def _ended(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))
