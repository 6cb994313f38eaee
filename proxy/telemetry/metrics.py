"""What is counted, for the life of the process.

- A cell is made once for its labels and then kept by whoever increments it. Asking again gives the same cell, so
  after a reload counting goes on where it stopped. What no policy names any more keeps its last value.
- Labels are names from a policy file or words of a fixed list, never something that traffic chose.
- Series exist at zero from the moment their names are known, so that the first event is already a rise.
- The event loop's thread alone increments, asks for cells and scrapes.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Literal, get_args
from weakref import WeakValueDictionary

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.registry import Collector

from proxy.policy.decision import Reason
from proxy.telemetry import families
from proxy.telemetry.cells import Cell, RequestCell, RuleSetCell, TimingCell
from proxy.telemetry.exposition import pieces
from proxy.telemetry.families import Family
from proxy.telemetry.sources import SourceReport, source_families

NONE = "none"
"""The provider and zone of a request that reached no provider."""

UNAVAILABLE = "unavailable"
"""The reason beside the law's own: something is permitted and nothing of it is healthy."""

Reload = Literal["loaded", "refused"]
"""What came of reading a policy again: it is in force, or the old one stays."""

Attempt = Literal["answered", "refused", "timeout", "outside", "name", "tls", "full", "local", "broken"]
"""What came of one try at a provider.

`answered`: a valid head arrived, whatever its status. `timeout`: to connect, or to answer. `outside`: an address
that may not be dialled. `name`: DNS. `tls`: certificate, pin or handshake. `full`: the policy's cap on its
connections is reached. `local`: this machine is out of descriptors, ports or memory. `broken`: it closed, or broke the
protocol, before a valid head.
"""

Outcome = Literal[
    "completed",
    "denied",
    "unproven",
    "unavailable",
    "unreachable",
    "timeout",
    "reset",
    "idle",
    "lifetime",
    "withdrawn",
    "client-left",
    "drained",
]
"""How a connection of a tls or tcp listener ended.

`denied`: by the law. `unproven`: a credential did not verify. `unavailable`: a source of a home, or every permitted
provider, is down. `unreachable`: no permitted provider could be connected, `timeout`: in time. `reset`: one side broke
it. `idle`, `lifetime`: a limit ended it. `client-left`: before a provider was reached. `drained`: we ended.
"""

_REASONS = (*get_args(Reason), UNAVAILABLE)


class Metrics(Collector):
    """Every counter of the process, and its own registry (never prometheus_client's global one)."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, str], RequestCell] = {}
        self._timings: dict[tuple[str, str], TimingCell] = {}
        self._denials: dict[tuple[str, ...], Cell] = {}
        self._connections: dict[tuple[str, ...], Cell] = {}
        self._withdrawn: dict[tuple[str, ...], Cell] = {}
        self._attempts: dict[tuple[str, ...], Cell] = {}
        self._retries: dict[tuple[str, ...], Cell] = {}
        self._passed: dict[tuple[str, ...], Cell] = {}
        self._restarts: dict[tuple[str, ...], Cell] = {(): Cell()}
        self._workers: Callable[[], int] | None = None
        self._reloads: dict[tuple[str, ...], Cell] = {(result,): Cell() for result in get_args(Reload)}
        self._rule_sets: WeakValueDictionary[tuple[str, ...], RuleSetCell] = WeakValueDictionary()
        self._rules: defaultdict[str, int] = defaultdict(int)
        self._digest: str | None = None
        self._certificates: dict[str, float] = {}
        self._healthy: Callable[[], Iterable[tuple[str, str, bool]]] = tuple
        self._log_dropped: Callable[[], int] = int
        self._sources: Callable[[], SourceReport] = SourceReport
        self._refused: Callable[[], Iterable[tuple[str, str, int]]] = tuple
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        self._process = ProcessCollector(registry=self.registry)

    def requests(self, listener: str, provider: str, zone: str) -> RequestCell:
        """The cell of one listener and provider; `none` twice for what reached no provider."""
        self._know_listener(listener)
        return self._requests.setdefault((listener, provider, zone), RequestCell())

    def timings(self, provider: str, zone: str) -> TimingCell:
        """The histograms of one provider; `none` twice for what reached no provider."""
        return self._timings.setdefault((provider, zone), TimingCell())

    def denials(self, listener: str, reason: str) -> Cell:
        """Requests answered with one of DESIGN's reasons. Raises ValueError for a word that is none of them."""
        if reason not in _REASONS:
            raise ValueError(f"not a reason: {reason}")
        self._know_listener(listener)
        return self._denials[listener, reason]

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
        """Requests and tunnels that ended because a reload or a date took their permit away."""
        return self._withdrawn.setdefault((listener, provider), Cell())

    def attempts(self, provider: str, zone: str, result: Attempt) -> Cell:
        """Tries at one provider that came to one result."""
        if (provider, zone, result) not in self._attempts:
            for word in get_args(Attempt):
                self._attempts[provider, zone, word] = Cell()
        return self._attempts[provider, zone, result]

    def retries(self, provider: str, zone: str) -> Cell:
        """Tries at this provider that were not their request's first."""
        return self._retries.setdefault((provider, zone), Cell())

    def passed(self, listener: str, provider: str, zone: str, outcome: Outcome) -> Cell:
        """Connections of a tls or tcp listener that ended in one way; `none` twice for what reached no provider."""
        if (listener, provider, zone, outcome) not in self._passed:
            self._know_listener(listener)
            for word in get_args(Outcome):
                self._passed[listener, provider, zone, word] = Cell()
        return self._passed[listener, provider, zone, outcome]

    def restarted(self) -> None:
        """Count one worker that died and was replaced."""
        self._restarts[()].count += 1

    def workers(self, living: Callable[[], int]) -> None:
        """Where a scrape learns how many workers live."""
        self._workers = living

    def reloaded(self, result: Reload) -> None:
        """Count one reload by what came of it."""
        self._reloads[(result,)].count += 1

    def policy(self, digest: str, rules: Iterable[str] = ()) -> None:
        """The policy in force, and its rules' names, which then show at zero."""
        self._digest = digest
        for rule in rules:
            self._rules[rule] += 0

    def certificates(self, expiries: Mapping[str, float]) -> None:
        """Replace what is known of certificates: a name of the policy file, and the expiry in epoch seconds."""
        self._certificates = dict(expiries)

    def healthy(self, states: Callable[[], Iterable[tuple[str, str, bool]]]) -> None:
        """Where a scrape learns of the providers: name, zone and whether it is healthy."""
        self._healthy = states

    def refused(self, counts: Callable[[], Iterable[tuple[str, str, int]]]) -> None:
        """Where a scrape learns of connections that never became requests: listener, cause of a fixed list, count."""
        self._refused = counts

    def log_dropped(self, dropped: Callable[[], int]) -> None:
        """Where a scrape learns how many access-log lines were dropped since the process began."""
        self._log_dropped = dropped

    def sources(self, report: Callable[[], SourceReport]) -> None:
        """Where a scrape learns of the sources of a home."""
        self._sources = report

    @property
    def collector(self) -> Collector:
        """What turns the cells into families."""
        return self

    def process(self) -> list[Metric]:
        """The process_* families. Counting 8,000 descriptors takes 9 milliseconds: call it from any thread."""
        return list(self._process.collect())

    def pieces(self, accept: str = "", process: list[Metric] | None = None) -> tuple[str, Iterator[bytes]]:
        """The Content-Type for an Accept header, and the exposition in pieces of a fraction of a millisecond.

        process: what `process` returned; left out, it is read here.
        """
        others = self.process() if process is None else process
        more = (Family(metric, iter(metric.samples)) for metric in others)
        return pieces(chain(self._families(), more), accept)

    async def exposition(self, accept: str) -> tuple[str, Iterator[bytes]]:
        """`pieces`, for a process that is alone."""
        return self.pieces(accept, await asyncio.to_thread(self.process))

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """The Content-Type for an Accept header, and the whole exposition."""
        content_type, parts = self.pieces(accept)
        return content_type, b"".join(parts)

    def collect(self) -> Iterator[Metric]:
        """All families of the cells; each is read when the iteration comes to it."""
        for metric, samples in self._families():
            metric.samples.extend(samples)
            yield metric

    def _families(self) -> Iterator[Family]:
        provider = ("provider", "zone")
        yield families.requests(self._requests)
        yield families.body_bytes(self._requests)
        yield families.durations(
            "domicile_request_duration_seconds",
            "From a request's first byte to the last byte of its answer.",
            ((*labels, cell.request) for labels, cell in self._timings.items()),
        )
        yield families.durations(
            "domicile_first_byte_seconds",
            "From handing a request to its provider to the first byte of the answer.",
            ((*labels, cell.first_byte) for labels, cell in self._timings.items()),
        )
        yield families.durations(
            "domicile_connect_duration_seconds",
            "Opening a connection to a provider, TLS included.",
            ((*labels, cell.connect) for labels, cell in self._timings.items()),
        )
        yield families.counted(
            "domicile_denials",
            "Requests that no provider was permitted, or able, to receive.",
            ("listener", "reason"),
            self._denials,
        )
        yield families.numbered(
            "domicile_decisions",
            "Decisions that a rule applied to.",
            "counter",
            ("rule",),
            (((rule,), count) for rule, count in self._decisions().items()),
        )
        yield families.numbered(
            "domicile_provider_healthy",
            "Whether a provider is healthy (1) or marked down (0).",
            "gauge",
            provider,
            (((name, zone), float(well)) for name, zone, well in self._healthy()),
        )
        yield families.numbered(
            "domicile_connections",
            "Client connections that are open.",
            "gauge",
            ("listener",),
            ((labels, cell.count) for labels, cell in self._connections.items()),
        )
        yield families.numbered(
            "domicile_connections_refused",
            "Client connections that were closed before a request, by why.",
            "counter",
            ("listener", "cause"),
            (((listener, cause), count) for listener, cause, count in self._refused()),
        )
        yield families.counted(
            "domicile_withdrawn",
            "Requests and tunnels ended because a reload or a date withdrew their permit.",
            ("listener", "provider"),
            self._withdrawn,
        )
        yield families.counted(
            "domicile_attempts",
            "Tries at a provider, by what came of them.",
            (*provider, "result"),
            self._attempts,
        )
        yield families.counted(
            "domicile_retries", "Tries at a provider that were not their request's first.", provider, self._retries
        )
        yield families.counted(
            "domicile_passed_connections",
            "Connections of tls and tcp listeners that ended, by how.",
            ("listener", "provider", "zone", "outcome"),
            self._passed,
        )
        yield families.counted("domicile_worker_restarts", "Workers that died and were replaced.", (), self._restarts)
        yield families.numbered(
            "domicile_workers",
            "Workers that live.",
            "gauge",
            (),
            () if self._workers is None else (((), self._workers()),),
        )
        yield families.numbered(
            "domicile_policy",
            "The policy in force.",
            "info",
            ("digest",),
            () if self._digest is None else (((self._digest,), 1.0),),
        )
        yield families.counted("domicile_policy_reloads", "Reloads, by what came of them.", ("result",), self._reloads)
        yield families.numbered(
            "domicile_certificate_expiry_timestamp_seconds",
            "When a certificate expires, in seconds since the epoch.",
            "gauge",
            ("name",),
            (((name,), expiry) for name, expiry in self._certificates.items()),
        )
        yield families.numbered(
            "domicile_log_dropped",
            "Access-log lines that were dropped.",
            "counter",
            (),
            (((), self._log_dropped()),),
        )
        yield from source_families(self._sources())

    def _know_listener(self, listener: str) -> None:
        if (listener,) in self._connections:
            return
        self._connections[(listener,)] = Cell()
        self._requests.setdefault((listener, NONE, NONE), RequestCell())
        for reason in _REASONS:
            self._denials[listener, reason] = Cell()

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
