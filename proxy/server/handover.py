"""The running program's readiness to be succeeded: by its own start of the next one, or through the control socket.

While a successor starts on our sockets this program serves on and changes nothing; if that one ends before it serves,
all goes on as before.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from proxy.policy.settings import Bind
from proxy.server.binding import Bound
from proxy.server.journal import JOURNAL
from proxy.server.listening import Key
from proxy.server.load import LoadRefused
from proxy.server.succession import ENVIRONMENT, Control, Succession


class Handover:
    """One program's. `yielding`: a successor has the sockets and does not serve yet.

    sockets(), admin(): what we listen with. may(): None, or why this is no moment. failed(): the successor ended before
    it served. leave(pid): it serves.
    """

    def __init__(
        self,
        policy: Path,
        sockets: Callable[[], Iterable[tuple[Key, Bound]]],
        admin: Callable[[], tuple[Bind, socket.socket] | None],
        may: Callable[[], str | None],
        failed: Callable[[], None],
        leave: Callable[[int], None],
    ) -> None:
        self.yielding = False
        self._policy = policy
        self._may = may
        self._failed = failed
        self._leave = leave
        self._control: Control | None = None
        self._succession = Succession(sockets, admin, may, self._begin, self._give_up, self._end)

    def listen(self, path: Path | None) -> None:
        """Be found at this control socket from now on, and at no other. Raises LoadRefused, and all is as before."""
        control = None
        if path is not None:
            try:
                control = Control(path, self._succession.serve)
            except OSError as error:
                raise LoadRefused((f"control: {path}: {(error.strerror or 'cannot be opened').lower()}",)) from error
        self.close()
        self._control = control

    def close(self) -> None:
        """Be found no more."""
        if self._control is not None:
            self._control.close()
            self._control = None

    async def start_successor(self) -> None:
        """Start this program anew with its policy file, to take over."""
        why = "another program is taking over already" if self.yielding else self._may()
        if why is not None:
            JOURNAL.warning("no upgrade: %s", why)
            return
        ours, theirs = socket.socketpair()
        command = (sys.executable, "-P", "-m", "proxy.cli", "serve", "--upgrade", str(self._policy))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), ENVIRONMENT: str(theirs.fileno())}
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, env=environment, pass_fds=(theirs.fileno(),)
            )
        except OSError as error:
            ours.close()
            JOURNAL.error("no upgrade: the new program cannot be started: %s", os.strerror(error.errno or 0).lower())
            return
        finally:
            theirs.close()
        JOURNAL.info("upgrade: the next program is starting")
        self._succession.serve(ours, self._give_up)
        await process.wait()

    def _begin(self) -> None:
        self.yielding = True

    def _give_up(self) -> None:
        JOURNAL.error("upgrade: the new program ended before it served; this one serves on")
        self.yielding = False
        self._failed()

    def _end(self, pid: int) -> None:
        JOURNAL.info("upgrade: program %d serves", pid)
        self._leave(pid)
