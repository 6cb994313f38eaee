"""What the sources of a home count themselves, as tables.

Labels are kinds of sources, issuers of the policy and names of its databases: nothing that a request brought.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxy.telemetry import families
from proxy.telemetry.snapshot import Table


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


def source_tables(report: SourceReport) -> dict[str, Table]:
    """All tables of the sources, by their families."""
    return {
        families.SOURCE_ANSWERS.name: _numbers(report.answers),
        families.SOURCE_DURATION.name: {
            (each.source, *map(str, each.bounds), "+Inf"): (*each.counts, each.total) for each in report.look_ups
        },
        families.SOURCE_CACHE.name: _numbers(report.cache),
        families.KEY_SET_AGE.name: _numbers(report.key_sets),
        families.GEOIP_AGE.name: _numbers(report.databases),
        families.GEOIP_REPLACEMENTS.name: _numbers(report.replaced),
    }


def _numbers(values: Iterable[tuple[tuple[str, ...], float]]) -> Table:
    return {labels: (value,) for labels, value in values}
