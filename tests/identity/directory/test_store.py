"""The directory's file: what is opened and what is refused, what history keeps, what a moment sees."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.identity.directory.store import (
    Standing,
    Store,
    StoreRefused,
    instant,
    open_read_only,
    open_store,
)
from proxy.identity.directory.store_changes import Staged
from proxy.identity.directory.store_schema import APPLICATION_ID, VERSION
from proxy.identity.directory.store_sql import UNDATED


def give(store: Store, now: float, *rows: tuple[str, str | None, int], reason: str | None = None) -> int | None:
    """Write rows of subject, home and instant (or UNDATED) at `now`."""
    with Staged(store) as staged:
        staged.add([(line, who, staged.number(home), at, reason) for line, (who, home, at) in enumerate(rows, 1)])
        assert staged.sort(10) == (0, [])
        staged.compare(lambda: now, hold=True)
        return staged.write("import", reason=reason)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "directory.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = open_store(path, create=True)
    yield opened
    opened.close()


def test_a_store_is_for_its_owner_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        store = open_store(path, create=True)
        give(store, 1.0, ("a", "eu", UNDATED))
        for name in os.listdir(path.parent):
            assert (path.parent / name).stat().st_mode & 0o777 == 0o600, name
        store.close()
    finally:
        os.umask(before)


def test_a_store_that_nothing_was_written_to_leaves_no_file(path: Path) -> None:
    open_store(path, create=True).close()
    assert list(path.parent.iterdir()) == []
    store = open_store(path, create=True)
    give(store, 1.0, ("a", "eu", UNDATED))
    store.close()
    open_store(path, create=True).close()
    assert path.exists()


def test_it_is_marked_and_shared(store: Store) -> None:
    connection = store.connection
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA user_version").fetchone()[0] & 0xFF == VERSION
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (x)")
    connection.close()


def newer(path: Path) -> None:
    store = open_store(path, create=True)
    give(store, 1.0, ("a", "eu", UNDATED))
    store.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    store.close()


def damaged(path: Path) -> None:
    store = open_store(path, create=True)
    give(store, 1.0, *((f"{number:06}", "eu", UNDATED) for number in range(5000)))
    store.close()
    content = bytearray(path.read_bytes())
    content[24:4096] = b"\xff" * 4072
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (foreign, "an SQLite file of another program"),
        (newer, f"of a newer version ({VERSION + 1}, this program reads {VERSION})"),
        (damaged, ""),
        (lambda path: path.write_bytes(b"subject,home\n" * 1000), "not an SQLite file"),
        (lambda path: path.write_bytes(b""), "an empty file, import into it first"),
        (lambda path: path.mkdir(), "cannot be"),
        (lambda path: None, "cannot be opened: No such file or directory"),
        (lambda path: path.symlink_to(path), "cannot be opened: Too many levels"),
    ],
)
def test_other_files_are_refused_by_name_and_unharmed(path: Path, make: object, said: str) -> None:
    assert callable(make)
    make(path)
    before = path.read_bytes() if path.is_file() else None
    for opening in (open_store, open_read_only):
        with pytest.raises(StoreRefused) as refused:
            opening(path)
        assert str(refused.value).startswith(f"{path}: ")
        assert said in str(refused.value)
    if before is not None:
        assert path.read_bytes() == before


def test_making_one_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="cannot be made: No such file"):
        open_store(tmp_path / "none" / "directory.db", create=True)
    with pytest.raises(StoreRefused, match="not a file's name"):
        open_store(tmp_path / "a\0b", create=True)


def test_a_store_exchanged_under_its_log_is_refused(path: Path) -> None:
    # SQLite itself would answer from both files, without a word: shown first.
    other = path.with_name("other.db")
    for name, home in ((path, "eu"), (other, "cn")):
        store = open_store(name, create=True)
        give(store, 1.0, ("a", home, UNDATED))
        store.close()
    store = open_store(path)
    reader = open_read_only(path)  # keeps the log from being folded in
    reader.connection.execute("BEGIN")
    assert reader.standing("a", 2000) is not None
    give(store, 2.0, ("b", "eu", UNDATED))
    other.replace(path)
    mixed = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    assert mixed.execute("SELECT count(*) FROM changes").fetchone() == (2,)
    mixed.close()
    for opening in (open_store, open_read_only):
        with pytest.raises(StoreRefused, match="is another file's"):
            opening(path)
    reader.close()
    store.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    again = open_read_only(path)
    assert again.standing("a", 2000) == Standing("cn", 1000, None, None)
    again.close()


@pytest.mark.parametrize("table", ["changes", "batches", "homes"])
def test_history_can_neither_be_changed_nor_deleted(store: Store, table: str) -> None:
    give(store, 1.0, ("a", "eu", UNDATED))
    column = {"changes": "home", "batches": "recorded", "homes": "name"}[table]
    for statement in (f"UPDATE {table} SET {column} = 5", f"DELETE FROM {table}"):
        with pytest.raises(sqlite3.IntegrityError, match="only added to"):
            store.connection.execute(statement)


def test_a_dated_move_holds_at_its_very_instant(store: Store) -> None:
    give(store, 1.0, ("a", "eu", UNDATED), ("a", "cn", 5_001))
    assert store.standing("a", 999) == Standing(None, None, 1000, "eu")
    assert store.standing("a", 1000) == Standing("eu", 1000, 5_001, "cn")
    assert store.standing("a", 5_000) == Standing("eu", 1000, 5_001, "cn")
    assert store.standing("a", 5_001) == Standing("cn", 5_001, None, None)
    assert store.standing("b", 5_001) is None


@given(st.integers(0, 253402300799999))
def test_an_instant_comes_exactly_when_floats_say_so(milliseconds: int) -> None:
    moment = milliseconds / 1000
    assert instant(moment) == milliseconds
    assert instant(moment + 0.0004) >= milliseconds
    if milliseconds:
        assert instant(moment - 0.0004) == milliseconds - 1


def test_a_correction_replaces_and_its_trace_stays(store: Store) -> None:
    give(store, 1.0, ("a", "eu", UNDATED), reason="first")
    give(store, 2.0, ("a", "cn", UNDATED), ("a", "eu", 9_000), reason="by mistake")
    give(store, 3.0, ("a", "us", 2_000))
    told = [(each.effective, each.home, each.state, each.recorded, each.reason) for each in store.history("a", 3_000)]
    assert told == [
        (1000, "eu", "past", 1000, "first"),
        (2000, "cn", "replaced", 2000, "by mistake"),
        (2000, "us", "holds", 3000, None),
        (9000, "eu", "ahead", 2000, "by mistake"),
    ]
    assert [(each.id, each.kind, each.changes) for each in store.batches()] == [
        (1, "import", 1),
        (2, "import", 2),
        (3, "import", 1),
    ]


def test_no_home_is_a_home_of_its_own(store: Store) -> None:
    give(store, 1.0, ("a", "eu", UNDATED))
    give(store, 2.0, ("a", None, UNDATED))
    assert store.standing("a", 2000) == Standing(None, 2000, None, None)


def test_the_look_up_is_one_seek(store: Store) -> None:
    plan = store.connection.execute(
        "EXPLAIN QUERY PLAN SELECT effective, home FROM changes WHERE subject = 'a' ORDER BY effective DESC, batch DESC"
    ).fetchall()
    assert [row[3] for row in plan] == ["SEARCH changes USING PRIMARY KEY (subject=?)"]


def test_what_is_named_in_reprs(store: Store) -> None:
    give(store, 1.0, ("alice", "eu", UNDATED), reason="her move")
    shown = f"{store.history('alice', 5000)} {store.standing('alice', 5000)}"
    assert "alice" not in shown
    assert "eu" not in shown
    assert "her move" not in shown
