"""What is counted, for the life of the process.

- A cell is made once for its labels and then kept by whoever increments it. Asking again gives the same cell, so
  after a reload counting goes on where it stopped. What no policy names any more keeps its last value.
- Labels are names from a policy file or words of a fixed list (words.py), never something that traffic chose.
- Series exist at zero from the moment their names are known, so that the first event is already a rise.
- The event loop's thread alone increments, asks for cells and takes snapshots.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from resource import getpagesize
from typing import Final
from weakref import WeakValueDictionary

from prometheus_client import Metric, ProcessCollector

from proxy.telemetry import families
from proxy.telemetry.cells import Cell, CellTable, RequestCell, RuleSetCell, TimingCell
from proxy.telemetry.exposition import pieces
from proxy.telemetry.families import FAMILIES, Family, Layout, family
from proxy.telemetry.fleet import FleetReport, fleet_tables
from proxy.telemetry.histogram import Histogram
from proxy.telemetry.snapshot import Labels, Snapshot, Table
from proxy.telemetry.sources import SourceReport, source_tables
from proxy.telemetry.words import (
    NONE,
    REASONS,
    UNAVAILABLE,
    Attempt,
    Check,
    Hindrance,
    NameAnswer,
    Outcome,
    Reload,
    Waited,
)

__all__ = ["NONE", "UNAVAILABLE", "Attempt", "Metrics", "Outcome", "Reload"]

_STATM: Final = Path("/proc/self/statm")

_CELLED: Final = (
    *(families.PASSED, families.DENIALS, families.CONNECTIONS, families.WITHDRAWN, families.TRIES, families.RETRIES),
    *(families.RETRIES_REFUSED, families.HEDGES, families.BREAKER_TRIPS, families.CHECK_RESULTS, families.QUEUE_ENDED),
    *(families.NAMES, families.SHED, families.RATE_LIMITED, families.POLICY_RELOADS),
)
"""Families whose rows are plain cells."""


class Metrics:
    """Every counter of the process, never in prometheus_client's global registry.

    worker: whether the process is one of several, whose processor time and memory others cannot see.
    loop_lag: how late the loop comes to a timer, for LoopLag.
    """

    def __init__(self, *, worker: bool = False) -> None:
        self._worker = worker
        self._requests: dict[Labels, RequestCell] = {}
        self._timings: dict[Labels, TimingCell] = {}
        self._cells = {layout.name: CellTable(layout.axis.words if layout.axis else ("",)) for layout in _CELLED}
        self.loop_lag = Histogram()
        self._rule_sets: WeakValueDictionary[tuple[str, ...], RuleSetCell] = WeakValueDictionary()
        self._rules: defaultdict[str, int] = defaultdict(int)
        self._digest: str | None = None
        self._certificates: dict[str, float] = {}
        self._seen_certificates: Callable[[], Mapping[str, float]] = dict
        self._healthy: Callable[[], Iterable[tuple[str, str, bool]]] = tuple
        self._fleet: Callable[[], FleetReport] = FleetReport
        self._overload: Callable[[], tuple[int, int]] | None = None
        self._log_dropped: Callable[[], int] = int
        self._rate_store_unanswered: Callable[[], int] = int
        self._sources: Callable[[], SourceReport] = SourceReport
        self._refused: Callable[[], Iterable[tuple[str, str, int]]] = tuple
        self._workers: Callable[[], int] | None = None
        self._restarted: Callable[[], int] = int
        self._process = ProcessCollector(registry=None)
        for once in (families.POLICY_RELOADS, families.RETRIES_REFUSED):
            self._know(once)

    # -- cells

    def requests(self, listener: str, provider: str, zone: str) -> RequestCell:
        """The cell of one listener and provider; `none` twice for what reached no provider."""
        self._know_listener(listener)
        return self._requests.setdefault((listener, provider, zone), RequestCell())

    def timings(self, provider: str, zone: str) -> TimingCell:
        """The histograms of one provider; `none` twice for what reached no provider."""
        return self._timings.setdefault((provider, zone), TimingCell())

    def passed(self, listener: str, provider: str, zone: str, outcome: Outcome) -> Cell:
        """Connections of a tls or tcp listener that ended in one way; `none` twice for what reached no provider."""
        self._know_listener(listener)
        return self._cell(families.PASSED, listener, provider, zone, word=outcome)

    def denials(self, listener: str, reason: str) -> Cell:
        """Requests answered with one of DESIGN's reasons. Raises ValueError for a word that is none of them."""
        if reason not in REASONS:
            raise ValueError(f"not a reason: {reason}")
        self._know_listener(listener)
        return self._cell(families.DENIALS, listener, word=reason)

    def rules(self, names: tuple[str, ...]) -> RuleSetCell:
        """The cell of a set of rules that apply together; it lives as long as somebody holds it."""
        cell = self._rule_sets.get(names)
        if cell is None:
            cell = self._rule_sets[names] = RuleSetCell(names, self._settle)
        return cell

    def connections(self, listener: str) -> Cell:
        """Open client connections of one listener: add one, take one away."""
        self._know_listener(listener)
        return self._cell(families.CONNECTIONS, listener)

    def withdrawn(self, listener: str, provider: str) -> Cell:
        """What ended because a reload or a date took its permit away."""
        return self._cell(families.WITHDRAWN, listener, provider)

    def attempts(self, provider: str, zone: str, result: Attempt) -> Cell:
        """Tries at one provider that came to one result."""
        return self._cell(families.TRIES, provider, zone, word=result)

    def retries(self, provider: str, zone: str) -> Cell:
        """Tries at this provider that were not their request's first."""
        return self._cell(families.RETRIES, provider, zone)

    def retries_refused(self, reason: Hindrance) -> Cell:
        """Requests that failed and were not tried again."""
        return self._cell(families.RETRIES_REFUSED, word=reason)

    def hedges(self, provider: str, zone: str) -> Cell:
        """Reads that were asked at this provider too, since the first answer was late."""
        return self._cell(families.HEDGES, provider, zone)

    def breaker_trips(self, provider: str, zone: str, endpoint: str) -> Cell:
        """How often this endpoint's breaker opened. endpoint: `host:port` of the policy file, here and below."""
        return self._cell(families.BREAKER_TRIPS, provider, zone, endpoint)

    def checks(self, provider: str, zone: str, endpoint: str, result: Check) -> Cell:
        """Active checks of this endpoint that ended; those that our own lack of something prevented are none."""
        return self._cell(families.CHECK_RESULTS, provider, zone, endpoint, word=result)

    def queue_ended(self, provider: str, zone: str, outcome: Waited) -> Cell:
        """Requests that waited for this provider, or found no place to."""
        return self._cell(families.QUEUE_ENDED, provider, zone, word=outcome)

    def name_answers(self, provider: str, zone: str, result: NameAnswer) -> Cell:
        """What DNS said of this provider's names, once for each time that it was asked."""
        return self._cell(families.NAMES, provider, zone, word=result)

    def shed(self, listener: str) -> Cell:
        """Requests answered with 503 because this proxy had too many under way."""
        self._know_listener(listener)
        return self._cell(families.SHED, listener)

    def rate_limited(self, listener: str, limit: str) -> Cell:
        """Requests answered with 429 by this limit of the policy."""
        return self._cell(families.RATE_LIMITED, listener, limit)

    # -- what is told once it happens

    def reloaded(self, result: Reload) -> None:
        """Count one reload by what came of it."""
        self._cell(families.POLICY_RELOADS, word=result).count += 1

    def policy(self, digest: str, rules: Iterable[str] = ()) -> None:
        """The policy in force, and its rules' names, which then show at zero."""
        self._digest = digest
        for rule in rules:
            self._rules[rule] += 0

    def certificates(self, expiries: Mapping[str, float]) -> None:
        """Replace what is known of certificates: a name of the policy file, and the expiry in epoch seconds."""
        self._certificates = dict(expiries)

    # -- what is asked at each snapshot

    def healthy(self, states: Callable[[], Iterable[tuple[str, str, bool]]]) -> None:
        """Where a snapshot learns of the providers: name, zone and whether it is healthy."""
        self._healthy = states

    def fleet(self, report: Callable[[], FleetReport]) -> None:
        """Where it learns of endpoints and of those who wait for providers."""
        self._fleet = report

    def overload(self, state: Callable[[], tuple[int, int]]) -> None:
        """Where it learns how many requests may be under way in this process, and how many are."""
        self._overload = state

    def seen_certificates(self, expiries: Callable[[], Mapping[str, float]]) -> None:
        """Where it learns when certificates that providers showed expire: `PROVIDER host:port` and epoch seconds."""
        self._seen_certificates = expiries

    def refused(self, counts: Callable[[], Iterable[tuple[str, str, int]]]) -> None:
        """Where it learns of connections that never became requests: listener, cause of a fixed list, count."""
        self._refused = counts

    def log_dropped(self, dropped: Callable[[], int]) -> None:
        """Where it learns how many access-log lines were dropped since the process began."""
        self._log_dropped = dropped

    def rate_store_unanswered(self, times: Callable[[], int]) -> None:
        """Where it learns how often a store of limits of rate did not answer since the process began."""
        self._rate_store_unanswered = times

    def sources(self, report: Callable[[], SourceReport]) -> None:
        """Where it learns of the sources of a home."""
        self._sources = report

    def workers(self, living: Callable[[], int], restarted: Callable[[], int] = int) -> None:
        """Where it learns how many workers live, and how many have died and were replaced."""
        self._workers, self._restarted = living, restarted

    # -- what is shown

    def snapshot(self) -> Snapshot:
        """Every count as it is now."""
        timings = self._timings.items()
        load = None if self._overload is None else self._overload()
        tables: dict[str, Table] = {
            families.REQUESTS.name: {labels: tuple(cell.status) for labels, cell in self._requests.items()},
            families.BYTES.name: {
                labels: (cell.to_provider, cell.to_client) for labels, cell in self._requests.items()
            },
            families.REQUEST_DURATION.name: {labels: cell.request.row() for labels, cell in timings},
            families.FIRST_BYTE.name: {labels: cell.first_byte.row() for labels, cell in timings},
            families.CONNECT_DURATION.name: {labels: cell.connect.row() for labels, cell in timings},
            families.DECISIONS.name: {(rule,): (count,) for rule, count in self._decisions().items()},
            families.HEALTHY.name: {(name, zone): (float(well),) for name, zone, well in self._healthy()},
            families.REFUSED.name: {(listener, cause): (count,) for listener, cause, count in self._refused()},
            families.POLICY.name: {} if self._digest is None else {(self._digest,): (1.0,)},
            families.CERTIFICATE_EXPIRY.name: {
                (name,): (expiry,) for name, expiry in {**self._certificates, **self._seen_certificates()}.items()
            },
            families.LOG_DROPPED.name: {(): (self._log_dropped(),)},
            families.RATE_STORE_UNANSWERED.name: {(): (self._rate_store_unanswered(),)},
            families.WORKERS.name: {} if self._workers is None else {(): (self._workers(),)},
            families.WORKER_RESTARTS.name: {(): (self._restarted(),)},
            families.LOOP_LAG.name: {(): self.loop_lag.row()},
            families.CONCURRENCY_LIMIT.name: {} if load is None else {(): (load[0],)},
            families.UNDER_WAY.name: {} if load is None else {(): (load[1],)},
            **{name: cells.table() for name, cells in self._cells.items()},
            **fleet_tables(self._fleet()),
            **source_tables(self._sources()),
        }
        if self._worker:
            tables[families.PROCESSOR_SECONDS.name] = {(): (time.process_time(),)}
            tables[families.RESIDENT_BYTES.name] = {(): (_resident(),)}
        return Snapshot(tables)

    def families(self) -> Iterator[Family]:
        """All families of a process that is alone."""
        snapshot = self.snapshot()
        return (family(layout, snapshot.table(layout.name).items()) for layout in FAMILIES)

    def process(self) -> list[Metric]:
        """The process_* families. Counting 8,000 descriptors takes 9 milliseconds: call it from any thread."""
        return list(self._process.collect())

    def pieces(self, accept: str = "", process: list[Metric] | None = None) -> tuple[str, Iterator[bytes]]:
        """The Content-Type for an Accept header, and the exposition in pieces of a fraction of a millisecond.

        process: what `process` returned; left out, it is read here.
        """
        others = self.process() if process is None else process
        return pieces(chain(self.families(), map(families.of, others)), accept)

    async def exposition(self, accept: str) -> tuple[str, Iterator[bytes]]:
        """`pieces`, beside whatever else the loop does."""
        return self.pieces(accept, await asyncio.to_thread(self.process))

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """The Content-Type for an Accept header, and the whole exposition."""
        content_type, parts = self.pieces(accept)
        return content_type, b"".join(parts)

    def _cell(self, layout: Layout, *labels: str, word: str = "") -> Cell:
        return self._cells[layout.name].cell(labels, word)

    def _know(self, layout: Layout, *labels: str) -> None:
        """Have it show at zero."""
        self._cell(layout, *labels, word=layout.axis.words[0] if layout.axis else "")

    def _know_listener(self, listener: str) -> None:
        if (listener, NONE, NONE) in self._requests:
            return
        self._requests[listener, NONE, NONE] = RequestCell()
        for layout in (families.CONNECTIONS, families.DENIALS, families.SHED):
            self._know(layout, listener)

    def _settle(self, rules: tuple[str, ...], count: int) -> None:
        for rule in rules:
            self._rules[rule] += count

    def _decisions(self) -> dict[str, int]:
        # Held before the totals are copied: a cell that dies in between would be counted nowhere, and a counter
        # that falls reads as a restart.
        alive = list(self._rule_sets.values())
        totals = self._rules.copy()
        for cell in alive:
            for rule in cell.rules:
                totals[rule] += cell.count
        return totals


def _resident() -> int:
    return int(_STATM.read_bytes().split()[1]) * getpagesize()
