"""A worker: serves on the sockets that the master lends, by the policy that the master gives.

    start -> (prepare -> commit | abandon)* -> drain -> exit

- Preparing opens everything that can fail, beside what serves; committing swaps it in whole in one turn of the loop.
- What this process counts goes to the master each second, the access log through a pipe of its own.
- Signals are the master's affair. A worker whose master is gone drains by itself.
"""

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import sys
import time
from typing import Any

import uvloop

from proxy.http1.plane import HttpPlane
from proxy.policy.policy import Policy
from proxy.providers.checking import Checking
from proxy.providers.outliers import leave_out_slow
from proxy.providers.resolve import Resolver
from proxy.server.accept import AcceptStage
from proxy.server.account import fleet_report, health, refusals, seen_certificates, settle, worker_report
from proxy.server.channel import Channel
from proxy.server.dates import Dates
from proxy.server.door import Opening
from proxy.server.garbage import collect_retired, set_aside
from proxy.server.journal import JOURNAL, open_journal, unforeseen
from proxy.server.listening import Key
from proxy.server.load import LoadRefused, Opened, open_line
from proxy.server.orders import (
    Abandon,
    Answer,
    Ask,
    Commit,
    Drain,
    InForce,
    Lend,
    Prepare,
    Prepared,
    Refused,
    Reported,
    order,
    packed,
)
from proxy.server.renewal import CountryRenewal
from proxy.server.sources import source_report
from proxy.tcp.plane import TcpPlane
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.loop_lag import LoopLag
from proxy.telemetry.metrics import Metrics

UNGREETED = 1.0
"""Seconds that connections have, when we end, to become requests: to greet and to shake hands."""

YOUNG = 20_000
"""Objects made and not freed before the collector looks for cycles. A request leaves none: it need not look often."""

PERIOD = 1.0
"""Seconds between reports."""

_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class _Worker:
    def __init__(self, log: AccessLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._metrics = Metrics(worker=True)
        self._resolver = Resolver()
        self._channel: Channel
        self._lent: dict[Key, list[socket.socket]] = {}
        self._preparing: asyncio.Task[None] | None = None
        self._prepared: Opened | None = None
        self._policy: Policy | None = None
        self._plane: HttpPlane
        self._passing: TcpPlane
        self._stage: AcceptStage
        self._dates = Dates(self._redecide)
        self._renewal: CountryRenewal
        self._checking: Checking
        self._lag = LoopLag(self._metrics.loop_lag)
        self._grace: float | None = None
        self._told_to_end = asyncio.Event()
        self._hasty = asyncio.Event()

    async def serve(self, master: socket.socket) -> None:
        """From the first order to the end."""
        self._channel = Channel(self._loop, master, self._heard, self._orphaned)
        reporting = self._loop.create_task(self._report_on())
        await self._told_to_end.wait()
        reporting.cancel()
        if self._policy is not None:
            await self._end(self._policy)
        await self._resolver.close()
        await asyncio.to_thread(self._log.close)
        self._report()
        self._channel.close()

    # -- orders

    def _heard(self, frame: bytes, descriptors: list[int]) -> None:
        match order(frame):
            case Lend(keys):
                for key, descriptor in zip(keys, descriptors, strict=True):
                    self._lent.setdefault(key, []).append(socket.socket(fileno=descriptor))
            case Prepare(policy):
                self._preparing = self._loop.create_task(self._prepare(policy))
            case Commit():
                self._commit_or_die()
            case Abandon():
                self._abandon()
            case Ask():
                self._report()
            case Drain(grace):
                self._drain(grace)

    def _answer(self, answer: Answer) -> None:
        self._channel.send(packed(answer))

    def _orphaned(self) -> None:
        JOURNAL.error("the master is gone: this worker drains")
        self._drain(30.0 if self._policy is None else self._policy.timeouts.drain)

    def _drain(self, grace: float) -> None:
        if self._told_to_end.is_set():
            self._hasty.set()
        self._grace = grace
        self._told_to_end.set()

    # -- two phases

    async def _prepare(self, pickled: bytes) -> None:
        old = None if self._policy is None else self._plane.line
        try:
            policy: Policy = await asyncio.to_thread(pickle.loads, pickled)
            opened = await asyncio.to_thread(open_line, policy, self._resolver, old)
        except LoadRefused as refused:
            self._answer(Refused(refused.mistakes))
            return
        except Exception as error:
            # A mistake of this program: the reload is refused, and the loop's handler tells what it was.
            self._answer(Refused(("the policy cannot be opened, by a mistake of this program",)))
            self._loop.call_exception_handler({"message": "preparing a policy", "exception": error})
            return
        self._prepared = opened
        self._answer(Prepared())

    def _commit_or_die(self) -> None:
        try:
            self._commit()
        except Exception as error:
            # A mistake of this program. Half of a policy must never decide: another worker begins with the whole.
            self._loop.call_exception_handler({"message": "committing a policy", "exception": error})
            os._exit(os.EX_SOFTWARE)

    def _commit(self) -> None:
        opened, self._prepared = self._prepared, None
        assert opened is not None
        policy = opened.line.policy
        if self._policy is None:
            self._begin(opened)
        else:
            settle(self._plane.line, self._metrics)  # Of providers that go now.
            # First: what the evidence says by this policy holds for whatever the swap tries anew.
            self._checking.swap(policy, opened.line.fleet)
            self._passing.swap(opened.passing)
            self._plane.swap(opened.line)
            collect_retired(self._loop)
        self._policy = policy
        head, most, trusted = policy.timeouts.head, policy.limits.connections, opened.line.trusted
        given, self._lent = self._lent, {}
        self._stage.commit(
            [Opening(each, opened.certificates.get(each.name), head, most, trusted) for each in policy.listeners], given
        )
        self._metrics.policy(policy.digest, [rule.name for rule in policy.rules])
        self._metrics.certificates(opened.expiries)
        self._dates.watch(policy)
        self._answer(InForce(policy.digest))

    def _begin(self, opened: Opened) -> None:
        self._plane = HttpPlane(opened.line, self._metrics, self._log)
        self._passing = TcpPlane(opened.passing, self._metrics, self._log)
        self._stage = AcceptStage(self._loop, self._plane.connection, self._metrics.connections, self._passing.take)
        self._metrics.healthy(lambda: health(self._plane.line, self._loop.time()))
        self._metrics.fleet(lambda: fleet_report(self._plane.line, self._loop.time()))
        self._metrics.seen_certificates(lambda: seen_certificates(self._plane.line))
        self._metrics.log_dropped(lambda: self._log.dropped)
        self._metrics.rate_store_unanswered(lambda: self._plane.line.rates.unanswered.times)
        self._metrics.sources(lambda: source_report(self._plane.line))
        self._metrics.refused(lambda: refusals(self._stage.doors()))
        self._renewal = CountryRenewal(lambda: self._plane.line.countries)
        self._renewal.begin()
        self._checking = Checking(lambda address: self._plane.line.countries.country(address), JOURNAL.warning)
        self._checking.swap(opened.line.policy, opened.line.fleet)
        self._lag.begin()
        set_aside(YOUNG)

    def _abandon(self) -> None:
        opened, self._prepared = self._prepared, None
        if opened is not None:
            opened.line.sources.abandon()
        for socks in self._lent.values():
            for sock in socks:
                sock.close()
        self._lent = {}

    def _redecide(self) -> None:
        self._plane.redecide()
        self._passing.redecide()

    # -- what the master is told

    async def _report_on(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            if self._policy is not None:
                leave_out_slow(self._plane.line.fleet, time.monotonic())
            if not self._channel.waiting:
                self._report()

    def _report(self) -> None:
        if self._policy is None:
            return
        settle(self._plane.line, self._metrics)
        report = worker_report(self._policy, self._plane.line, self._metrics, self._log, self._loop.time())
        self._answer(Reported(report, self._metrics.snapshot()))

    # -- the end

    async def _end(self, policy: Policy) -> None:
        grace = policy.timeouts.drain if self._grace is None else self._grace
        self._plane.draining = True
        self._dates.end()
        await self._checking.end()
        if self._preparing is not None:
            self._preparing.cancel()
        drained = self._loop.create_task(self._drained(grace))
        hasty = self._loop.create_task(self._hasty.wait())
        await asyncio.wait((drained, hasty), return_when=asyncio.FIRST_COMPLETED)
        await _cancelled(drained, hasty)
        left = self._plane.open_connections + self._passing.open_connections
        if left:
            JOURNAL.warning("ended with %d connections open", left)
            await self._drain_planes(0.0)
        self._stage.close()
        self._lag.end()
        await self._renewal.end()

    async def _drained(self, grace: float) -> None:
        until = self._loop.time() + grace
        self._stage.stop()
        await self._stage.settle(min(UNGREETED, grace))
        await self._drain_planes(max(0.0, until - self._loop.time()))

    async def _drain_planes(self, grace: float) -> None:
        # The HTTP plane closes at its end what both use: the sources, and idle connections.
        await asyncio.gather(self._passing.drain(grace), self._plane.drain(grace))


async def _cancelled(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _main() -> None:
    master, log = int(sys.argv[1]), int(sys.argv[2])
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    open_journal()
    if len(sys.argv) > 3:
        with contextlib.suppress(OSError):  # that processor was taken away meanwhile
            os.sched_setaffinity(0, {int(sys.argv[3])})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(socket.socket(fileno=master), log))


async def _serve(master: socket.socket, log: int) -> None:
    asyncio.get_running_loop().set_exception_handler(unforeseen)
    await _Worker(AccessLog(log)).serve(master)


if __name__ == "__main__":
    _main()
