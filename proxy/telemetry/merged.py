"""What several processes count, as one.

- A worker's snapshots are cumulative: the last one says all. Counters and histograms of all processes add up; of
  gauges the family says how they join (families.py).
- Nothing that was counted is ever taken back: what a worker counted stays when it is gone, and so does a row that
  fell or that it no longer shows. What a worker counted after its last snapshot is lost with it.
- The master's own counts (reloads, restarts, the policy in force, what the log's writer dropped) are one more
  snapshot, `own`, that is given with each question and comes first: where one process speaks for all, it is heard.
- A scrape sees what was known when it began, though it is made piece by piece.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import chain
from operator import gt

from prometheus_client import Metric

from proxy.telemetry import families
from proxy.telemetry.exposition import pieces
from proxy.telemetry.families import FAMILIES, Family, Layout, family
from proxy.telemetry.snapshot import Labels, Row, Snapshot

_NOTHING = Snapshot({})
_COUNTING = tuple(layout for layout in FAMILIES if layout.counts)


class Merged:
    """The snapshots of all workers, those that are gone among them."""

    def __init__(self) -> None:
        self._living: dict[int, Snapshot] = {}
        self._ended = _NOTHING

    def take(self, worker: int, snapshot: Snapshot) -> None:
        """The newest of a worker."""
        self._keep(self._living.get(worker, _NOTHING), snapshot)
        self._living[worker] = snapshot

    def gone(self, worker: int) -> None:
        """The worker has ended: its gauges go. Its number may be another's from now on."""
        self._keep(self._living.pop(worker, _NOTHING), _NOTHING)

    def families(self, own: Snapshot) -> Iterator[Family]:
        """All families, of all processes together."""
        parts = (own, self._ended, *self._living.values())
        return (family(layout, _joined(layout, parts)) for layout in FAMILIES)

    def snapshot(self, own: Snapshot) -> Snapshot:
        """All processes together, as if they were one."""
        parts = (own, self._ended, *self._living.values())
        return Snapshot({layout.name: dict(_joined(layout, parts)) for layout in FAMILIES})

    def pieces(self, own: Snapshot, accept: str, process: Iterable[Metric]) -> tuple[str, Iterator[bytes]]:
        """The Content-Type for an Accept header, and the exposition in pieces of a fraction of a millisecond.

        process: the process_* families of who answers, as Metrics reads them.
        """
        return pieces(chain(self.families(own), map(families.of, process)), accept)

    def _keep(self, before: Snapshot, now: Snapshot) -> None:
        """Keep the rows of `before` that began anew, or are not there any more, in `now`."""
        for layout in _COUNTING:
            old, new = before.table(layout.name), now.table(layout.name)
            ended = {labels: row for labels, row in old.items() if _began_anew(row, new.get(labels))}
            if ended:
                # Another snapshot, for a scrape may be in the middle of the one that was.
                kept = dict(_joined(layout, (self._ended, Snapshot({layout.name: ended}))))
                self._ended = Snapshot({**self._ended.tables, layout.name: kept})


def _began_anew(before: Row, now: Row | None) -> bool:
    return now is None or (now != before and any(map(gt, before, now)))


def _joined(layout: Layout, parts: Iterable[Snapshot]) -> Iterator[tuple[Labels, Row]]:
    tables = [part.table(layout.name) for part in parts]
    join = layout.join
    if join is None:
        yield from next(filter(None, tables), {}).items()
        return
    for labels in dict.fromkeys(chain.from_iterable(tables)):
        rows = (table[labels] for table in tables if labels in table)
        yield labels, reduce(lambda one, other: tuple(map(join, one, other)), rows)
