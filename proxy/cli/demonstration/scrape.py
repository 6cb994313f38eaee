"""The proxy's own metrics, scraped while traffic flows."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Self, TypeVar

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

_Key = TypeVar("_Key", str, float)

INTERVAL = 0.25
"""Seconds between two scrapes."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the proxy had counted for one provider at one moment.

    answered: requests by class of status. first_byte: cumulative counts of answers by upper bound in seconds, as a
    Prometheus histogram has them.
    """

    answered: Mapping[str, float] = field(default_factory=dict)
    to_provider: float = 0.0
    to_client: float = 0.0
    first_byte: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scrape:
    """time: monotonic seconds. providers: counts by provider's name."""

    time: float
    providers: Mapping[str, Counts]

    def of(self, provider: str) -> Counts:
        return self.providers.get(provider, Counts())


def read_scrape(text: str, moment: float) -> Scrape:
    """The text format of /metrics as counts."""
    answered: dict[str, dict[str, float]] = {}
    moved: dict[str, dict[str, float]] = {}
    buckets: dict[str, dict[float, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            provider = sample.labels.get("provider")
            if provider is None:
                continue
            if sample.name == "domicile_requests_total":
                _add(answered.setdefault(provider, {}), sample.labels["status"], sample.value)
            elif sample.name == "domicile_bytes_total":
                _add(moved.setdefault(provider, {}), sample.labels["direction"], sample.value)
            elif sample.name == "domicile_first_byte_seconds_bucket":
                _add(buckets.setdefault(provider, {}), float(sample.labels["le"]), sample.value)
    return Scrape(
        moment,
        {
            name: Counts(
                answered.get(name, {}),
                moved.get(name, {}).get("to_provider", 0.0),
                moved.get(name, {}).get("to_client", 0.0),
                buckets.get(name, {}),
            )
            for name in {*answered, *moved, *buckets}
        },
    )


def _add(sums: dict[_Key, float], key: _Key, value: float) -> None:
    # One provider's series of several listeners are one count.
    sums[key] = sums.get(key, 0.0) + value


class Scraper:
    """Asks the admin endpoints at ADDRESS:PORT. Used as an asynchronous context."""

    def __init__(self, admin: str) -> None:
        self._origin = f"http://{admin}"
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10.0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ready(self) -> bool:
        """Whether /readyz says so."""
        async with self._session.get(f"{self._origin}/readyz") as response:
            return response.status == 200

    async def scrape(self) -> Scrape:
        """/metrics, now."""
        return read_scrape(*await self._get())

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[list[Scrape]]:
        """Scrapes at every interval while the context is open, and one at its begin and end; there when it closes."""
        # Read afterwards: that takes the loop a while, and providers and clients live on it too.
        texts, scrapes = [await self._get()], list[Scrape]()
        watch = asyncio.create_task(self._watch(texts))
        try:
            yield scrapes
        finally:
            watch.cancel()
            await asyncio.wait((watch,))
        texts.append(await self._get())
        scrapes += [read_scrape(text, moment) for text, moment in texts]

    async def _watch(self, texts: list[tuple[str, float]]) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            texts.append(await self._get())

    async def _get(self) -> tuple[str, float]:
        async with self._session.get(f"{self._origin}/metrics") as response:
            return await response.text(), time.monotonic()


def bandwidth(scrapes: Sequence[Scrape], provider: str) -> list[tuple[float, float]]:
    """Pairs of seconds since the first scrape and bytes a second, both directions, for each interval."""
    begin = scrapes[0].time if scrapes else 0.0
    points = []
    for before, after in pairwise(scrapes):
        lasted = after.time - before.time
        if lasted <= 0:
            continue
        one, other = before.of(provider), after.of(provider)
        moved = other.to_provider + other.to_client - one.to_provider - one.to_client
        points.append(((before.time + after.time) / 2 - begin, moved / lasted))
    return points


def quantile(before: Counts, after: Counts, share: float) -> float | None:
    """Seconds to the first byte that this share of the answers between two scrapes kept to; None if there were none.

    Interpolated inside a bucket, as Prometheus' histogram_quantile does.
    """
    bounds = sorted(after.first_byte)
    counts = [after.first_byte[bound] - before.first_byte.get(bound, 0.0) for bound in bounds]
    if not counts or counts[-1] <= 0:
        return None
    rank = share * counts[-1]
    lower, below = 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if count >= rank:
            if bound == inf:
                return lower
            inside = count - below
            return lower + (bound - lower) * ((rank - below) / inside if inside else 1.0)
        lower, below = bound, count
    return lower
