"""The families that a scrape shows: names, help, and how cells become their samples."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.samples import Sample

from proxy.telemetry.cells import STATUS_CLASSES, Cell, RequestCell
from proxy.telemetry.histogram import BOUNDS, Histogram

_LE = (*(str(bound) for bound in BOUNDS), "+Inf")


def requests(cells: Mapping[tuple[str, str, str], RequestCell]) -> Metric:
    family = Metric("domicile_requests", "Requests that ended, by class of the answer's status.", "counter")
    for (listener, provider, zone), cell in cells.items():
        for status, count in zip(STATUS_CLASSES, cell.status, strict=True):
            labels = {"listener": listener, "provider": provider, "zone": zone, "status": status}
            family.samples.append(Sample("domicile_requests_total", labels, count))
    return family


def body_bytes(cells: Mapping[tuple[str, str, str], RequestCell]) -> Metric:
    family = Metric("domicile_bytes", "Bytes of bodies and tunnels that were passed on.", "counter", "bytes")
    for (listener, provider, zone), cell in cells.items():
        for direction, count in (("to_provider", cell.to_provider), ("to_client", cell.to_client)):
            labels = {"listener": listener, "provider": provider, "zone": zone, "direction": direction}
            family.samples.append(Sample("domicile_bytes_total", labels, count))
    return family


def durations(name: str, documentation: str, histograms: Iterable[tuple[str, str, Histogram]]) -> Metric:
    """histograms: provider, zone and the observations. One read of `counts`, so that buckets and count agree."""
    family = Metric(name, documentation, "histogram", "seconds")
    for provider, zone, histogram in histograms:
        labels = {"provider": provider, "zone": zone}
        family.samples.extend(_histogram(name, labels, histogram))
    return family


def _histogram(name: str, labels: dict[str, str], histogram: Histogram) -> Iterator[Sample]:
    seen = 0
    for le, count in zip(_LE, histogram.counts.copy(), strict=True):
        seen += count
        yield Sample(f"{name}_bucket", {**labels, "le": le}, seen)
    yield Sample(f"{name}_count", labels, seen)
    yield Sample(f"{name}_sum", labels, histogram.total)


def counted(name: str, documentation: str, labels: tuple[str, ...], cells: Mapping[tuple[str, ...], Cell]) -> Metric:
    """A counter family of plain cells; name without `_total`."""
    counts = ((values, cell.count) for values, cell in cells.items())
    return numbered(name, documentation, "counter", labels, counts)


def numbered(
    name: str,
    documentation: str,
    kind: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    """A family of one value for each set of label values. kind: counter, gauge or info; name without its suffix."""
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    family = Metric(name, documentation, kind)
    for label_values, value in values:
        family.samples.append(Sample(name + suffix, dict(zip(labels, label_values, strict=True)), value))
    return family
