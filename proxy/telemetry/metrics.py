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
from proxy.telemetry.cells import Cell, RequestCell, RuleSetCell, TimingCell
from proxy.telemetry.exposition import pieces
from proxy.telemetry.families import FAMILIES, Family, family
from proxy.telemetry.snapshot import Labels, Snapshot, Table
from proxy.telemetry.sources import SourceReport, source_tables
from proxy.telemetry.words import ATTEMPTS, NONE, OUTCOMES, REASONS, RELOADS, UNAVAILABLE, Attempt, Outcome, Reload

__all__ = ["NONE", "UNAVAILABLE", "Attempt", "Metrics", "Outcome", "Reload"]

_STATM: Final = Path("/proc/self/statm")

_Row = dict[str, Cell]
"""A cell for each word of an axis, in its order."""


class Metrics:
    """Every counter of the process, never in prometheus_client's global registry.

    worker: whether the process is one of several, whose processor time and memory others cannot see.
    """

    def __init__(self, *, worker: bool = False) -> None:
        self._worker = worker
        self._requests: dict[Labels, RequestCell] = {}
        self._timings: dict[Labels, TimingCell] = {}
        self._passed: dict[Labels, _Row] = {}
        self._denials: dict[Labels, _Row] = {}
        self._attempts: dict[Labels, _Row] = {}
        self._reloads = _row(RELOADS)
        self._connections: dict[Labels, Cell] = {}
        self._withdrawn: dict[Labels, Cell] = {}
        self._retries: dict[Labels, Cell] = {}
        self._rule_sets: WeakValueDictionary[tuple[str, ...], RuleSetCell] = WeakValueDictionary()
        self._rules: defaultdict[str, int] = defaultdict(int)
        self._digest: str | None = None
        self._certificates: dict[str, float] = {}
        self._healthy: Callable[[], Iterable[tuple[str, str, bool]]] = tuple
        self._log_dropped: Callable[[], int] = int
        self._sources: Callable[[], SourceReport] = SourceReport
        self._refused: Callable[[], Iterable[tuple[str, str, int]]] = tuple
        self._workers: Callable[[], int] | None = None
        self._restarted: Callable[[], int] = int
        self._process = ProcessCollector(registry=None)

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
        row = self._passed.get((listener, provider, zone))
        if row is None:
            self._know_listener(listener)
            row = self._passed[listener, provider, zone] = _row(OUTCOMES)
        return row[outcome]

    def denials(self, listener: str, reason: str) -> Cell:
        """Requests answered with one of DESIGN's reasons. Raises ValueError for a word that is none of them."""
        if reason not in REASONS:
            raise ValueError(f"not a reason: {reason}")
        self._know_listener(listener)
        return self._denials[(listener,)][reason]

    def rules(self, names: tuple[str, ...]) -> RuleSetCell:
        """The cell of a set of rules that apply together; it lives as long as somebody holds it."""
        cell = self._rule_sets.get(names)
        if cell is None:
            cell = self._rule_sets[names] = RuleSetCell(names, self._settle)
        return cell

    def connections(self, listener: str) -> Cell:
        """Open client connections of one listener: add one, take one away."""
        self._know_listener(listener)
        return self._connections[(listener,)]

    def withdrawn(self, listener: str, provider: str) -> Cell:
        """What ended because a reload or a date took its permit away."""
        return self._withdrawn.setdefault((listener, provider), Cell())

    def attempts(self, provider: str, zone: str, result: Attempt) -> Cell:
        """Tries at one provider that came to one result."""
        row = self._attempts.get((provider, zone))
        if row is None:
            row = self._attempts[provider, zone] = _row(ATTEMPTS)
        return row[result]

    def retries(self, provider: str, zone: str) -> Cell:
        """Tries at this provider that were not their request's first."""
        return self._retries.setdefault((provider, zone), Cell())

    # -- what is told once it happens

    def reloaded(self, result: Reload) -> None:
        """Count one reload by what came of it."""
        self._reloads[result].count += 1

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

    def refused(self, counts: Callable[[], Iterable[tuple[str, str, int]]]) -> None:
        """Where it learns of connections that never became requests: listener, cause of a fixed list, count."""
        self._refused = counts

    def log_dropped(self, dropped: Callable[[], int]) -> None:
        """Where it learns how many access-log lines were dropped since the process began."""
        self._log_dropped = dropped

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
        tables: dict[str, Table] = {
            families.REQUESTS.name: {labels: tuple(cell.status) for labels, cell in self._requests.items()},
            families.BYTES.name: {
                labels: (cell.to_provider, cell.to_client) for labels, cell in self._requests.items()
            },
            families.REQUEST_DURATION.name: {labels: cell.request.row() for labels, cell in timings},
            families.FIRST_BYTE.name: {labels: cell.first_byte.row() for labels, cell in timings},
            families.CONNECT_DURATION.name: {labels: cell.connect.row() for labels, cell in timings},
            families.PASSED.name: _rows(self._passed),
            families.DENIALS.name: _rows(self._denials),
            families.DECISIONS.name: {(rule,): (count,) for rule, count in self._decisions().items()},
            families.HEALTHY.name: {(name, zone): (float(well),) for name, zone, well in self._healthy()},
            families.CONNECTIONS.name: _counts(self._connections),
            families.REFUSED.name: {(listener, cause): (count,) for listener, cause, count in self._refused()},
            families.WITHDRAWN.name: _counts(self._withdrawn),
            families.TRIES.name: _rows(self._attempts),
            families.RETRIES.name: _counts(self._retries),
            families.POLICY.name: {} if self._digest is None else {(self._digest,): (1.0,)},
            families.POLICY_RELOADS.name: _rows({(): self._reloads}),
            families.CERTIFICATE_EXPIRY.name: {(name,): (expiry,) for name, expiry in self._certificates.items()},
            families.LOG_DROPPED.name: {(): (self._log_dropped(),)},
            families.WORKERS.name: {} if self._workers is None else {(): (self._workers(),)},
            families.WORKER_RESTARTS.name: {(): (self._restarted(),)},
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

    def _know_listener(self, listener: str) -> None:
        if (listener,) in self._connections:
            return
        self._connections[(listener,)] = Cell()
        self._denials[(listener,)] = _row(REASONS)
        self._requests.setdefault((listener, NONE, NONE), RequestCell())

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


def _row(words: Iterable[str]) -> _Row:
    return {word: Cell() for word in words}


def _rows(rows: Mapping[Labels, _Row]) -> Table:
    return {labels: tuple([cell.count for cell in row.values()]) for labels, row in rows.items()}


def _counts(cells: Mapping[Labels, Cell]) -> Table:
    return {labels: (cell.count,) for labels, cell in cells.items()}


def _resident() -> int:
    return int(_STATM.read_bytes().split()[1]) * getpagesize()
