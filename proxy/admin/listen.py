"""The socket of the admin endpoints."""

import os
import socket
import stat
from errno import EADDRINUSE
from pathlib import Path

from proxy.policy.settings import Bind, TcpBind, UnixBind

_MODE = 0o660


def listen(bind: Bind) -> tuple[socket.socket, Bind]:
    """A listening socket and where it is bound, with the port that the kernel chose for 0.

    A Unix socket is reachable for its owner and group. A path that a dead process left behind is taken over;
    one that somebody still serves is not. Raises OSError: the operator's to mend.
    """
    if isinstance(bind, UnixBind):
        return _listen_unix(bind.path), bind
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    listening = socket.create_server((bind.host, bind.port), family=family, backlog=128)
    return listening, bound_to(listening)


def bound_to(listening: socket.socket) -> Bind:
    """Where a socket is bound."""
    name = listening.getsockname()
    return UnixBind(Path(name)) if listening.family == socket.AF_UNIX else TcpBind(name[0], name[1])


def _listen_unix(path: Path) -> socket.socket:
    _clear(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the path the mode that the socket has when it is bound, less the umask: there is no moment of
        # a wider one, and the umask has no say.
        os.fchmod(listening.fileno(), _MODE)
        listening.bind(str(path))
        path.chmod(_MODE)
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


def _clear(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return  # and bind says that the address is in use
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        # A full backlog means that somebody is there, and must not be waited for.
        caller.setblocking(False)
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
    raise OSError(EADDRINUSE, os.strerror(EADDRINUSE), str(path))
