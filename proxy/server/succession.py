"""How a new program takes the place of the old one without a connection being refused in between.

    new                                  old
    {"take": 1}   -------------------->
                  <--------------------  {"sockets": [...]} with their descriptors, as often as it takes
                  <--------------------  {"all": true} | {"refused": why}
    starts its workers on the same sockets
    {"serving": pid}  ---------------->  drains, and ends
                  <--------------------  {"leaving": true}

Until `serving` nothing has changed for the old program, and if the new one ends before, it goes on. They speak over the
policy's `control` socket (0600, and a peer of our own user or root), or over a socket pair when the old one started
the new one itself.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from proxy.policy.settings import Bind, TcpBind, UnixBind
from proxy.server.binding import Bound
from proxy.server.channel import Channel
from proxy.server.listening import Key, bind_of

VERSION: Final = 1
"""Of what is said here: programs of two versions speak with each other."""

PATIENCE: Final = 10.0
"""Seconds for the old program's answer."""

ENVIRONMENT: Final = "DOMICILE_SUCCESSION"
"""Names the descriptor of the socket pair to the program that was started to be the next."""

_AT_ONCE: Final = 100


class NoPredecessor(Exception):
    """The operator's to know: there is no program to take over from, or it does not give way. Its text says why."""


class Inheritance:
    """What the old program gave. sockets: by key. admin: its admin endpoints' bind and socket, None without them."""

    def __init__(self, channel: Channel, ended: asyncio.Event) -> None:
        self.sockets: dict[Key, list[Bound]] = {}
        self.admin: tuple[Bind, socket.socket] | None = None
        self._channel = channel
        self._ended = ended
        self.left = asyncio.Event()

    async def serving(self) -> None:
        """Tell the old program that we serve, and wait until it has begun to leave, or is gone."""
        self._channel.send(json.dumps({"serving": os.getpid()}).encode())
        waits = [asyncio.ensure_future(each.wait()) for each in (self.left, self._ended)]
        _, late = await asyncio.wait(waits, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        for each in late:
            each.cancel()
        self._channel.close()


async def take_over(control: Path | None) -> Inheritance:
    """The sockets of the program that runs: our parent's if it started us for that, else at `control`.

    Raises NoPredecessor.
    """
    given = os.environ.pop(ENVIRONMENT, None)
    if given is not None:
        sock = socket.socket(fileno=int(given))
    elif control is None:
        raise NoPredecessor("the policy has no `control`, so the program that runs cannot be found")
    else:
        sock = _connected(control)
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()
    ended = asyncio.Event()

    def heard(frame: bytes, descriptors: list[int]) -> None:
        said: dict[str, Any] = json.loads(frame)
        for entry, descriptor in zip(said.get("sockets", ()), descriptors, strict=False):
            taken = socket.socket(fileno=descriptor)
            taken.setblocking(False)
            key = _key(entry)
            if "admin" in entry:
                inheritance.admin = bind_of(key), taken
            else:
                inheritance.sockets.setdefault(key, []).append(Bound(bind_of(key), taken, "lent" in entry))
        if "leaving" in said:
            inheritance.left.set()
        if answered.done():
            return
        if "refused" in said:
            answered.set_exception(NoPredecessor(f"the program that runs does not give way: {said['refused']}"))
        elif "all" in said:
            answered.set_result(None)

    def end() -> None:
        ended.set()
        if not answered.done():
            answered.set_exception(NoPredecessor("the program that runs ended meanwhile"))

    channel = Channel(loop, sock, heard, end)
    inheritance = Inheritance(channel, ended)
    channel.send(json.dumps({"take": VERSION}).encode())
    try:
        async with asyncio.timeout(PATIENCE):
            await answered
    except TimeoutError:
        channel.close()
        raise NoPredecessor(f"the program that runs did not answer within {PATIENCE:g} seconds") from None
    except NoPredecessor:
        channel.close()
        raise
    return inheritance


def _connected(control: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(control))
    except OSError as error:
        sock.close()
        raise NoPredecessor(f"nobody answers at {control}: {os.strerror(error.errno or 0).lower()}") from None
    return sock


class Succession:
    """The old program's side.

    sockets(), admin(): what it listens with. may(): None, or why this is no moment to give way. begun(), failed(): a
    successor has the sockets; it ended before it served. leave(pid): it serves.
    """

    def __init__(
        self,
        sockets: Callable[[], Iterable[tuple[Key, Bound]]],
        admin: Callable[[], tuple[Bind, socket.socket] | None],
        may: Callable[[], str | None],
        begun: Callable[[], None],
        failed: Callable[[], None],
        leave: Callable[[int], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._admin = admin
        self._may = may
        self._begun = begun
        self._failed = failed
        self._leave = leave
        self._heir: Channel | None = None
        self._taken = False

    def serve(self, sock: socket.socket, unasked: Callable[[], None] | None = None) -> None:
        """Speak with a program that wants to be the next. unasked(): it ended without ever asking for the sockets."""

        def heard(frame: bytes, descriptors: list[int]) -> None:
            for descriptor in descriptors:
                os.close(descriptor)
            self._heard(channel, frame)

        def ended() -> None:
            if self._heir is channel:
                self._heir = None
                self._failed()
            elif unasked is not None and not self._taken:
                unasked()

        channel = Channel(self._loop, sock, heard, ended)

    def _heard(self, channel: Channel, frame: bytes) -> None:
        try:
            said = json.loads(frame)
        except ValueError:
            said = {}
        if "take" in said:
            why = self._why_not(said["take"])
            if why is None:
                self._hand_over(channel)
            else:
                channel.send(json.dumps({"refused": why}).encode())
        elif "serving" in said and self._heir is channel:
            self._heir = None
            self._taken = True
            self._leave(int(said["serving"]))
            # Last, so that whoever supervises us knows the new program before that speaks to it.
            channel.send(json.dumps({"leaving": True}).encode())

    def _why_not(self, version: object) -> str | None:
        if version != VERSION:
            return "it speaks another version"
        if self._heir is not None or self._taken:
            return "another program is taking over already"
        return self._may()

    def _hand_over(self, channel: Channel) -> None:
        self._heir = channel
        self._begun()
        pairs = list(self._sockets())
        for start in range(0, len(pairs), _AT_ONCE):
            some = pairs[start : start + _AT_ONCE]
            entries = [{**_entry(key), "lent": True} if bound.lent else _entry(key) for key, bound in some]
            channel.send(json.dumps({"sockets": entries}).encode(), [bound.sock.fileno() for _, bound in some])
        admin = self._admin()
        if admin is not None:
            entry = {**_entry(admin[0]), "admin": True}
            channel.send(json.dumps({"sockets": [entry]}).encode(), [admin[1].fileno()])
        channel.send(json.dumps({"all": True}).encode())


class Control:
    """The control socket: who may connect is our own user and root."""

    def __init__(self, path: Path, serve: Callable[[socket.socket], None]) -> None:
        """Listen at the path, in place of whoever did. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._serve = serve
        self._sock = _replace(path)
        self._file = path.lstat().st_ino
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        if _peer(sock) in (0, os.geteuid()):
            self._serve(sock)
        else:
            sock.close()

    def close(self) -> None:
        """Listen no more, and take the file away unless a successor's is there."""
        self._loop.remove_reader(self._sock)
        self._sock.close()
        with contextlib.suppress(OSError):
            if self._path.lstat().st_ino == self._file:
                self._path.unlink()


def occupied(path: Path) -> bool:
    """Whether a program answers at a control socket."""
    try:
        _connected(path).close()
    except NoPredecessor:
        return False
    return True


def _replace(path: Path) -> socket.socket:
    # Beside it and then in its place: at no moment is there none, or one that more people may connect to.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    sock = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(sock.fileno(), 0o600)
        beside.unlink(missing_ok=True)
        sock.bind(str(beside))
        beside.chmod(0o600)
        sock.listen(4)
        sock.setblocking(False)
        beside.rename(path)
    except OSError:
        sock.close()
        beside.unlink(missing_ok=True)
        raise
    return sock


def _peer(sock: socket.socket) -> int:
    size = struct.calcsize("iII")
    _, user, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(user)


def _entry(key: Key) -> dict[str, Any]:
    bind = bind_of(key)
    entry: dict[str, Any] = (
        {"unix": str(bind.path)} if isinstance(bind, UnixBind) else {"host": bind.host, "port": bind.port}
    )
    if isinstance(key, tuple):
        entry |= {"listener": key[0], "ordinal": key[2]}
    return entry


def _key(entry: Mapping[str, Any]) -> Key:
    if "unix" in entry:
        return UnixBind(Path(entry["unix"]))
    bind: Bind = TcpBind(entry["host"], entry["port"])
    return (entry["listener"], bind, entry["ordinal"]) if "listener" in entry else bind
