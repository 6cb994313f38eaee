"""Everybody in the store, one after another: as many as there are, in little memory, from one snapshot."""

from collections.abc import Iterator

from proxy.identity.directory.store import Store, refusing

Resident = tuple[str, str]
"""A subject and its home."""

Stay = tuple[str, str | None, int, str | None]
"""A subject, a home or None, the instant from which it holds, and the reason."""

_PIECE = 10_000

_UNTIL = "SELECT subject, home FROM changes WHERE effective <= ? ORDER BY subject, effective, batch"
_ALL = """
SELECT c.subject, c.home, c.effective, coalesce(c.reason, b.reason)
FROM changes c LEFT JOIN batches b ON b.id = c.batch ORDER BY c.subject, c.effective, c.batch"""


def residents(store: Store, now: int) -> Iterator[list[Resident]]:
    """Who has a home at `now`, by subject, in pieces. Raises StoreRefused."""
    with refusing(store.path):
        cursor = store.connection.execute(_UNTIL, (now,))
        names = _names(store)
        last: tuple[str, int] = ("", 0)
        while rows := cursor.fetchmany(_PIECE):
            piece: list[Resident] = []
            for row in rows:
                if row[0] != last[0] and (home := names[last[1]]) is not None:
                    piece.append((last[0], home))
                last = row
            yield piece
        if (home := names[last[1]]) is not None:
            yield [(last[0], home)]


def stays(store: Store) -> Iterator[list[Stay]]:
    """Every change that was not replaced, past ones and dated ones too, by subject and instant, in pieces."""
    with refusing(store.path):
        cursor = store.connection.execute(_ALL)
        names = _names(store)
        last: tuple[str, int, int, str | None] | None = None
        while rows := cursor.fetchmany(_PIECE):
            piece: list[Stay] = []
            for row in rows:
                if last is not None and (row[2] != last[2] or row[0] != last[0]):
                    piece.append((last[0], names[last[1]], last[2], last[3]))
                last = row
            yield piece
        if last is not None:
            yield [(last[0], names[last[1]], last[2], last[3])]


def _names(store: Store) -> dict[int, str | None]:
    # After the cursor was opened: homes are only added, so these are all that it can name.
    return {0: None, **dict(store.connection.execute("SELECT id, name FROM homes"))}
