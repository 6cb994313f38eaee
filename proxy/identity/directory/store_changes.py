"""Changes of many subjects at once: staged, compared with what the store holds, and written, all or nothing.

The way of an import, of a single `set` and of an undo alike:

    staged = Staged(store)
    staged.add(rows)              rows go into a temporary file, in any order and of any number
    staged.sort()                 by subject and instant; rows that contradict each other are found
    effect = staged.compare(now)  what would change, against a snapshot; with `hold`, nobody else writes from here on
    staged.write(...)             appended in the order of the primary key, one transaction

Everything up to `write` leaves the file as it is. Sorting comes before any comparison, so that the store is read
and written from its beginning to its end, whatever the order of the rows.

What makes a change:

- A row with a date, unless the subject's change of exactly that instant, as last recorded, says the same. That an
  earlier one says the same is not enough: another row may put a move in between.
- A row without one holds from now on, unless the subject lives there now, the file's own dated rows considered.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from proxy.identity.directory import store_sql as sql
from proxy.identity.directory.store import Act, Store, StoreRefused, instant, refusing, touch
from proxy.identity.directory.store_sql import NOWHERE

Row = tuple[int, str, int, int, str | None]
"""line, subject, home's number, instant or UNDATED, reason."""

PlainRow = tuple[int, str, int]
"""line, subject, home's number."""

_MEMORY = 64 << 10
"""KiB of pages that are kept of the file, of temporary tables, and in sorting, each."""

_STEPS = 1_000_000
"""Instructions of SQLite's machine between two looks at whether the user has pressed Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Move:
    """How many go from a home to another; None is no home. first: the earliest instant, for what is dated ahead."""

    was: str | None
    becomes: str | None
    subjects: int
    first: int | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """What rows do to a store.

    rows, subjects: of the file. moves: subjects whose home changes now, those that lose theirs included; new: those
    that get their first. ahead: changes at later dates, each from where the subject lives just before. changes: rows
    of history. unchanged: subjects without any. latest: the last batch that was there.
    """

    rows: int
    subjects: int
    moves: tuple[Move, ...]
    new: tuple[Move, ...]
    ahead: tuple[Move, ...]
    changes: int
    unchanged: int
    latest: int

    @property
    def moved(self) -> int:
        """Subjects that move now, and moves that are dated ahead. Who gets a first home does not move."""
        ahead = (move for move in self.ahead if move.was is not None)
        return sum(move.subjects for move in (*self.moves, *ahead))


class Staged:
    """Rows on their way into a store. Leave it, and what was not written has left no trace."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection = connection = store.connection
        self._homes: dict[str, int] = {}
        self._names: list[str | None] = [None]
        self._rows = 0
        self._dated = False
        self._taking_back: int | None = None
        self._changes = 0
        self._writing = sql.WRITE_CHANGING
        self._now = 0
        with refusing(store.path):
            connection.execute("PRAGMA temp_store = FILE")
            connection.execute(f"PRAGMA main.cache_size = -{_MEMORY}")
            connection.execute(f"PRAGMA temp.cache_size = -{_MEMORY}")
            connection.executescript(sql.TABLES)
            for number, name in connection.execute("SELECT id, name FROM main.homes ORDER BY id"):
                self._names += [None] * (number + 1 - len(self._names))
                self._homes[name] = number
                self._names[number] = name
        # A statement that takes a minute lets Ctrl-C through only where Python code runs in between.
        connection.set_progress_handler(_go_on, _STEPS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        connection = self._connection
        connection.set_progress_handler(None, 0)
        with refusing(self._store.path):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for table in ("incoming", "sorted", "changing"):
                connection.execute(f"DROP TABLE temp.{table}")

    def number(self, home: str | None) -> int:
        """The number of a home, for rows."""
        if home is None:
            return NOWHERE
        found = self._homes.get(home)
        if found is None:
            found = self._homes[home] = len(self._names)
            self._names.append(home)
        return found

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows. Lines are unique, subjects checked, instants at least 0 or UNDATED."""
        with refusing(self._store.path):
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN")  # touches only temporary tables: takes no lock of the file
            cursor = self._connection.executemany("INSERT INTO temp.incoming VALUES (?, ?, ?, ?, ?)", rows)
        self._rows += cursor.rowcount

    def add_plain(self, rows: Iterable[PlainRow]) -> None:
        """As add, for rows without instant and reason: a third quicker."""
        with refusing(self._store.path):
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN")
            cursor = self._connection.executemany(
                "INSERT INTO temp.incoming (line, subject, home) VALUES (?, ?, ?)", rows
            )
        self._rows += cursor.rowcount

    def sort(self, bound: int) -> tuple[int, list[tuple[int, int]]]:
        """Put the rows in order. How many contradict an earlier one, and the first of these: line, and the other's.

        Two rows of one subject and instant with different homes contradict each other; with one home they are one.
        """
        connection = self._connection
        with refusing(self._store.path):
            if not connection.in_transaction:
                connection.execute("BEGIN")
            cursor = connection.execute(
                "INSERT OR IGNORE INTO temp.sorted SELECT subject, effective, home, reason, line FROM temp.incoming "
                "ORDER BY subject, effective, line"
            )
            clashes: list[tuple[int, int]] = []
            count = 0
            if cursor.rowcount < self._rows:
                count = connection.execute(sql.COUNT_CLASHES).fetchone()[0]
                clashes = connection.execute(sql.FIRST_CLASHES, (bound,)).fetchall()
            connection.execute("COMMIT")
        return count, clashes

    def compare(self, clock: Callable[[], float], *, hold: bool) -> Effect:
        """What the rows would change. clock: seconds since the epoch, asked once the store stands still.

        hold: keep other writers out until `write` or the end, so that the effect is what will be written. Raises
        StoreRefused, also for undated rows while the clock is behind what was recorded last.
        """
        with refusing(self._store.path):
            self._begin(clock, hold)
            return self._effect_of_rows()

    def take_back(self, batch: int, clock: Callable[[], float]) -> Effect:
        """As compare, for the opposite of what a batch wrote: each subject goes back to where it lived without it.

        A change that was replaced since is left alone, and so are changes at other instants.
        """
        with refusing(self._store.path):
            self._begin(clock, True)
            self._taking_back = batch
            connection = self._connection
            found = connection.execute(
                "SELECT count(*), count(DISTINCT subject) FROM main.changes WHERE batch = ?", (batch,)
            )
            self._rows, subjects = found.fetchone()
            connection.execute(sql.CHANGE_BACK, {"batch": batch})
            return self._effect(subjects)

    def write(self, kind: Act, *, reason: str | None = None, digest: str | None = None) -> int | None:
        """Append what `compare` with hold, or `take_back`, found, and end. The batch's number; None for no change."""
        connection = self._connection
        with refusing(self._store.path):
            if not self._changes:
                connection.execute("ROLLBACK")
                return None
            stored = {number for (number,) in connection.execute("SELECT id FROM main.homes")}
            homes = [(number, name) for name, number in self._homes.items() if number not in stored]
            connection.executemany("INSERT INTO main.homes VALUES (?, ?)", homes)
            batch: int = connection.execute(
                "INSERT INTO main.batches (recorded, kind, reason, digest, undoes, changes) VALUES (?, ?, ?, ?, ?, ?) "
                "RETURNING id",
                (self._now, kind, reason, digest, self._taking_back, self._changes),
            ).fetchone()[0]
            connection.execute(self._writing, {"batch": batch, "now": self._now})
            touch(connection)
            connection.execute("COMMIT")
            # Readers that came before the end hold some of the log; what is left is folded in by the next writer.
            connection.execute("PRAGMA busy_timeout = 1000")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return batch

    def _begin(self, clock: Callable[[], float], hold: bool) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE" if hold else "BEGIN")
        self._adopt_numbers()
        self._now = instant(clock())
        query = "SELECT max(effective >= 0), max(effective < 0) FROM temp.sorted"
        dated, undated = connection.execute(query).fetchone()
        self._dated = bool(dated)
        recorded = connection.execute("SELECT max(recorded) FROM main.batches").fetchone()[0]
        if undated and recorded is not None and recorded > self._now:
            raise StoreRefused(
                f"{self._store.path}: the clock is {(recorded - self._now) / 1000:.3f} s behind the last change that "
                "was recorded, and what holds from now on would hold before it; set the clock, or give dates"
            )
        while dated and connection.execute(
            "SELECT EXISTS (SELECT 1 FROM temp.sorted WHERE effective = ?)", (self._now,)
        ).fetchone() == (1,):
            self._now -= 1  # a row may have both this very instant and `now`

    def _adopt_numbers(self) -> None:
        """Number homes as the store does by now: somebody may have written new ones since the rows were numbered."""
        stored = dict(self._connection.execute("SELECT name, id FROM main.homes"))
        last = max(stored.values(), default=0)
        moved: dict[int, int] = {}
        for name, number in list(self._homes.items()):
            if name not in stored:
                last += 1
                stored[name] = last
            if stored[name] != number:
                moved[number] = stored[name]
        if moved:
            self._connection.execute(sql.renumbered(moved))
        self._homes = stored
        self._names = [None] * (last + 1)
        for name, number in stored.items():
            self._names[number] = name

    def _effect_of_rows(self) -> Effect:
        connection = self._connection
        tally = _Tally()
        connection.create_function("tally", 2, tally.now)
        if self._dated:
            connection.execute(sql.CHANGE_DATED)
            connection.execute(sql.CHANGE_UNDATED.format(was=sql.BOTH.format(until=":now")), {"now": self._now})
            query = "SELECT count(*) FROM (SELECT DISTINCT subject FROM temp.sorted)"
            return self._effect(connection.execute(query).fetchone()[0])
        if connection.execute("SELECT 1 FROM main.changes LIMIT 1").fetchone() is None:
            # The first import is the largest one, and all of it is new: written without a copy of what changes.
            connection.execute(sql.TALLY_FIRST).fetchone()
            self._writing = sql.WRITE_FIRST
        else:
            connection.execute(sql.CHANGE_UNDATED_ONLY, {"now": self._now})
        changes = sum(count for (was, becomes), count in tally.seen.items() if was != becomes)
        return self._told(tally, sum(tally.seen.values()), changes, changes)

    def _effect(self, subjects: int) -> Effect:
        """The effect of what stands in `changing`. subjects: how many there were, changed or not."""
        connection = self._connection
        tally = _Tally()
        connection.create_function("tally", 2, tally.now)
        connection.create_function("tally_ahead", 3, tally.ahead)
        connection.execute(sql.TALLY_NOW, {"now": self._now}).fetchone()
        connection.execute(sql.TALLY_AHEAD, {"now": self._now}).fetchone()
        changes, changed = connection.execute(
            "SELECT count(*), (SELECT count(*) FROM (SELECT DISTINCT subject FROM temp.changing)) FROM temp.changing"
        ).fetchone()
        return self._told(tally, subjects, changes, changed)

    def _told(self, tally: "_Tally", subjects: int, changes: int, changed: int) -> Effect:
        self._changes = changes
        moves = self._moves(tally.seen, {})
        return Effect(
            rows=self._rows,
            subjects=subjects,
            moves=tuple(move for move in moves if move.was is not None),
            new=tuple(move for move in moves if move.was is None),
            ahead=self._moves(tally.dated, tally.first),
            changes=changes,
            unchanged=subjects - changed,
            latest=self._connection.execute("SELECT coalesce(max(id), 0) FROM main.batches").fetchone()[0],
        )

    def _moves(self, counts: dict[tuple[int, int], int], first: dict[tuple[int, int], int]) -> tuple[Move, ...]:
        """The largest first."""
        names = self._names
        moves = [
            Move(names[was], names[becomes], count, first.get((was, becomes)))
            for (was, becomes), count in counts.items()
            if was != becomes
        ]
        return tuple(sorted(moves, key=lambda move: (-move.subjects, move.was or "", move.becomes or "")))


class _Tally:
    """Counts pairs of homes while SQLite walks over rows; grouping them there would sort all rows once more."""

    __slots__ = ("dated", "first", "seen")

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], int] = {}
        self.dated: dict[tuple[int, int], int] = {}
        self.first: dict[tuple[int, int], int] = {}

    def now(self, was: int, becomes: int) -> bool:
        pair = was, becomes
        self.seen[pair] = self.seen.get(pair, 0) + 1
        return was != becomes

    def ahead(self, was: int, becomes: int, effective: int) -> bool:
        pair = was, becomes
        self.dated[pair] = self.dated.get(pair, 0) + 1
        self.first[pair] = min(self.first.get(pair, effective), effective)
        return True


def _go_on() -> int:
    return 0
