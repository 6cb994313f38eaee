"""The master: one policy file, served by workers until a signal ends it or another program takes over.

    start -> serve -> reload* -> drain -> exit

- No client's byte passes through here. The master opens the listening sockets, keeps the workers, serves the admin
  endpoints and writes the access log.
- A reload replaces everything that the policy decides, in all workers, or nothing: whatever can fail is done first,
  beside what serves. One at a time; signals that come meanwhile become one more.
- The number of workers is a program's for its life; an upgrade brings another.
"""

import asyncio
import signal
import socket
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

from proxy.admin import (
    AdminServer,
)
from proxy.config import Loaded
from proxy.policy.policy import Policy
from proxy.policy.settings import Bind
from proxy.server.account import introduction
from proxy.server.binding import BindError, Bound
from proxy.server.crew import Crew
from proxy.server.garbage import collect_retired, set_aside
from proxy.server.handover import Handover
from proxy.server.journal import JOURNAL, unforeseen
from proxy.server.listening import Key, Sockets, by_address
from proxy.server.load import LoadRefused
from proxy.server.notify import Notifier, activated
from proxy.server.overview import Overview, Standing
from proxy.server.processors import processors, usable
from proxy.server.reread import reread
from proxy.server.succession import Inheritance, occupied, take_over
from proxy.telemetry.log_collector import LogCollector
from proxy.telemetry.log_target import Target
from proxy.telemetry.metrics import Metrics

LOOK = 1.0
"""Seconds between looks at the workers."""

YOUNG = 1000
"""Objects made and not freed before the collector looks for cycles. What the master does is little, and seldom."""


class Master:
    """One program's master process. `serve` is its life."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._metrics = Metrics()
        self._overview = Overview(self._metrics, lambda: self._crew, self._standing)
        self._notifier = Notifier()
        self._policy: Policy
        self._sockets: Sockets
        self._crew: Crew
        self._log: LogCollector
        self._admin: AdminServer
        self._handover: Handover
        self._started = False
        self._draining = False
        self._succeeded = False
        self._terminated = asyncio.Event()
        self._hasty = asyncio.Event()
        self._reload_wanted = False
        self._reloading: asyncio.Task[None] | None = None
        self._aside: set[asyncio.Task[None]] = set()

    async def serve(self, loaded: Loaded, upgrade: bool) -> None:
        """From start to end. Raises LoadRefused, BindError and NoPredecessor if it cannot start."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(unforeseen)
        self._listen_to_signals(loop)
        inheritance = await take_over(loaded.policy.control) if upgrade else None
        await self._start(loaded, inheritance)
        self._do_aside(self._look_on())
        await self._terminated.wait()
        await self._end()

    def _listen_to_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        def terminate() -> None:
            if self._terminated.is_set():
                self._hasty.set()
            self._terminated.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, terminate)
        loop.add_signal_handler(signal.SIGHUP, self._want_reload)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_log)
        loop.add_signal_handler(signal.SIGUSR2, self._want_upgrade)

    # -- start

    async def _start(self, loaded: Loaded, inheritance: Inheritance | None) -> None:
        policy = loaded.policy
        if policy.control is not None and inheritance is None and occupied(policy.control):
            raise LoadRefused((f"control: a program answers at {policy.control}; `serve --upgrade` takes its place",))
        size = policy.workers.count or usable()
        self._policy = policy
        self._sockets = Sockets(size, _inherited(inheritance))
        self._handover = Handover(
            self._path, self._handed, self._handed_admin, self._may_leave, self._stay, self._leave
        )
        prepared = self._sockets.prepare(policy.listeners)
        try:
            self._log = LogCollector(_target(policy.log.path))
            self._crew = Crew(
                size,
                processors() if policy.workers.affinity else [],
                self._log.attach,
                self._overview.heard,
                self._overview.gone,
            )
            self._admin = await self._open_admin(policy.admin.bind, None if inheritance is None else inheritance.admin)
        except (LoadRefused, BindError):
            prepared.abandon()
            raise
        self._metrics.log_dropped(lambda: self._log.dropped)
        self._metrics.workers(lambda: self._crew.living, lambda: self._crew.restarted)
        try:
            await self._crew.begin(policy, prepared.plan)
            self._sockets.commit(prepared)
            self._handover.listen(policy.control)
        except BaseException:
            self._crew.kill()
            prepared.abandon()
            await self._admin.close()
            raise
        self._told_policy(policy)
        _tell(loaded.findings)
        self._introduce()
        self._started = True
        if inheritance is not None:
            await inheritance.serving()
        set_aside(YOUNG)
        self._notifier.ready(f"policy {policy.digest}")
        if self._reload_wanted:
            self._want_reload()

    async def _open_admin(self, bind: Bind, inherited: tuple[Bind, socket.socket] | None = None) -> AdminServer:
        where: Bind | socket.socket = bind
        if inherited is not None and inherited[0] == bind:
            where = inherited[1]
        elif inherited is not None:
            inherited[1].close()
        admin = AdminServer(where, self._overview.exposition, self._overview.readiness, self._overview.status)
        try:
            await admin.start()
        except OSError as error:
            raise BindError("admin", bind, error) from error
        return admin

    def _standing(self) -> Standing:
        return Standing(self._policy, self._sockets.addresses(), self._started, self._draining, self._log.problem)

    def _told_policy(self, policy: Policy) -> None:
        self._policy = policy
        self._metrics.policy(policy.digest, [rule.name for rule in policy.rules])

    def _introduce(self) -> None:
        for line in introduction(self._policy, self._sockets.addresses()):
            JOURNAL.info("%s", line)
        if self._admin.bound is not None:
            JOURNAL.info("admin: http on %s", self._admin.bound)
        JOURNAL.info("workers: %s", ", ".join(map(str, self._crew.pids())))
        JOURNAL.info("serving %s, policy %s", self._path, self._policy.digest)

    # -- reload

    def _want_reload(self) -> None:
        self._reload_wanted = True
        if self._started and self._reloading is None and not self._draining and not self._handover.yielding:
            self._reloading = asyncio.get_running_loop().create_task(self._reload_while_wanted())

    async def _reload_while_wanted(self) -> None:
        try:
            while self._reload_wanted and not self._draining:
                self._reload_wanted = False
                self._notifier.reloading()
                await self._reload()
                collect_retired(asyncio.get_running_loop())
                self._notifier.ready(f"policy {self._policy.digest}")
        finally:
            self._reloading = None

    async def _reload(self) -> None:
        try:
            loaded = await reread(self._path)
            async with self._crew.quiet():
                await self._swap(loaded.policy)
        except (LoadRefused, BindError) as error:
            self._metrics.reloaded("refused")
            mistakes = error.mistakes if isinstance(error, LoadRefused) else (str(error),)
            for mistake in mistakes:
                JOURNAL.error("%s", mistake)
            JOURNAL.error("the new policy is refused; policy %s stays in force", self._policy.digest)
            return
        except Exception:
            # A mistake of this program: counted, and told by the loop's handler.
            self._metrics.reloaded("refused")
            raise
        self._metrics.reloaded("loaded")
        _tell(loaded.findings)
        if (loaded.policy.workers.count or usable()) != self._crew.size:
            JOURNAL.warning("workers: there are %d until this program ends or is upgraded", self._crew.size)
        JOURNAL.info("policy %s is in force", self._policy.digest)

    async def _swap(self, policy: Policy) -> None:
        """Raises LoadRefused and BindError, and has then changed nothing. Within the crew's `quiet`."""
        old = self._policy
        prepared = self._sockets.prepare(policy.listeners)
        target: Target | None = None
        admin = self._admin
        try:
            await self._crew.prepare(policy, prepared.plan)
            try:
                if policy.log.path != old.log.path:
                    target = _target(policy.log.path)
                if policy.admin.bind != old.admin.bind:
                    admin = await self._open_admin(policy.admin.bind)
                if policy.control != old.control:
                    self._handover.listen(policy.control)
            except (LoadRefused, BindError):
                self._crew.abandon()
                if target is not None:
                    target.close()
                if admin is not self._admin:
                    await admin.close()
                raise
        except (LoadRefused, BindError):
            prepared.abandon()
            raise
        # From here on nothing can fail. Ours are closed first, so that workers close what goes with its queue empty.
        self._sockets.commit(prepared)
        if target is not None:
            self._log.replace(target)
        if admin is not self._admin:
            leaving, self._admin = self._admin, admin
            self._do_aside(leaving.close())
        await self._crew.commit(prepared.plan)
        self._told_policy(policy)

    def _do_aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def _reopen_log(self) -> None:
        if self._started:
            self._log.reopen()
            JOURNAL.info("the access log is reopened")

    # -- workers

    async def _look_on(self) -> None:
        while not self._draining:
            await asyncio.sleep(min(LOOK, self._notifier.watchdog or LOOK))
            if self._crew.look():
                self._notifier.alive()

    # -- another program takes over

    def _want_upgrade(self) -> None:
        if self._started and not self._draining:
            self._do_aside(self._upgrade())

    async def _upgrade(self) -> None:
        while self._reloading is not None:
            await asyncio.wait((self._reloading,))
        await self._handover.start_successor()

    def _handed(self) -> Iterable[tuple[Key, Bound]]:
        return [(key, bound) for key, bounds in self._sockets.all().items() for bound in bounds]

    def _handed_admin(self) -> tuple[Bind, socket.socket] | None:
        sock = self._admin.socket
        return None if sock is None else (self._policy.admin.bind, sock)

    def _may_leave(self) -> str | None:
        if not self._started or self._reloading is not None:
            return "it is reading its policy"
        return "it is ending" if self._draining else None

    def _stay(self) -> None:
        if self._reload_wanted:
            self._want_reload()

    def _leave(self, pid: int) -> None:
        self._succeeded = True
        self._notifier.succeeded_by(pid)
        self._terminated.set()

    # -- the end

    async def _end(self) -> None:
        grace = self._policy.timeouts.drain
        JOURNAL.info("draining for at most %g seconds", grace)
        self._draining = True
        self._handover.close()
        if self._reloading is not None:
            self._reloading.cancel()
        if self._succeeded:
            self._sockets.release()
            await self._admin.close(leave_path=True)
        else:
            self._notifier.stopping()
            self._sockets.close()
        drained = asyncio.get_running_loop().create_task(self._crew.drain(grace))
        hasty = asyncio.get_running_loop().create_task(self._hasty.wait())
        await asyncio.wait((drained, hasty), return_when=asyncio.FIRST_COMPLETED)
        hasty.cancel()
        if not drained.done():
            self._crew.hurry()
        await drained
        for task in self._aside:
            task.cancel()
        await asyncio.gather(hasty, *self._aside, return_exceptions=True)
        if not self._succeeded:
            await self._admin.close()
        await asyncio.to_thread(self._log.close)
        self._notifier.close()
        JOURNAL.info("ended")


def _inherited(inheritance: Inheritance | None) -> dict[Key, list[Bound]]:
    if inheritance is not None:
        return inheritance.sockets
    found: dict[Key, list[Bound]] = {}
    for sock in activated():
        bind = by_address(sock)
        if bind is None:
            JOURNAL.warning("a socket from outside is of no kind that a listener can have")
            sock.close()
        else:
            found.setdefault(bind, []).append(Bound(bind, sock, lent=True))
    return found


def _target(path: Path | None) -> Target:
    try:
        return Target(path)
    except OSError as error:
        raise LoadRefused((f"log: {path}: {(error.strerror or 'cannot be opened').lower()}",)) from error


def _tell(findings: Iterable[object]) -> None:
    for finding in findings:
        JOURNAL.warning("%s", finding)
