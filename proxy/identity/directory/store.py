"""The directory's own store: one SQLite file of who lives where, with its whole history.

- A change says: from an instant on, this subject lives there (or nowhere). Changes are only ever added: triggers
  refuse to update or delete one. So a correction is one more change, and what it corrects stays to be seen.
- At any moment the change with the latest instant that has come holds. Of several with one instant, the one that was
  recorded last.
- The primary key is (subject, effective, batch) and the table is WITHOUT ROWID: the home that holds now is one seek
  and one step back, the whole history of a subject lies together, and a subject is stored once for each change.
- A batch is one recorded act (an import, a set, an undo), written in one transaction.
- SQLite lays the write-ahead log that it finds beside a file over that file, whichever file it was written for: after
  a store was exchanged by hand, homes would come from both. So each store has a number of its own in its header,
  every transaction writes the header, and whoever opens a store compares the number with and without the log.

Instants are milliseconds since the epoch. Homes are numbered in `homes`; 0 stands for no home.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from proxy.identity.directory.store_schema import APPLICATION_ID, SCHEMA, VERSION

LONGEST_SUBJECT = 512
"""Bytes of a subject as UTF-8: what a key may have that is looked up."""

PATIENCE = 60.0
"""Seconds that a writer waits for another one."""

_INNER_PAGES = 8 << 10
"""KiB of pages that a reader keeps: those above the leaves of ten million subjects, so that a look-up reads one."""

_TIMELINE = """
SELECT c.effective, h.name FROM changes c LEFT JOIN homes h ON h.id = c.home
WHERE c.subject = ? ORDER BY c.effective DESC, c.batch DESC
"""
_HISTORY = """
SELECT c.effective, h.name, coalesce(c.reason, b.reason), b.recorded, b.kind, b.id
FROM changes c LEFT JOIN homes h ON h.id = c.home LEFT JOIN batches b ON b.id = c.batch
WHERE c.subject = ? ORDER BY c.effective, c.batch
"""

Act = Literal["import", "set", "undo"]
State = Literal["past", "holds", "ahead", "replaced"]


class StoreRefused(Exception):
    """The file cannot be used as asked. The operator's fault or the machine's, and the text says what to do.

    It names the file and what is wrong with it, and nothing of what it holds.
    """


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a subject lives at a moment: home None is nowhere, since when, and the next change that is dated ahead."""

    home: str | None = field(repr=False)
    since: int | None
    until: int | None
    next_home: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one subject. batch: the act that it came with; state: what it means at the moment asked for."""

    effective: int
    home: str | None = field(repr=False)
    reason: str | None = field(repr=False)
    recorded: int
    kind: Act
    batch: int
    state: State


@dataclass(frozen=True, slots=True)
class Batch:
    """One recorded act. digest: of an import's file, SHA-256 as hex; undoes: the batch that it takes back."""

    id: int
    recorded: int
    kind: Act
    reason: str | None
    digest: str | None
    undoes: int | None
    changes: int


def instant(moment: float) -> int:
    """The last whole millisecond that has come at a moment (seconds since the epoch).

    What is dated `i` holds exactly from `i / 1000` on, whatever floats make of it.
    """
    whole = round(moment * 1000)
    return whole - 1 if whole / 1000 > moment else whole


class Store:
    """The file, opened. Belongs to one thread; close it."""

    __slots__ = ("_made", "connection", "path")

    def __init__(self, connection: sqlite3.Connection, path: Path, *, made: bool = False) -> None:
        self.connection = connection
        self.path = path
        self._made = made

    def standing(self, subject: str, now: int) -> Standing | None:
        """Where the subject lives at `now`; None if there is no change of it at all."""
        with refusing(self.path):
            return standing(self.connection, subject, now)

    def history(self, subject: str, now: int) -> list[Change]:
        """All changes of the subject, replaced ones too, by instant and then as they were recorded."""
        with refusing(self.path):
            rows = self.connection.execute(_HISTORY, (subject,)).fetchall()
        found: list[Change] = []
        held = False
        later: int | None = None
        for effective, home, reason, recorded, kind, batch in reversed(rows):
            state: State
            if effective == later:
                state = "replaced"
            elif effective > now:
                state = "ahead"
            else:
                state = "past" if held else "holds"
                held = True
            later = effective
            found.append(Change(effective, home, reason, recorded, kind, batch, state))
        return found[::-1]

    def batches(self) -> list[Batch]:
        """All acts, in the order in which they were recorded."""
        query = "SELECT id, recorded, kind, reason, digest, undoes, changes FROM batches ORDER BY id"
        with refusing(self.path):
            return [Batch(*row) for row in self.connection.execute(query)]

    def close(self) -> None:
        """Let go of the file; one that was made for this and into which nothing was written is removed."""
        try:
            bare = self._made and not self.batches()
        except StoreRefused:
            bare = False
        self.connection.close()
        if bare:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def standing(connection: sqlite3.Connection, subject: str, now: int) -> Standing | None:
    """As Store.standing; raises sqlite3.Error. Reads what is dated ahead, and one change more."""
    seen: int | None = None
    ahead: tuple[int, str | None] | None = None
    for effective, home in connection.execute(_TIMELINE, (subject,)):
        if effective == seen:  # replaced by the one before it in this order
            continue
        seen = effective
        if effective <= now:
            return Standing(home, effective, *(ahead or (None, None)))
        ahead = (effective, home)
    return None if ahead is None else Standing(None, None, *ahead)


def open_store(path: Path, *, create: bool = False) -> Store:
    """The store in a file, to read and to write. create: make the file (0600) if there is none.

    Raises StoreRefused: no such file, not ours, of a newer version, damaged, not permitted.
    """
    made = create and _make(path)
    if not (made or (create and _is_empty(path))):
        # A connection that may write folds the log into the file when it is closed, even one that is another file's.
        open_read_only(path).close()
    connection = _connected(path, "rw")
    try:
        with refusing(path):
            connection.execute(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")
            connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged outlives a power cut
            if create:
                _lay_out(connection, path)
            verify(connection, path)
    except BaseException:
        connection.close()
        raise
    return Store(connection, path, made=made)


def open_read_only(path: Path) -> Store:
    """The store in a file, to read from while others write. Raises StoreRefused."""
    connection = _connected(path, "ro")
    try:
        with refusing(path):
            connection.execute("PRAGMA busy_timeout = 1000")
            connection.execute(f"PRAGMA cache_size = -{_INNER_PAGES}")
            verify(connection, path)
    except BaseException:
        connection.close()
        raise
    return Store(connection, path)


def empty_store(path: Path) -> Store:
    """A store of nobody, gone once closed: what the file would be if it were made now. path: how messages call it."""
    connection = sqlite3.connect("", isolation_level=None)  # a temporary file, where one is needed
    connection.executescript(f"{SCHEMA} PRAGMA user_version = {VERSION};")
    return Store(connection, path)


def verify(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StoreRefused unless the file is a store of a version that is known here; also sqlite3.Error."""
    mark, number = _marks(connection)
    if mark == 0 and number == 0 and _is_bare(connection):
        raise StoreRefused(f"{path}: an empty file, import into it first")
    if mark != APPLICATION_ID:
        raise StoreRefused(f"{path}: an SQLite file of another program, name another one")
    version = number & 0xFF
    if version != VERSION:
        kept = "newer" if version > VERSION else "unknown"
        raise StoreRefused(f"{path}: of a {kept} version ({version}, this program reads {VERSION})")
    # Without the log. A second way in through SQLite, for closing a descriptor of our own would drop its locks.
    alone = _connected(path, "ro", "&immutable=1")
    try:
        if _marks(alone) != (mark, number):
            raise StoreRefused(
                f"{path}: the write-ahead log beside it ({path.name}-wal) is another file's: the store was exchanged "
                "while it was in use; stop what uses it, remove the log and import again"
            )
    finally:
        alone.close()


def touch(connection: sqlite3.Connection) -> None:
    """Write the header anew, within a transaction: see above."""
    connection.execute(f"PRAGMA user_version = {_marks(connection)[1]}")


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    number = connection.execute("PRAGMA user_version").fetchone()[0]
    return mark, number


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turns what SQLite raises into StoreRefused, and an interrupted statement into KeyboardInterrupt."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from None
        raise StoreRefused(f"{path}: {_REASONS.get(code, 'SQLite refused it')}") from None


_REASONS = {
    sqlite3.SQLITE_BUSY: "locked by another import or set, try again when that is over",
    sqlite3.SQLITE_LOCKED: "locked by another import or set, try again when that is over",
    sqlite3.SQLITE_PERM: "cannot be opened: not permitted",
    sqlite3.SQLITE_AUTH: "cannot be opened: not permitted",
    sqlite3.SQLITE_READONLY: "cannot be written: read-only for this user",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: not there, or not permitted (its folder must be writable too)",
    sqlite3.SQLITE_FULL: "the disk is full, or the one of temporary files (SQLITE_TMPDIR names another)",
    sqlite3.SQLITE_IOERR: "cannot be read or written: input/output error",
    sqlite3.SQLITE_CORRUPT: "the file is damaged, restore it from a backup",
    sqlite3.SQLITE_NOTADB: "not an SQLite file, name another one",
    sqlite3.SQLITE_NOMEM: "not enough memory",
}


def _make(path: Path) -> bool:
    """Make the file; False if it is there."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file's name"
        raise StoreRefused(f"{path}: cannot be made: {reason}") from None
    return True


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False


def _connected(path: Path, mode: str, more: str = "") -> sqlite3.Connection:
    try:
        path.stat()
        uri = f"{path.absolute().as_uri()}?mode={mode}{more}"
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file's name"
        raise StoreRefused(f"{path}: cannot be opened: {reason}") from None
    with refusing(path):
        return sqlite3.connect(uri, uri=True, isolation_level=None)


def _is_bare(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()


def _lay_out(connection: sqlite3.Connection, path: Path) -> None:
    """Make a bare file a store. Whoever comes second finds it made."""
    if not _is_bare(connection) or _marks(connection) != (0, 0):
        return
    # Into the file itself and not into a log: it has to be whole without one.
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_bare(connection):
            for statement in _statements(SCHEMA):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {secrets.randbits(23) << 8 | VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StoreRefused(f"{path}: this file system cannot be shared by readers and a writer (no WAL)")


def _statements(script: str) -> Iterable[str]:
    """The statements one by one: executescript would commit before the first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
