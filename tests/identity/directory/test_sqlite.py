"""The reader of the directory's file, on a real loop with real files: whatever happens to the file, it says so."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.identity.directory.reader import Entry, ReaderFailed
from proxy.identity.directory.sqlite import SqliteReader, open_sqlite
from proxy.identity.directory.store import open_store
from proxy.identity.directory.store_sql import UNDATED
from proxy.identity.refused import SourceRefused
from proxy.policy.subject import SqliteStore
from tests.identity.directory.test_store import give

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "directory.db"
    fill(path)
    return path


def fill(path: Path, home: str = "eu") -> None:
    store = open_store(path, create=True)
    give(store, 1.0, ("alice", home, UNDATED), ("bob", "cn", UNDATED), ("bob", "eu", 5_001), ("eve", None, 500))
    store.close()


@pytest.fixture
async def reader(path: Path) -> AsyncIterator[SqliteReader]:
    opened = open_sqlite(SqliteStore(path))
    yield opened
    await opened.close()


async def fails(reader: SqliteReader) -> str:
    with pytest.raises(ReaderFailed) as failed:
        await reader.find("alice", 2.0)
    return failed.value.fault


async def test_what_it_finds(reader: SqliteReader) -> None:
    assert await reader.find("alice", 2.0) == Entry("eu", None)
    assert await reader.find("Alice", 2.0) is None
    assert await reader.find("eve", 2.0) == Entry(None, None)
    assert await reader.find("alice", 0.5) == Entry(None, 1.0)


async def test_a_dated_move_at_its_exact_instant(reader: SqliteReader) -> None:
    entry = await reader.find("bob", 5.0)
    assert entry == Entry("cn", 5.001)
    assert entry is not None
    assert entry.until is not None
    assert await reader.find("bob", entry.until) == Entry("eu", None)
    before = entry.until - 1e-6
    assert await reader.find("bob", before) == Entry("cn", 5.001)


async def test_many_at_once_and_cancelled_ones(reader: SqliteReader) -> None:
    tasks = [asyncio.ensure_future(reader.find(("alice", "bob", "none")[n % 3], 2.0)) for n in range(3000)]
    await asyncio.sleep(0)
    for task in tasks[::7]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    expected = (Entry("eu", None), Entry("cn", 5.001), None)
    for number, answer in enumerate(answers):
        if number % 7 == 0:
            assert isinstance(answer, asyncio.CancelledError)
        else:
            assert answer == expected[number % 3]


async def test_a_change_is_seen_once_it_is_committed_and_not_before(path: Path, reader: SqliteReader) -> None:
    store = open_store(path)
    store.connection.execute("BEGIN IMMEDIATE")
    store.connection.execute("INSERT INTO changes VALUES ('alice', 1500, 99, 2, NULL)")
    assert await reader.find("alice", 2.0) == Entry("eu", None)
    store.connection.execute("COMMIT")
    assert await reader.find("alice", 2.0) == Entry("cn", None)
    store.close()


async def test_an_exclusive_lock_is_a_failure_and_then_none(path: Path, reader: SqliteReader) -> None:
    # Until the reader opens the file: afterwards, in WAL, nobody can lock it out.
    locked = sqlite3.connect(path, isolation_level=None)
    locked.execute("PRAGMA locking_mode = EXCLUSIVE")
    locked.execute("BEGIN EXCLUSIVE")
    assert await fails(reader) == "store"
    locked.close()
    assert await reader.find("alice", 2.0) == Entry("eu", None)


def remove(path: Path) -> None:
    path.rename(path.with_name("away"))


def overwrite(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"no database" * 1000)


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def another_program(path: Path) -> None:
    path.unlink()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE changes (subject, effective, batch, home)")
    connection.close()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 * 4 :] = b"\xa5" * (len(content) - 4096 * 4)
    path.unlink()
    path.write_bytes(content)


def shut(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("harm", [remove, overwrite, another_program, shut])
@pytest.mark.parametrize("asked_before", [False, True])
async def test_a_file_that_is_gone_or_another_fails(
    path: Path, reader: SqliteReader, harm: Callable[[Path], None], asked_before: bool
) -> None:
    if asked_before:
        assert await reader.find("alice", 2.0) == Entry("eu", None)
    harm(path)
    assert await fails(reader) == "store"
    assert await fails(reader) == "store"
    if harm is remove:
        path.with_name("away").rename(path)
        assert await reader.find("alice", 2.0) == Entry("eu", None)


async def test_a_file_that_is_emptied_fails_when_it_is_opened(path: Path, reader: SqliteReader) -> None:
    truncate(path)
    assert await fails(reader) == "store"


async def test_a_store_in_its_place_is_read_once_its_log_is_its_own(path: Path, reader: SqliteReader) -> None:
    other = path.with_name("other.db")
    fill(other, "cn")
    writer = open_store(path)
    assert await reader.find("alice", 2.0) == Entry("eu", None)
    reading = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
    reading.execute("BEGIN")
    assert reading.execute("SELECT count(*) FROM changes").fetchone() == (4,)
    give(writer, 2.0, ("zoe", "us", UNDATED))  # stays in the log, for somebody still reads what was before
    other.replace(path)
    assert await fails(reader) == "store"
    reading.close()
    writer.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert await reader.find("alice", 2.0) == Entry("cn", None)


async def test_damage_in_the_middle_of_the_file_fails(path: Path, reader: SqliteReader) -> None:
    store = open_store(path)
    give(store, 2.0, *((f"{number:06}", "eu", UNDATED) for number in range(20_000)))
    store.close()
    damage(path)
    for number in (1, 5_000, 19_999):
        with pytest.raises(ReaderFailed, match="store"):
            await reader.find(f"{number:06}", 3.0)


def test_opening_looks_at_the_file(tmp_path: Path) -> None:
    missing = SqliteStore(tmp_path / "none.db")
    with pytest.raises(SourceRefused, match=r"none\.db: not there, make it with `domicile directory import`"):
        open_sqlite(missing)
    (tmp_path / "foreign.db").write_bytes(b"x" * 5000)
    with pytest.raises(SourceRefused, match=r"foreign\.db: not an SQLite file"):
        open_sqlite(SqliteStore(tmp_path / "foreign.db"))


async def test_closing_ends_the_thread_and_what_comes_later_fails(path: Path) -> None:
    reader = open_sqlite(SqliteStore(path))
    before = threading.active_count()
    waiting = asyncio.ensure_future(reader.find("alice", 2.0))
    await asyncio.sleep(0)
    assert threading.active_count() == before + 1
    await reader.close()
    await reader.close()
    assert await waiting == Entry("eu", None)
    assert all(thread.name != "directory" for thread in threading.enumerate())
    assert await fails(reader) == "closed"


async def test_one_that_was_never_asked_closes(path: Path) -> None:
    await open_sqlite(SqliteStore(path)).close()


_WRITES = """
import sys, os
from pathlib import Path
from proxy.identity.directory.store import open_store
from proxy.identity.directory.store_changes import Staged
store = open_store(Path(sys.argv[1]))
with Staged(store) as staged:
    staged.add((n, f"new-{n:06}", staged.number("us"), -1, None) for n in range(100_000))
    staged.add([(200_000, "alice", staged.number("us"), -1, None)])
    staged.sort(1)
    staged.compare(lambda: 3.0, hold=True)
    # As far as `write` goes before its commit, with pages already in the log.
    store.connection.execute("PRAGMA main.cache_size = 10")
    store.connection.execute("INSERT INTO changes SELECT subject, effective, 77, home, reason FROM temp.changing")
    print("written", flush=True)
    sys.stdin.read()
"""


async def test_an_import_that_is_killed_has_changed_nothing(path: Path, reader: SqliteReader) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _WRITES,
        str(path),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"written\n"
    log = path.with_name(path.name + "-wal")
    assert log.stat().st_size > 1 << 20
    assert await reader.find("alice", 4.0) == Entry("eu", None)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert await reader.find("alice", 4.0) == Entry("eu", None)
    assert await reader.find("new-000007", 4.0) is None
    store = open_store(path)
    assert [batch.id for batch in store.batches()] == [1]
    give(store, 5.0, ("alice", "cn", UNDATED))
    assert store.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store.close()
    assert await reader.find("alice", 6.0) == Entry("cn", None)
    fresh = open_sqlite(SqliteStore(path))
    assert await fresh.find("new-000007", 6.0) is None
    await fresh.close()
