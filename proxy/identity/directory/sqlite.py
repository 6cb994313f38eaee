"""Looks subjects up in the directory's own file, beside the event loop.

One thread with one read-only connection serves all look-ups of a worker: it takes all that wait at once and hands the
answers back in one call, so a burst costs two switches and one transaction, not one for each. All see the last change
that was committed when they were taken, also while an import writes.

The file is opened when first asked, anew after any failure, and anew when another file is found in its place. Opening
proves that the write-ahead log beside it is its own (see store.py); until then, look-ups fail.
"""

import asyncio
import os
import sqlite3
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from proxy.identity.directory.reader import Entry, Fault, ReaderFailed
from proxy.identity.directory.store import Store, StoreRefused, instant, open_read_only, standing
from proxy.identity.refused import SourceRefused
from proxy.policy.subject import SqliteStore

_MOST = 256
"""Look-ups that are taken at once: none waits for more than so many, some ten microseconds each."""

Found = Entry | None | Fault
_Asked = tuple[str, float, "asyncio.Future[Entry | None]"]


def open_sqlite(store: SqliteStore) -> "SqliteReader":
    """A reader of the file, which is looked at and closed again. Raises SourceRefused, the operator's fault."""
    if not store.path.exists():
        raise SourceRefused(f"{store.path}: not there, make it with `domicile directory import`")
    try:
        open_read_only(store.path).close()
    except StoreRefused as refused:
        raise SourceRefused(str(refused)) from None
    return SqliteReader(store.path)


class SqliteReader:
    """A `Reader` of one file. Its thread starts with the first look-up and ends with `close`."""

    __slots__ = ("_asked", "_closed", "_file", "_loop", "_thread")

    def __init__(self, path: Path) -> None:
        self._file = _File(path)
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._closed = False

    async def find(self, key: str, now: float) -> Entry | None:
        if self._closed:
            raise ReaderFailed("closed")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread = Thread(target=self._serve, args=(self._loop,), name="directory", daemon=True)
            self._thread.start()
        answer: asyncio.Future[Entry | None] = self._loop.create_future()
        self._asked.put((key, now, answer))
        return await answer

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            self._asked.put(None)
            await asyncio.to_thread(self._thread.join)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """The thread. Whatever happens, each look-up that was taken is answered."""
        closing = False
        while not closing:
            taken = _all_of(self._asked)
            closing = taken[-1] is None
            answers = self._file.find_all([one for one in taken if one is not None])
            try:
                loop.call_soon_threadsafe(_answer, answers)
            except RuntimeError:  # the loop is closed: nobody waits any more
                break
        self._file.close()


_FAILURES = (OSError, StoreRefused, sqlite3.Error, ValueError, OverflowError)


class _File:
    """The file as the thread has it open. Belongs to that thread."""

    __slots__ = ("_identity", "_path", "_store")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store: Store | None = None
        self._identity: tuple[int, int] | None = None

    def find_all(self, asked: list[_Asked]) -> "list[tuple[asyncio.Future[Entry | None], Found]]":
        """What is known of each, all from one snapshot, which is no older than the questions."""
        connection: sqlite3.Connection | None = None
        try:
            if len(asked) > 1:  # taking and leaving the locks costs as much as a look-up
                connection = self._opened().connection
                connection.execute("BEGIN")
            answers = [(waiting, self._find(key, now)) for key, now, waiting in asked]
            if connection is not None and connection.in_transaction:
                connection.execute("COMMIT")
        except _FAILURES:
            self.close()
            answers = [(waiting, "store") for _, _, waiting in asked]
        return answers

    def _find(self, key: str, now: float) -> Found:
        try:
            found = standing(self._opened().connection, key, instant(now))
        except _FAILURES:
            self.close()
            return "store"
        if found is None:
            return None
        return Entry(found.home, None if found.until is None else found.until / 1000)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _opened(self) -> Store:
        """The file that the path leads to. Raises OSError, StoreRefused."""
        about = os.stat(self._path)  # a microsecond; a file that was removed or replaced is noticed by nothing else
        identity = about.st_dev, about.st_ino
        if self._store is None or identity != self._identity:
            self.close()
            self._identity = identity
            self._store = open_read_only(self._path)
        return self._store


def _all_of(asked: "SimpleQueue[_Asked | None]") -> "list[_Asked | None]":
    """What waits, or the first that comes; None, which closes, is the last."""
    taken = [asked.get()]
    while taken[-1] is not None and len(taken) < _MOST:
        try:
            taken.append(asked.get_nowait())
        except Empty:
            break
    return taken


def _answer(answers: "list[tuple[asyncio.Future[Entry | None], Found]]") -> None:
    for waiting, found in answers:
        if waiting.done():  # cancelled
            continue
        if isinstance(found, str):
            waiting.set_exception(ReaderFailed(found))
        else:
            waiting.set_result(found)
