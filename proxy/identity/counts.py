"""What the sources count: plain numbers on slotted objects, which outlive a reload.

One thread, the event loop's, changes them. Whoever scrapes reads them; nothing here knows of metrics.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final, Literal

from proxy.identity.answers import Kind

Word = Literal["home", "silent", "invalid", "unavailable"]
"""One of a source's four answers."""

BOUNDS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds, in seconds, of how long look-ups take: from a local file to a remote service's time limit."""


class SourceCount:
    """One kind of source. hits, misses: of its own table. counts, total: of look-ups that left the process.

    counts: by bucket of BOUNDS, and one more for what took longer than all. total: their seconds.
    """

    __slots__ = ("counts", "hits", "misses", "total")

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one look-up that left the process."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Trail:
    """What the sources answered, in order, and how many requests it was so for: the plane adds one for each."""

    __slots__ = ("answers", "count")

    def __init__(self, answers: tuple[tuple[Kind, Word], ...]) -> None:
        self.answers = answers
        self.count = 0


class SourceCounts:
    """All sources' counts. There are as few trails as a policy has sources, four times: labels stay bounded."""

    __slots__ = ("_trails", "sources")

    def __init__(self) -> None:
        self.sources: dict[Kind, SourceCount] = {}
        self._trails: dict[tuple[tuple[Kind, Word], ...], Trail] = {}

    def of(self, kind: Kind) -> SourceCount:
        """The counts of one kind, which then is known to a scrape."""
        return self.sources.setdefault(kind, SourceCount())

    def trail(self, answers: Iterable[tuple[Kind, Word]]) -> Trail:
        """The cell of these answers."""
        key = tuple(answers)
        trail = self._trails.get(key)
        if trail is None:
            trail = self._trails[key] = Trail(key)
        return trail

    def answers(self) -> dict[tuple[Kind, Word], int]:
        """How many requests each source answered with each word; two sources of one kind count together."""
        totals: dict[tuple[Kind, Word], int] = {}
        for kind in self.sources:
            totals |= {(kind, "home"): 0, (kind, "silent"): 0, (kind, "invalid"): 0, (kind, "unavailable"): 0}
        for trail in self._trails.values():
            for answer in trail.answers:
                totals[answer] = totals.get(answer, 0) + trail.count
        return totals
