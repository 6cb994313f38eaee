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
from proxy.telemetry.words import ATTEMPTS, DIRECTIONS, OUTCOMES, REASONS, RELOADS, STATUS_CLASSES

_PROVIDER = ("provider", "zone")
_PLACE = ("listener", *_PROVIDER)
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

    join: how the numbers of several processes become one; None: one process speaks for all, the first that knows.
    """

    name: str
    documentation: str
    kind: Literal["counter", "gauge", "histogram", "info"]
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
    metric = Metric(layout.name, layout.documentation, layout.kind, word if word in _UNITS else "")
    return Family(metric, _durations(layout, rows) if layout.kind == "histogram" else _numbers(layout, rows))


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
    join=None,
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
    *(HEALTHY, CONNECTIONS, REFUSED, WITHDRAWN, TRIES, RETRIES),
    *(SOURCE_ANSWERS, SOURCE_DURATION, SOURCE_CACHE, KEY_SET_AGE, GEOIP_AGE, GEOIP_REPLACEMENTS),
    *(POLICY, POLICY_RELOADS, CERTIFICATE_EXPIRY, LOG_DROPPED),
    *(WORKERS, WORKER_RESTARTS, PROCESSOR_SECONDS, RESIDENT_BYTES),
)
"""All of them, in the order of a scrape."""
