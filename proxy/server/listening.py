"""The master's listening sockets: opened here, lent to workers, and closed here.

- A TCP bind has one SO_REUSEPORT socket for each worker, so that the kernel shares its connections out. A Unix bind,
  or a socket that came from outside without that option, is one that all workers share.
- A socket stays open here while its bind is in force: a worker that dies leaves its queue to whoever replaces it.
- `prepare` opens what a new policy needs and can fail; `commit` puts it in force and cannot.
"""

import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from proxy.policy.settings import Bind, Listener, TcpBind, UnixBind
from proxy.server.binding import BindError, Bound, open_bind, open_more

Key = tuple[str, Bind, int] | Bind
"""What a socket is known by: its bind. Port 0 is another port for each that asks: listener and ordinal go with it."""


def keys(listeners: Iterable[Listener]) -> dict[Key, str]:
    """Each bind of the listeners, and whose it is. Raises BindError where two want the same."""
    found: dict[Key, str] = {}
    for listener in listeners:
        for ordinal, bind in enumerate(listener.binds):
            own = (listener.name, bind, ordinal) if isinstance(bind, TcpBind) and bind.port == 0 else bind
            if own in found:
                raise BindError(f"listener {listener.name}", bind, f"listener {found[own]} has it")
            found[own] = listener.name
    return found


def bind_of(key: Key) -> Bind:
    """The bind that a key stands for."""
    return key[1] if isinstance(key, tuple) else key


class Prepared:
    """Sockets for the listeners of one policy: `Sockets.commit` it or `abandon` it."""

    def __init__(self, plan: dict[Key, tuple[str, tuple[Bound, ...]]], opened: Sequence[Bound]) -> None:
        self.plan = plan
        self._opened = opened

    def abandon(self) -> None:
        """Close what was opened for it."""
        for bound in self._opened:
            bound.close()


class Sockets:
    """All listening sockets of the program. workers: how many processes share them.

    inherited: sockets that another program opened, by key; those that the first policy does not name are closed.
    """

    def __init__(self, workers: int, inherited: Mapping[Key, Sequence[Bound]] | None = None) -> None:
        self._workers = workers
        self._inherited = {key: tuple(bounds) for key, bounds in (inherited or {}).items()}
        self._plan: dict[Key, tuple[str, tuple[Bound, ...]]] = {}

    def prepare(self, listeners: Iterable[Listener]) -> Prepared:
        """Open the sockets that these listeners need and that are not open yet. Raises BindError and opens none."""
        plan: dict[Key, tuple[str, tuple[Bound, ...]]] = {}
        opened: list[Bound] = []
        try:
            for key, name in keys(listeners).items():
                bounds = self._plan[key][1] if key in self._plan else self._inherited.get(key, ())
                new = self._missing(name, bind_of(key), bounds)
                opened += new
                plan[key] = name, (*bounds, *new)
        except BindError:
            Prepared(plan, opened).abandon()
            raise
        return Prepared(plan, opened)

    def _missing(self, name: str, bind: Bind, bounds: Sequence[Bound]) -> tuple[Bound, ...]:
        if not bounds:
            return open_bind(name, bind, self._workers)
        lacking = self._workers - len(bounds)
        if lacking <= 0 or isinstance(bind, UnixBind) or not _shares(bounds[0]):
            return ()
        try:
            return open_more(name, bounds[0], lacking)
        except BindError:
            if bounds[0].lent:  # by another user, with whom nobody else may share a port: all share what is there
                return ()
            raise

    def commit(self, prepared: Prepared) -> None:
        """Keep exactly what was prepared. Of what goes, workers take in who is queued, and close last."""
        kept = {id(bound) for _, bounds in prepared.plan.values() for bound in bounds}
        for bounds in (*(bounds for _, bounds in self._plan.values()), *self._inherited.values()):
            for bound in bounds:
                if id(bound) not in kept:
                    bound.close()
        self._inherited = {}
        self._plan = prepared.plan

    def addresses(self) -> dict[str, list[str]]:
        """Where each listener really listens."""
        found: dict[str, list[str]] = {}
        for name, bounds in self._plan.values():
            found.setdefault(name, []).append(bounds[0].text())
        return found

    def all(self) -> dict[Key, tuple[Bound, ...]]:
        """Every socket in force, by key."""
        return {key: bounds for key, (_, bounds) in self._plan.items()}

    def close(self) -> None:
        """Close all of them here; workers that still have them listen on."""
        for bounds in (*self.all().values(), *self._inherited.values()):
            for bound in bounds:
                bound.close()
        self._plan = {}

    def release(self) -> None:
        """As `close`, where another program has them from now on."""
        for bounds in self.all().values():
            for bound in bounds:
                bound.release()
        self._plan = {}


def share(plan: Mapping[Key, tuple[str, tuple[Bound, ...]]], worker: int, workers: int) -> dict[Key, tuple[Bound, ...]]:
    """Which of a plan's sockets one worker serves: each socket has one at least, and each worker one for each key."""
    return {
        key: bounds[worker::workers] if len(bounds) >= workers else (bounds[worker % len(bounds)],)
        for key, (_, bounds) in plan.items()
    }


def by_address(sock: socket.socket) -> Bind | None:
    """The bind that a listening socket from outside fits; None for one that no bind can name."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        text = address if isinstance(address, str) else ""
        return UnixBind(Path(text)) if text and not text.startswith("\0") else None
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        return TcpBind(address[0], address[1])
    return None


def _shares(bound: Bound) -> bool:
    return bool(bound.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
