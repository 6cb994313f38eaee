"""The service: one policy file, served until a signal ends it.

    start -> serve -> (reload | a date passes)* -> drain -> exit

- A reload replaces everything that the policy decides, or nothing: whatever can fail is done first, beside what
  serves, and what follows is a plain swap without a pause in which half would be in force.
- One reload at a time; signals that come meanwhile become one more reload.
- Dates of the policy are kept by the clock of the world, deadlines by the loop's.
"""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

import uvloop

from proxy.admin import AdminServer, Readiness, Status
from proxy.config import Loaded, PolicyRefused, load
from proxy.http1.plane import HttpPlane
from proxy.policy.decide import next_change
from proxy.policy.policy import Policy
from proxy.policy.settings import Bind
from proxy.providers.resolve import Resolver
from proxy.server.accept import AcceptStage, Prepared
from proxy.server.account import (
    health,
    introduction,
    listener_statuses,
    provider_statuses,
    provider_words,
    refusals,
    version,
)
from proxy.server.binding import BindError, bind_text
from proxy.server.door import Opening
from proxy.server.journal import JOURNAL, open_journal, unforeseen
from proxy.server.load import LoadRefused, Opened, open_line
from proxy.server.renewal import CountryRenewal
from proxy.server.reread import reread
from proxy.server.sources import source_report
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import Metrics

UNGREETED = 1.0
"""Seconds that connections have, when we end, to become requests: to greet and to shake hands."""

YOUNG = 20_000
"""Objects made and not freed before the collector looks for cycles. A request leaves none: it need not look often."""

CLOCK = 30.0
"""Seconds between looks at the clock while a date of the policy is ahead: clocks are set."""


def run(path: Path) -> int:
    """Serve the policy in a file until SIGTERM or SIGINT.

    Returns the exit status: 0 after a drain, 1 if it cannot start, having told why on standard error.
    """
    open_journal()
    _take_descriptors()
    try:
        loaded = load(path, os.environ, time.time())
    except PolicyRefused as refused:
        return _cannot_start(map(str, refused.mistakes))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_Service(path).serve(loaded))
        except LoadRefused as refused:
            return _cannot_start(refused.mistakes)
        except BindError as error:
            return _cannot_start([str(error)])
    return 0


def _cannot_start(mistakes: Iterable[str]) -> int:
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    return 1


def _take_descriptors() -> None:
    """As many descriptors as we may have: the usual soft limit is there for programs that use select."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # a hardened service may not
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Service:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = time.monotonic()
        self._metrics = Metrics()
        self._resolver: Resolver
        self._plane: HttpPlane
        self._stage: AcceptStage
        self._log: AccessLog
        self._admin: AdminServer
        self._renewal: CountryRenewal
        self._policy: Policy
        self._dropped = 0
        self._started = False
        self._draining = False
        self._hasty = asyncio.Event()
        self._reload_wanted = False
        self._reloading: asyncio.Task[None] | None = None
        self._date: asyncio.TimerHandle | None = None
        self._aside: set[asyncio.Task[None]] = set()

    async def serve(self, loaded: Loaded) -> None:
        """From start to end. Raises LoadRefused and BindError if it cannot start."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(unforeseen)
        terminated = asyncio.Event()
        self._listen_to_signals(loop, terminated)
        await self._start(loop, loaded)
        await terminated.wait()
        await self._end()

    def _listen_to_signals(self, loop: asyncio.AbstractEventLoop, terminated: asyncio.Event) -> None:
        def terminate() -> None:
            if terminated.is_set():
                self._hasty.set()
            terminated.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, terminate)
        loop.add_signal_handler(signal.SIGHUP, self._want_reload)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_log)
        # Left alone it would end the process, and an operator who is used to nginx may send it.
        loop.add_signal_handler(signal.SIGUSR2, JOURNAL.warning, "upgrading in place is not available in this version")

    # -- start

    async def _start(self, loop: asyncio.AbstractEventLoop, loaded: Loaded) -> None:
        policy = loaded.policy
        self._resolver = Resolver()
        opened = open_line(policy, self._resolver)
        self._policy = policy
        self._log = _open_log(policy.log.path)
        self._plane = HttpPlane(opened.line, self._metrics, self._log)
        self._stage = AcceptStage(loop, self._plane.connection, self._metrics.connections)
        prepared = self._stage.prepare(policy.listeners)
        try:
            self._admin = await self._open_admin(policy.admin.bind)
        except BindError:
            prepared.abandon()
            raise
        self._metrics.healthy(self._health)
        self._metrics.log_dropped(self._log_dropped)
        self._metrics.sources(lambda: source_report(self._plane.line))
        self._metrics.refused(lambda: refusals(self._stage.doors()))
        self._put_in_force(opened, prepared)
        self._renewal = CountryRenewal(lambda: self._plane.line.countries)
        _tell(loaded.findings)
        self._introduce()
        # Once: what later policies bring stays in the collector's sight, for they go again. Thawing and freezing anew
        # at each reload would stop the loop for as long as a collection of everything takes, some 50 milliseconds.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG, 20, 20)
        self._started = True
        self._renewal.begin()
        if self._reload_wanted:
            self._want_reload()

    async def _open_admin(self, bind: Bind) -> AdminServer:
        admin = AdminServer(bind, self._metrics, self._readiness, self._status)
        try:
            await admin.start()
        except OSError as error:
            raise BindError("admin", bind, error) from error
        return admin

    def _put_in_force(self, opened: Opened, prepared: Prepared) -> None:
        """What cannot fail: from here on the policy of this line decides."""
        policy = opened.line.policy
        self._policy = policy
        head, most, trusted = policy.timeouts.head, policy.limits.connections, opened.line.trusted
        openings = [Opening(each, opened.certificates.get(each.name), head, most, trusted) for each in policy.listeners]
        self._stage.commit(prepared, openings)
        self._metrics.policy(policy.digest, [rule.name for rule in policy.rules])
        self._metrics.certificates(opened.expiries)
        self._await_date()

    def _introduce(self) -> None:
        for line in introduction(self._policy, self._stage.addresses()):
            JOURNAL.info("%s", line)
        if self._admin.bound is not None:
            JOURNAL.info("admin: http on %s", bind_text(self._admin.bound))
        JOURNAL.info("serving %s, policy %s", self._path, self._policy.digest)

    # -- reload

    def _want_reload(self) -> None:
        self._reload_wanted = True
        if self._started and self._reloading is None and not self._draining:
            self._reloading = asyncio.get_running_loop().create_task(self._reload_while_wanted())

    async def _reload_while_wanted(self) -> None:
        try:
            while self._reload_wanted and not self._draining:
                self._reload_wanted = False
                await self._reload()
        finally:
            self._reloading = None

    async def _reload(self) -> None:
        try:
            loaded = await reread(self._path)
            opened = await asyncio.to_thread(open_line, loaded.policy, self._resolver, self._plane.line)
            if self._draining:
                return
            await self._swap(opened)
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
        JOURNAL.info("policy %s is in force", self._policy.digest)

    async def _swap(self, opened: Opened) -> None:
        """Raises LoadRefused and BindError, and has then changed nothing."""
        policy, old = opened.line.policy, self._policy
        try:
            prepared = self._stage.prepare(policy.listeners)
        except BindError:
            opened.line.sources.abandon()
            raise
        log, admin = self._log, self._admin
        try:
            if policy.log.path != old.log.path:
                log = _open_log(policy.log.path)
            if policy.admin.bind != old.admin.bind:
                admin = await self._open_admin(policy.admin.bind)
        except (LoadRefused, BindError):
            prepared.abandon()
            opened.line.sources.abandon()
            if log is not self._log:
                log.close()
            raise
        if log is not self._log:
            left, self._log = self._log, log
            self._plane.log = log
            self._do_aside(self._close_log(left))
        if admin is not self._admin:
            leaving, self._admin = self._admin, admin
            self._do_aside(leaving.close())
        self._plane.swap(opened.line)
        self._put_in_force(opened, prepared)

    def _do_aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _close_log(self, log: AccessLog) -> None:
        await asyncio.to_thread(log.close)
        self._dropped += log.dropped

    def _reopen_log(self) -> None:
        if self._started:
            self._log.reopen()
            JOURNAL.info("the access log is reopened")

    # -- dates

    def _await_date(self) -> None:
        if self._date is not None:
            self._date.cancel()
            self._date = None
        now = time.time()
        date = next_change(self._policy, now)
        if date is not None:
            delay = min(date - now, CLOCK)
            self._date = asyncio.get_running_loop().call_later(delay, self._look_at_clock, self._policy, date)

    def _look_at_clock(self, policy: Policy, date: float) -> None:
        if time.time() >= date:
            JOURNAL.info("a date of the policy has come: what is under way is decided again")
            self._plane.redecide()
        self._await_date()

    # -- what the admin endpoints are told

    def _readiness(self) -> Readiness:
        bound = [place for places in self._stage.addresses().values() for place in places]
        return Readiness(
            policy_loaded=self._started,
            listeners_bound=bool(bound),
            draining=self._draining,
            providers=provider_words(self._plane.line, asyncio.get_running_loop().time()),
        )

    def _status(self) -> Status:
        return Status(
            version=version(),
            digest=self._policy.digest,
            uptime=time.monotonic() - self._began,
            draining=self._draining,
            connections=self._plane.open_connections,
            listeners=listener_statuses(self._policy, self._stage.addresses(), self._metrics),
            providers=provider_statuses(self._plane.line, asyncio.get_running_loop().time()),
            log_dropped=self._log_dropped(),
            log_problem=self._log.problem,
        )

    def _log_dropped(self) -> int:
        return self._dropped + self._log.dropped

    def _health(self) -> list[tuple[str, str, bool]]:
        return health(self._plane.line, asyncio.get_running_loop().time())

    # -- the end

    async def _end(self) -> None:
        grace = self._policy.timeouts.drain
        JOURNAL.info("draining for at most %g seconds", grace)
        self._draining = True
        self._plane.draining = True
        if self._date is not None:
            self._date.cancel()
        if self._reloading is not None:
            self._reloading.cancel()
        drained = asyncio.get_running_loop().create_task(self._drain(grace))
        hasty = asyncio.get_running_loop().create_task(self._hasty.wait())
        await asyncio.wait((drained, hasty), return_when=asyncio.FIRST_COMPLETED)
        for task in (drained, hasty):
            task.cancel()
        await asyncio.gather(drained, hasty, *self._aside, return_exceptions=True)
        if self._plane.open_connections:
            JOURNAL.warning("ended with %d connections open", self._plane.open_connections)
            await self._plane.drain(0.0)
        self._stage.close()
        await self._renewal.end()
        await self._admin.close()
        await self._resolver.close()
        self._log.close()
        JOURNAL.info("ended")

    async def _drain(self, grace: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        self._stage.stop()
        await self._stage.settle(min(UNGREETED, grace))
        await self._plane.drain(max(0.0, until - loop.time()))


def _open_log(path: Path | None) -> AccessLog:
    try:
        return AccessLog(path)
    except OSError as error:
        raise LoadRefused((f"log: {path}: {(error.strerror or 'cannot be opened').lower()}",)) from error


def _tell(findings: Iterable[object]) -> None:
    for finding in findings:
        JOURNAL.warning("%s", finding)
