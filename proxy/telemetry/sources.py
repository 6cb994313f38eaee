"""The families of the sources of a home, from what the sources count themselves.

Labels are kinds of sources, issuers of the policy and names of its databases: nothing that a request brought.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.samples import Sample

from proxy.telemetry.families import Family, numbered

_DURATION = "domicile_source_duration_seconds"


@dataclass(frozen=True, slots=True)
class LookUps:
    """One source's look-ups that left the process. counts: by bucket of bounds, and one more; total: seconds."""

    source: str
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What a scrape is told of the sources.

    answers: (source, answer) and how many requests. cache: (source, hit or miss) and how often. key_sets: issuer
    and age. databases: name and age. replaced: (database, loaded or refused) and how often. Ages are seconds.
    """

    answers: Iterable[tuple[tuple[str, ...], float]] = ()
    cache: Iterable[tuple[tuple[str, ...], float]] = ()
    look_ups: Iterable[LookUps] = ()
    key_sets: Iterable[tuple[tuple[str, ...], float]] = ()
    databases: Iterable[tuple[tuple[str, ...], float]] = ()
    replaced: Iterable[tuple[tuple[str, ...], float]] = ()


def source_families(report: SourceReport) -> Iterator[Family]:
    """All families of the sources."""
    yield numbered(
        "domicile_source_answers",
        "What sources of a home answered, once for each request that asked them.",
        "counter",
        ("source", "answer"),
        report.answers,
    )
    yield Family(
        Metric(_DURATION, "Look-ups of a source that left the process.", "histogram", "seconds"),
        _durations(list(report.look_ups)),
    )
    yield numbered(
        "domicile_source_cache",
        "What sources found in tables of their own, or did not.",
        "counter",
        ("source", "result"),
        report.cache,
    )
    yield numbered(
        "domicile_key_set_age_seconds",
        "Seconds since an issuer's key set was fetched.",
        "gauge",
        ("issuer",),
        report.key_sets,
    )
    yield numbered(
        "domicile_geoip_age_seconds",
        "Seconds since a country database was made.",
        "gauge",
        ("database",),
        report.databases,
    )
    yield numbered(
        "domicile_geoip_replacements",
        "Country databases whose file was replaced, by what came of it.",
        "counter",
        ("database", "result"),
        report.replaced,
    )


def _durations(look_ups: list[LookUps]) -> Iterator[Sample]:
    for each in look_ups:
        labels = {"source": each.source}
        counts, total = list(each.counts), each.total
        for le, seen in zip((*map(str, each.bounds), "+Inf"), accumulate(counts), strict=True):
            yield Sample(f"{_DURATION}_bucket", {**labels, "le": le}, seen)
        yield Sample(f"{_DURATION}_count", labels, sum(counts))
        yield Sample(f"{_DURATION}_sum", labels, total)
