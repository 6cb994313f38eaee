"""The families that a scrape shows: names, help, labels, and how rows become their samples.

A row is looked at when the iteration comes to it, between turns of the event loop.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Literal, NamedTuple

from prometheus_client import Metric
from prometheus_client.samples import Sample

from proxy.telemetry.histogram import BOUNDS
from proxy.telemetry.snapshot import Labels, Row
from proxy.telemetry.words import (
    ATTEMPTS,
    CHECKS,
    DIRECTIONS,
    HINDRANCES,
    NAME_ANSWERS,
    OUTCOMES,
    REASONS,
    RELOADS,
    STATES,
    STATUS_CLASSES,
    VERDICTS,
    WAITED,
)

_PROVIDER = ("provider", "zone")
_PLACE = ("listener", *_PROVIDER)
_ENDPOINT = (*_PROVIDER, "endpoint")
_UNITS = ("bytes", "seconds")
_SUFFIX = {"counter": "_total", "info": "_info"}


class Axis(NamedTuple):
    """The label that tells a row's numbers apart, and its words in their order."""

    label: str
    words: tuple[str, ...]


_LE = Axis("le", (*map(str, BOUNDS), "+Inf"))
_OWN_LE = Axis("le", ())
"""A histogram whose rows have their bounds with them: as words, after the label values."""


class Layout(NamedTuple):
    """One family. name: without the suffix of its kind.

    kind: a state is a gauge, 1 for one word of its axis and 0 for the others; its row is the place of that word.
    join: how the numbers of several processes become one; None: one process speaks for all, the first that knows.
    """

    name: str
    documentation: str
    kind: Literal["counter", "gauge", "histogram", "info", "state"]
    labels: Labels = ()
    axis: Axis | None = None
    join: Callable[[float, float], float] | None = operator.add

    @property
    def counts(self) -> bool:
        """Whether it only ever rises."""
        return self.kind in ("counter", "histogram")


class Family(NamedTuple):
    """A family without its samples, and the samples, once."""

    metric: Metric
    samples: Iterator[Sample]


def of(metric: Metric) -> Family:
    """A family that somebody else made."""
    return Family(metric, iter(metric.samples))


def family(layout: Layout, rows: Iterable[tuple[Labels, Row]]) -> Family:
    """The samples of rows. The rows are taken one by one."""
    word = layout.name.rpartition("_")[2]
    kind = "gauge" if layout.kind == "state" else layout.kind
    metric = Metric(layout.name, layout.documentation, kind, word if word in _UNITS else "")
    return Family(metric, _SAMPLES.get(layout.kind, _numbers)(layout, rows))


def _numbers(layout: Layout, rows: Iterable[tuple[Labels, Row]]) -> Iterator[Sample]:
    name = layout.name + _SUFFIX.get(layout.kind, "")
    for values, row in rows:
        labels = dict(zip(layout.labels, values, strict=True))
        if layout.axis is None:
            (number,) = row
            yield Sample(name, labels, number)
            continue
        for word, number in zip(layout.axis.words, row, strict=True):
            yield Sample(name, {**labels, layout.axis.label: word}, number)


def _durations(layout: Layout, rows: Iterable[tuple[Labels, Row]]) -> Iterator[Sample]:
    width = len(layout.labels)
    axis = layout.axis or _LE
    for values, (*counts, total) in rows:
        labels = dict(zip(layout.labels, values[:width], strict=True))
        for le, seen in zip(axis.words or values[width:], accumulate(counts), strict=True):
            yield Sample(f"{layout.name}_bucket", {**labels, "le": le}, seen)
        yield Sample(f"{layout.name}_count", labels, sum(counts))
        yield Sample(f"{layout.name}_sum", labels, total)


def _states(layout: Layout, rows: Iterable[tuple[Labels, Row]]) -> Iterator[Sample]:
    width = 0 if layout.axis is None else len(layout.axis.words)
    return _numbers(layout, ((values, tuple([float(place == at) for at in range(width)])) for values, (place,) in rows))


_SAMPLES = {"histogram": _durations, "state": _states}

REQUESTS = Layout(
    "domicile_requests",
    "Requests that ended, by class of the answer's status.",
    "counter",
    _PLACE,
    Axis("status", STATUS_CLASSES),
)
BYTES = Layout(
    "domicile_bytes",
    "Bytes of bodies, tunnels and connections that were passed on.",
    "counter",
    _PLACE,
    Axis("direction", DIRECTIONS),
)
REQUEST_DURATION = Layout(
    "domicile_request_duration_seconds",
    "From a request's first byte to the last byte of its answer.",
    "histogram",
    _PROVIDER,
    _LE,
)
FIRST_BYTE = Layout(
    "domicile_first_byte_seconds",
    "From handing a request to its provider to the first byte of the answer.",
    "histogram",
    _PROVIDER,
    _LE,
)
CONNECT_DURATION = Layout(
    "domicile_connect_duration_seconds",
    "Opening a connection to a provider, TLS included.",
    "histogram",
    _PROVIDER,
    _LE,
)
PASSED = Layout(
    "domicile_passed_connections",
    "Connections of tls and tcp listeners that ended, by how.",
    "counter",
    _PLACE,
    Axis("outcome", OUTCOMES),
)
DENIALS = Layout(
    "domicile_denials",
    "Requests and connections that no provider was permitted, or able, to receive.",
    "counter",
    ("listener",),
    Axis("reason", REASONS),
)
DECISIONS = Layout("domicile_decisions", "Decisions that a rule applied to.", "counter", ("rule",))
HEALTHY = Layout(
    "domicile_provider_healthy",
    "Whether a provider is healthy (1) or marked down by a worker (0).",
    "gauge",
    _PROVIDER,
    join=min,
)
CONNECTIONS = Layout("domicile_connections", "Client connections that are open.", "gauge", ("listener",))
REFUSED = Layout(
    "domicile_connections_refused",
    "Client connections that were closed before a request, by why.",
    "counter",
    ("listener", "cause"),
)
WITHDRAWN = Layout(
    "domicile_withdrawn",
    "Requests, tunnels and connections ended because a reload or a date withdrew their permit.",
    "counter",
    ("listener", "provider"),
)
TRIES = Layout(
    "domicile_attempts",
    "Tries at a provider, by what came of them.",
    "counter",
    _PROVIDER,
    Axis("result", ATTEMPTS),
)
RETRIES = Layout("domicile_retries", "Tries at a provider that were not their request's first.", "counter", _PROVIDER)
RETRIES_REFUSED = Layout(
    "domicile_retries_refused",
    "Requests that failed and were not tried again, by why.",
    "counter",
    (),
    Axis("reason", HINDRANCES),
)
HEDGES = Layout("domicile_hedges", "Reads that were asked of this provider too, being late.", "counter", _PROVIDER)
ENDPOINT_STATE = Layout(
    "domicile_endpoint_state",
    "What an endpoint's breaker lets through (1) and does not (0).",
    "state",
    _ENDPOINT,
    Axis("state", STATES),
    join=max,
)
BREAKER_TRIPS = Layout("domicile_breaker_trips", "How often an endpoint's breaker opened.", "counter", _ENDPOINT)
CHECK_RESULTS = Layout(
    "domicile_checks", "Active checks of an endpoint that ended.", "counter", _ENDPOINT, Axis("result", CHECKS)
)
CHECK_RTT = Layout(
    "domicile_check_rtt_seconds",
    "The shortest round trip to an endpoint that the kernel has seen on a check's connection.",
    "gauge",
    _ENDPOINT,
    join=min,
)
EVIDENCE = Layout(
    "domicile_evidence",
    "What checks show (1) of whether an endpoint is where it says.",
    "state",
    _ENDPOINT,
    Axis("verdict", VERDICTS),
    join=max,
)
QUEUE_WAITING = Layout(
    "domicile_queue_waiting", "Requests that wait for a provider at its connection cap.", "gauge", _PROVIDER
)
QUEUE_ENDED = Layout(
    "domicile_queue_ended",
    "Requests that have waited for a provider at its connection cap, or found no place.",
    "counter",
    _PROVIDER,
    Axis("outcome", WAITED),
)
NAMES = Layout(
    "domicile_name_answers",
    "Questions for a provider's addresses, by what came of them.",
    "counter",
    _PROVIDER,
    Axis("result", NAME_ANSWERS),
)
SHED = Layout("domicile_shed", "Requests turned away because this proxy had too many.", "counter", ("listener",))
RATE_LIMITED = Layout(
    "domicile_rate_limited",
    "Requests and connections turned away by a limit of rate.",
    "counter",
    ("listener", "limit"),
)
RATE_STORE_UNANSWERED = Layout(
    "domicile_rate_store_unanswered",
    "Times that the store of limits of rate did not answer, and a worker kept them by itself.",
    "counter",
)
CONCURRENCY_LIMIT = Layout(
    "domicile_concurrency_limit", "How many requests the workers let in at once, as it is now.", "gauge"
)
UNDER_WAY = Layout("domicile_under_way", "Requests that take a place of the limit of concurrency.", "gauge")
LOOP_LAG = Layout("domicile_loop_lag_seconds", "How late the workers' loops came to a timer.", "histogram", (), _LE)
SOURCE_ANSWERS = Layout(
    "domicile_source_answers",
    "What sources of a home answered, once for each request that asked them.",
    "counter",
    ("source", "answer"),
)
SOURCE_DURATION = Layout(
    "domicile_source_duration_seconds",
    "Look-ups of a source that left the process.",
    "histogram",
    ("source",),
    _OWN_LE,
)
SOURCE_CACHE = Layout(
    "domicile_source_cache", "What sources found in tables of their own, or did not.", "counter", ("source", "result")
)
KEY_SET_AGE = Layout(
    "domicile_key_set_age_seconds", "Seconds since an issuer's key set was fetched.", "gauge", ("issuer",), join=max
)
GEOIP_AGE = Layout(
    "domicile_geoip_age_seconds", "Seconds since a country database was made.", "gauge", ("database",), join=max
)
GEOIP_REPLACEMENTS = Layout(
    "domicile_geoip_replacements",
    "Country databases whose file was replaced, by what came of it.",
    "counter",
    ("database", "result"),
)
POLICY = Layout("domicile_policy", "The policy in force.", "info", ("digest",), join=None)
POLICY_RELOADS = Layout(
    "domicile_policy_reloads", "Reloads, by what came of them.", "counter", (), Axis("result", RELOADS)
)
CERTIFICATE_EXPIRY = Layout(
    "domicile_certificate_expiry_timestamp_seconds",
    "When a certificate expires, in seconds since the epoch.",
    "gauge",
    ("name",),
    join=min,
)
LOG_DROPPED = Layout("domicile_log_dropped", "Access-log lines that were dropped.", "counter")
WORKERS = Layout("domicile_workers", "Workers that live.", "gauge")
WORKER_RESTARTS = Layout("domicile_worker_restarts", "Workers that died and were replaced.", "counter")
PROCESSOR_SECONDS = Layout(
    "domicile_worker_processor_seconds", "Processor time of all workers, in user and in system mode.", "counter"
)
RESIDENT_BYTES = Layout("domicile_worker_resident_bytes", "Memory that the living workers hold.", "gauge")

FAMILIES = (
    *(REQUESTS, BYTES, REQUEST_DURATION, FIRST_BYTE, CONNECT_DURATION, PASSED, DENIALS, DECISIONS),
    *(HEALTHY, CONNECTIONS, REFUSED, WITHDRAWN, TRIES, RETRIES, RETRIES_REFUSED, HEDGES),
    *(ENDPOINT_STATE, BREAKER_TRIPS, CHECK_RESULTS, CHECK_RTT, EVIDENCE, QUEUE_WAITING, QUEUE_ENDED, NAMES),
    *(SHED, RATE_LIMITED, RATE_STORE_UNANSWERED, CONCURRENCY_LIMIT, UNDER_WAY, LOOP_LAG),
    *(SOURCE_ANSWERS, SOURCE_DURATION, SOURCE_CACHE, KEY_SET_AGE, GEOIP_AGE, GEOIP_REPLACEMENTS),
    *(POLICY, POLICY_RELOADS, CERTIFICATE_EXPIRY, LOG_DROPPED),
    *(WORKERS, WORKER_RESTARTS, PROCESSOR_SECONDS, RESIDENT_BYTES),
)
"""All of them, in the order of a scrape."""
