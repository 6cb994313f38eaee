"""One worker process, as the master sees it."""

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
from asyncio import AbstractEventLoop
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from proxy.server.binding import Bound
from proxy.server.channel import Channel
from proxy.server.listening import Key
from proxy.server.orders import Answer, Ask, InForce, Lend, Order, Prepare, Prepared, Refused, Reported, answer, packed

LENT_AT_ONCE: Final = 100
"""Descriptors that one message carries."""

LOG_PIPE: Final = 1024 * 1024
"""Bytes of log that may wait in a worker's pipe, if the machine allows it."""


class WorkerDied(Exception):
    """The worker's own end came before its answer. Nobody else's state has changed."""


class Member:
    """A worker and the channel to it. serial: no other worker of this master ever has it. seat: which sockets it has.

    keys: binds that it has been lent sockets for. heard: when it last reported, the loop's seconds.
    """

    def __init__(self, serial: int, seat: int, loop: AbstractEventLoop, reported: Callable[[int, Reported], None]):
        self.serial = serial
        self.seat = seat
        self.keys: set[Key] = set()
        self.began = self.heard = loop.time()
        self.process: Process
        self._loop = loop
        self._reported = reported
        self._channel: Channel
        self._awaited: asyncio.Future[Answer] | None = None
        self._fresh: asyncio.Future[None] | None = None

    async def begin(self, processor: int | None) -> int:
        """Start the process; the descriptor at which its access log can be read. Raises OSError.

        processor: the one that it shall keep to, None for any.
        """
        ours, theirs = socket.socketpair()
        log, their_log = os.pipe()
        with contextlib.suppress(OSError):  # without privileges there is a limit for each user
            fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, LOG_PIPE)
        # With -P and our own search path, the folder we happen to be in is searched only if we search it.
        command = [sys.executable, "-P", "-m", "proxy.server.worker", str(theirs.fileno()), str(their_log)]
        try:
            self.process = await asyncio.create_subprocess_exec(
                *command,
                *([] if processor is None else [str(processor)]),
                stdin=DEVNULL,
                stdout=sys.stderr.fileno(),  # nothing but the access log goes to standard output
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=(theirs.fileno(), their_log),
                start_new_session=True,  # a signal to our group is ours
            )
        except OSError:
            ours.close()
            os.close(log)
            raise
        finally:
            theirs.close()
            os.close(their_log)
        self._channel = Channel(self._loop, ours, self._heard, self._ended)
        return log

    @property
    def pid(self) -> int:
        return self.process.pid

    # -- what it is told

    def lend(self, sockets: Mapping[Key, Sequence[Bound]]) -> None:
        """Lend it those of these sockets whose keys it has none for."""
        pairs = [(key, bound) for key, bounds in sockets.items() if key not in self.keys for bound in bounds]
        for start in range(0, len(pairs), LENT_AT_ONCE):
            some = pairs[start : start + LENT_AT_ONCE]
            keys = tuple(key for key, _ in some)
            self._channel.send(packed(Lend(keys)), [bound.sock.fileno() for _, bound in some])

    async def prepare(self, policy: bytes) -> Prepared | Refused:
        """Have it open a policy. Raises WorkerDied."""
        found = await self._ask(Prepare(policy))
        assert isinstance(found, Prepared | Refused)
        return found

    async def answers(self) -> InForce:
        """What it says once it has committed. Raises WorkerDied."""
        found = await self._answered()
        assert isinstance(found, InForce)
        return found

    def tell(self, order: Order) -> None:
        """Say something that is not answered, or whose answer is awaited later."""
        if not isinstance(order, Ask | Lend):
            self._awaited = self._loop.create_future()
        self._channel.send(packed(order))

    async def report(self) -> None:
        """Have it report now, and wait for that. It may end unanswered."""
        if self._fresh is None or self._fresh.done():
            self._fresh = self._loop.create_future()
            self.tell(Ask())
        await asyncio.shield(self._fresh)

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def close(self) -> None:
        """Its process has ended."""
        self._channel.close()
        self._ended()

    # -- what it says

    async def _ask(self, order: Order) -> Answer:
        self.tell(order)
        return await self._answered()

    async def _answered(self) -> Answer:
        assert self._awaited is not None
        return await self._awaited

    def _heard(self, frame: bytes, descriptors: list[int]) -> None:
        said = answer(frame)
        if isinstance(said, Reported):
            self.heard = self._loop.time()
            self._reported(self.serial, said)
            if self._fresh is not None and not self._fresh.done():
                self._fresh.set_result(None)
        elif self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(said)

    def _ended(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_exception(WorkerDied())
            self._awaited.exception()  # whoever waits is told; if nobody does, that is nothing unforeseen
        if self._fresh is not None and not self._fresh.done():
            self._fresh.set_result(None)
