"""The counters that the data planes increment: plain integers on slotted objects.

One thread, the event loop's, changes a cell. A holder keeps the cell and increments its attribute; nothing is
looked up, locked or formatted until somebody scrapes.
"""

from collections.abc import Callable

from proxy.telemetry.histogram import Histogram
from proxy.telemetry.snapshot import Labels, Table
from proxy.telemetry.words import STATUS_CLASSES


class Cell:
    """One number: a counter that only rises, or a gauge, by what it was asked for as."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class CellTable:
    """The cells of one family: for its labels, a cell, or one for each word of its axis, all made at once."""

    __slots__ = ("_rows", "_words")

    def __init__(self, words: tuple[str, ...] = ("",)) -> None:
        self._words = words
        self._rows: dict[Labels, dict[str, Cell]] = {}

    def cell(self, labels: Labels, word: str = "") -> Cell:
        """The cell of these labels and this word; the same one each time. Raises KeyError for another word."""
        row = self._rows.get(labels)
        if row is None:
            row = self._rows[labels] = {each: Cell() for each in self._words}
        return row[word]

    def table(self) -> Table:
        """Their counts now."""
        return {labels: tuple([cell.count for cell in row.values()]) for labels, row in self._rows.items()}


class RequestCell:
    """Requests and body bytes of one listener and provider.

    status: answers by class, `status[code // 100] += 1`; index 0 for a request that got no answer.
    to_provider, to_client: bytes of bodies, and of tunnels both ways.
    """

    __slots__ = ("status", "to_client", "to_provider")

    def __init__(self) -> None:
        self.status = [0] * len(STATUS_CLASSES)
        self.to_provider = 0
        self.to_client = 0


class TimingCell:
    """Durations of one provider, in seconds.

    request: from the request's first byte to the last byte of its answer. first_byte: from the request being
    handed to the provider to the first byte of its answer. connect: of opening a connection, TLS included.
    """

    __slots__ = ("connect", "first_byte", "request")

    def __init__(self) -> None:
        self.request = Histogram()
        self.first_byte = Histogram()
        self.connect = Histogram()


class RuleSetCell:
    """How many decisions a set of rules applied to together.

    Lives as long as a holder does: when the last one lets go, `settle` adds the count to the totals of the
    rules, so that the table of decisions bounds the number of cells and no count is lost.
    """

    __slots__ = ("__weakref__", "_settle", "count", "rules")

    def __init__(self, rules: tuple[str, ...], settle: Callable[[tuple[str, ...], int], None]) -> None:
        self.rules = rules
        self.count = 0
        self._settle = settle

    def __del__(self) -> None:
        self._settle(self.rules, self.count)
