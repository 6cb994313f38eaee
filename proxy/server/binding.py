"""Listening sockets: TCP over IPv4 or IPv6, or Unix."""

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from proxy.policy.settings import Bind, TcpBind, UnixBind

BACKLOG = 4096
"""How many connections may wait for us; the kernel cuts it to net.core.somaxconn."""

UNIX_MODE = 0o660
"""Who may connect to a Unix socket: its owner and group."""


class BindError(Exception):
    """The operator's to mend: a bind that is taken, not ours to open, or not on this machine.

    The text names the listener, the bind and the cause, on one line.
    """

    def __init__(self, who: str, bind: Bind, cause: OSError | str) -> None:
        """who: `listener NAME` or `admin`."""
        if isinstance(cause, OSError):
            # Not the text: asyncio adds to it what is said here anyhow.
            cause = os.strerror(cause.errno).lower() if cause.errno else str(cause)
        super().__init__(f"{who}: cannot bind {bind}: {cause}")


class Bound:
    """A listening, non-blocking socket and the bind it was opened for.

    lent: a supervisor opened it and opens it again, so a Unix socket's file is the supervisor's.
    """

    __slots__ = ("_file", "bind", "lent", "sock")

    def __init__(self, bind: Bind, sock: socket.socket, lent: bool = False) -> None:
        self.bind = bind
        self.sock = sock
        self.lent = lent
        self._file = _identity(bind.path) if isinstance(bind, UnixBind) else None

    def text(self) -> str:
        """Where it really listens: the bind, its port 0 replaced by what the kernel chose."""
        if isinstance(self.bind, UnixBind):
            return str(self.bind)
        return str(TcpBind(self.bind.host, self.sock.getsockname()[1]))

    def release(self) -> None:
        """Close, and leave a Unix socket's file to the program that listens there now."""
        self.sock.close()

    def close(self) -> None:
        """Close, and take away a Unix socket's file unless another program has replaced it."""
        theirs = self.lent or self._file is None
        if isinstance(self.bind, UnixBind) and not theirs and _identity(self.bind.path) == self._file:
            self.bind.path.unlink(missing_ok=True)
        self.sock.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def open_bind(listener: str, bind: Bind, many: int = 1) -> tuple[Bound, ...]:
    """Listen at the bind. Raises BindError.

    many: over TCP, so many sockets that share the port (SO_REUSEPORT); a Unix bind is one socket always.
    A Unix socket whose program is gone is replaced; one that still answers, or another kind of file, is not.
    """
    try:
        if isinstance(bind, UnixBind):
            return (Bound(bind, _open_unix(bind.path)),)
        _demand_free(bind)
        return _open_tcp(bind, many)
    except OSError as error:
        raise BindError(f"listener {listener}", bind, error) from error


def open_more(listener: str, bound: Bound, many: int) -> tuple[Bound, ...]:
    """So many further sockets beside one that is open, and that allows it. Raises BindError."""
    assert isinstance(bound.bind, TcpBind)
    try:
        found = _open_tcp(TcpBind(bound.bind.host, bound.sock.getsockname()[1]), many)
    except OSError as error:
        raise BindError(f"listener {listener}", bound.bind, error) from error
    return tuple(Bound(bound.bind, each.sock) for each in found)


def _demand_free(bind: TcpBind) -> None:
    # Sockets that share a port let any program of our user join. Whoever is there already would go unnoticed, and
    # take half of the connections: a socket that does not share is refused then.
    if bind.port:
        with _tcp_socket(bind) as probe:
            probe.bind((bind.host, bind.port))


def _open_tcp(bind: TcpBind, many: int) -> tuple[Bound, ...]:
    found: list[Bound] = []
    port = bind.port
    with contextlib.ExitStack() as undo:
        for _ in range(many):
            sock = undo.enter_context(_tcp_socket(bind))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((bind.host, port))
            port = sock.getsockname()[1]
            _listen(sock)
            found.append(Bound(bind, sock))
        undo.pop_all()
    return tuple(found)


def _tcp_socket(bind: TcpBind) -> socket.socket:
    six = ":" in bind.host
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if six:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _open_unix(path: Path) -> socket.socket:
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX))
        # Linux gives the new file the mode of the socket, less the umask: at no moment may more people connect.
        os.fchmod(sock.fileno(), UNIX_MODE)
        try:
            sock.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _stale(path):
                raise
            path.unlink()
            sock.bind(str(path))
        path.chmod(UNIX_MODE)
        _listen(sock)
        undo.pop_all()
        return sock


def _listen(sock: socket.socket) -> None:
    sock.listen(BACKLOG)
    sock.setblocking(False)


def _stale(path: Path) -> bool:
    """Whether the path is a socket at which nobody listens any more."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
