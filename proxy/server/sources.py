"""What a scrape is told of the sources of a home."""

from collections.abc import Iterator

from proxy.http1.line import Line
from proxy.identity.counts import BOUNDS
from proxy.identity.jwt import JwtSource
from proxy.telemetry.sources import LookUps, SourceReport


def source_report(line: Line) -> SourceReport:
    """The counts of the sources in force, which outlive reloads, and the ages of what they answer from."""
    counts = line.sources.counts
    databases = list(line.countries.reports())
    return SourceReport(
        answers=counts.answers().items(),
        cache=[
            ((kind, result), number)
            for kind, count in counts.sources.items()
            for result, number in (("hit", count.hits), ("miss", count.misses))
        ],
        look_ups=[LookUps(kind, BOUNDS, count.counts, count.total) for kind, count in counts.sources.items()],
        key_sets=dict(_key_sets(line)).items(),
        databases=[((each.name,), each.age) for each in databases if each.age is not None],
        replaced=[
            ((each.name, result), number)
            for each in databases
            for result, number in (("loaded", each.loaded), ("refused", each.refused))
        ],
    )


def _key_sets(line: Line) -> Iterator[tuple[tuple[str, ...], float]]:
    for seat in line.sources.seats:
        if isinstance(seat.source, JwtSource):
            age = seat.source.keys.age()
            if age is not None:
                yield (seat.source.issuer,), age
