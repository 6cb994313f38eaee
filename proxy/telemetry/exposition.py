"""A scrape's text, in pieces small enough to make between two turns of the event loop.

prometheus_client writes whole registries and takes 5 to 8 microseconds a sample, so a thousand samples would stop
the data plane for as many milliseconds. So its encoder is given each family in slices, whose repeated headers are
cut away.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from proxy.telemetry.families import Family

SLICE = 25
"""Samples in a piece: about 0.2 milliseconds."""

_EOF = b"# EOF\n"


class _Slice(Collector):
    """What an encoder takes for a registry: one family with some of its samples."""

    def __init__(self, metric: Metric, samples: list[Sample]) -> None:
        self._part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
        self._part.samples = samples

    def collect(self) -> list[Metric]:
        return [self._part]


def pieces(families: Iterable[Family], accept: str) -> tuple[str, Iterator[bytes]]:
    """The Content-Type that suits the Accept header, and the exposition, made as it is iterated.

    Each family is read when its turn comes, so two of them may be a few turns of the loop apart.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # it trips over malformed parameters
        encode, content_type = choose_encoder("")
    return content_type, _encoded(families, encode)


def _encoded(families: Iterable[Family], encode: Callable[[Collector], bytes]) -> Iterator[bytes]:
    ending = b""
    for metric, samples in families:
        first, some = True, list(islice(samples, SLICE))
        while first or some:
            text = encode(_Slice(metric, some))
            if text.endswith(_EOF):
                ending = _EOF
                text = text.removesuffix(_EOF)
            if not first:
                text = b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"# "))
            yield text
            first, some = False, list(islice(samples, SLICE))
    yield ending
