"""What a run measured, and its medians."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Seen:
    """What a load saw in one run. done: how much of its work was done, without a failure; p99: seconds."""

    done: float
    seconds: float
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One proxy on one work in one round. cost: seconds of processor time for each that was done; p99: seconds."""

    work: str
    proxy: str
    cost: float
    p99: float | None
    rate: float


@dataclass(slots=True)
class Figures:
    """All rounds' figures. A missing one is None: that proxy did not run, or failed at that work."""

    rows: list[Figure] = field(default_factory=list)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def cost(self, work: str, proxy: str) -> float | None:
        """The median processor time of one, in seconds."""
        return _median(row.cost for row in self._of(work, proxy))

    def p99(self, work: str, proxy: str) -> float | None:
        """The median of the rounds' 99th percentiles, in seconds."""
        return _median(row.p99 for row in self._of(work, proxy) if row.p99 is not None)

    def ratio(self, work: str, proxy: str, other: str) -> float | None:
        """A proxy's median cost over another's."""
        cost, base = self.cost(work, proxy), self.cost(work, other)
        return None if cost is None or base is None else cost / base

    def spread(self, work: str, proxy: str) -> float | None:
        """How far the rounds lie apart, as a share of their median: what a small difference is worth."""
        costs = [row.cost for row in self._of(work, proxy)]
        return (max(costs) - min(costs)) / median(costs) if costs else None

    def _of(self, work: str, proxy: str) -> list[Figure]:
        if (work, proxy) in self.failures:
            return []
        return [row for row in self.rows if (row.work, row.proxy) == (work, proxy)]

    def proxies(self) -> list[str]:
        """Those that have a figure, in the order in which they first ran."""
        return list(dict.fromkeys(row.proxy for row in self.rows))

    def works(self) -> set[str]:
        """Those that have a figure of some proxy."""
        return {row.work for row in self.rows}


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None
