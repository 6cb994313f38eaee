"""A scrape's text, in pieces small enough to make between two turns of the event loop.

prometheus_client writes whole registries; a thousand samples take it milliseconds, and a data plane that waits
for them shows it in its p99. So each family goes to its encoder in slices, whose repeated headers are cut away.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

SLICE = 50
"""Samples in a piece: a quarter of a millisecond."""

_EOF = b"# EOF\n"


class _Slice(Collector):
    """What an encoder takes for a registry: one family with some of its samples."""

    def __init__(self, metric: Metric, start: int) -> None:
        self._part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
        self._part.samples = metric.samples[start : start + SLICE]

    def collect(self) -> list[Metric]:
        return [self._part]


def pieces(registry: CollectorRegistry, accept: str) -> tuple[str, Iterator[bytes]]:
    """The Content-Type that suits the Accept header, and the exposition, made as it is iterated.

    Each family is read when its turn comes, so one histogram agrees with itself; two families may be a few
    turns of the loop apart.
    """
    encode, content_type = choose_encoder(accept)
    return content_type, _encoded(registry, encode)


def _encoded(registry: CollectorRegistry, encode: Callable[[Collector], bytes]) -> Iterator[bytes]:
    ending = b""
    for metric in registry.collect():
        for start in range(0, max(1, len(metric.samples)), SLICE):
            text = encode(_Slice(metric, start))
            if text.endswith(_EOF):
                ending = _EOF
                text = text.removesuffix(_EOF)
            if start:
                text = b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"# "))
            yield text
    yield ending
