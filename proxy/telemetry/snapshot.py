"""Every count of one process at one moment, as plain values that cost little to make, to pickle and to add up.

A table has a row for each set of label values. A row has one number, or one for each word of the family's axis
(an outcome, a direction); a histogram's has a number for each bucket, then the sum. What a row's numbers are, and how
those of several processes join, is said by the family (families.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

Labels = tuple[str, ...]
Row = tuple[float, ...]
Table = Mapping[Labels, Row]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tables by the family's name. A process leaves out what it knows nothing of."""

    tables: Mapping[str, Table]

    def table(self, family: str) -> Table:
        return self.tables.get(family, {})
