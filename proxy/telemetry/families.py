"""The families that a scrape shows: names, help, and how cells become their samples.

Samples are made as they are iterated, between turns of the event loop, so the tables of cells are copied first;
what belongs together (one histogram) is read at once.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.samples import Sample

from proxy.telemetry.cells import STATUS_CLASSES, Cell, RequestCell
from proxy.telemetry.histogram import BOUNDS, Histogram

_LE = (*(str(bound) for bound in BOUNDS), "+Inf")


class Family(NamedTuple):
    """A family without its samples, and the samples, once."""

    metric: Metric
    samples: Iterator[Sample]


def requests(cells: Mapping[tuple[str, str, str], RequestCell]) -> Family:
    family = Metric("domicile_requests", "Requests that ended, by class of the answer's status.", "counter")
    return Family(family, _requests(list(cells.items())))


def _requests(cells: list[tuple[tuple[str, str, str], RequestCell]]) -> Iterator[Sample]:
    for (listener, provider, zone), cell in cells:
        for status, count in zip(STATUS_CLASSES, cell.status, strict=True):
            labels = {"listener": listener, "provider": provider, "zone": zone, "status": status}
            yield Sample("domicile_requests_total", labels, count)


def body_bytes(cells: Mapping[tuple[str, str, str], RequestCell]) -> Family:
    family = Metric("domicile_bytes", "Bytes of bodies and tunnels that were passed on.", "counter", "bytes")
    return Family(family, _body_bytes(list(cells.items())))


def _body_bytes(cells: list[tuple[tuple[str, str, str], RequestCell]]) -> Iterator[Sample]:
    for (listener, provider, zone), cell in cells:
        for direction, count in (("to_provider", cell.to_provider), ("to_client", cell.to_client)):
            labels = {"listener": listener, "provider": provider, "zone": zone, "direction": direction}
            yield Sample("domicile_bytes_total", labels, count)


def durations(name: str, documentation: str, histograms: Iterable[tuple[str, str, Histogram]]) -> Family:
    """histograms: provider, zone and the observations."""
    return Family(Metric(name, documentation, "histogram", "seconds"), _durations(name, list(histograms)))


def _durations(name: str, histograms: list[tuple[str, str, Histogram]]) -> Iterator[Sample]:
    for provider, zone, histogram in histograms:
        labels = {"provider": provider, "zone": zone}
        counts, total, seen = histogram.counts.copy(), histogram.total, 0
        for le, count in zip(_LE, counts, strict=True):
            seen += count
            yield Sample(f"{name}_bucket", {**labels, "le": le}, seen)
        yield Sample(f"{name}_count", labels, seen)
        yield Sample(f"{name}_sum", labels, total)


def counted(name: str, documentation: str, labels: tuple[str, ...], cells: Mapping[tuple[str, ...], Cell]) -> Family:
    """A counter family of plain cells; name without `_total`."""
    return numbered(name, documentation, "counter", labels, ((values, cell.count) for values, cell in cells.items()))


def numbered(
    name: str,
    documentation: str,
    kind: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float]],
) -> Family:
    """A family of one value for each set of label values. kind: counter, gauge or info; name without its suffix."""
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    return Family(Metric(name, documentation, kind), _numbered(name + suffix, labels, list(values)))


def _numbered(name: str, labels: tuple[str, ...], values: list[tuple[tuple[str, ...], float]]) -> Iterator[Sample]:
    for label_values, value in values:
        yield Sample(name, dict(zip(labels, label_values, strict=True)), value)
