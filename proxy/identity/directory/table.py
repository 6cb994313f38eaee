"""What a directory said, for as long as it may be used.

Homes and unknown subjects are kept apart, so that made-up keys never push a home out. Ages are counted by a clock
that nobody sets, from the moment at which the question was asked; a dated change is a moment of the world's clock.
"""

from math import inf
from sys import intern
from typing import Final

from proxy.identity.answers import Home, Silent
from proxy.identity.directory.reader import Entry
from proxy.identity.remembered import Remembered
from proxy.policy.facts import UNKNOWN
from proxy.policy.subject import DirectoryCache

UNKNOWN_SHARE: Final = 4
"""One unknown subject is kept for so many homes."""


class Held:
    """One answer. fresh_until: by the steady clock; changes_at: by the world's, when what it says changes."""

    __slots__ = ("answer", "changes_at", "fresh_until")

    def __init__(self, answer: Home | Silent, fresh_until: float, changes_at: float) -> None:
        self.answer = answer
        self.fresh_until = fresh_until
        self.changes_at = changes_at


class Table:
    """At most `cache.size` homes, and a quarter as many subjects without one; of each, those asked for last.

    A home takes about 350 bytes with a key of 32 characters, an unknown subject less.
    """

    __slots__ = ("_homes", "_refresh", "_spare", "_unknown", "_unknown_age")

    def __init__(self, cache: DirectoryCache) -> None:
        self._homes: Remembered[str, Held] = Remembered(cache.size)
        self._unknown: Remembered[str, Held] = Remembered(max(cache.size // UNKNOWN_SHARE, 1))
        self._refresh = min(cache.refresh, cache.max_age)
        self._spare = cache.max_age - self._refresh
        self._unknown_age = cache.unknown

    def get(self, key: str) -> Held | None:
        """What is held of a key, however old."""
        return self._homes.get(key) or self._unknown.get(key)

    def put(self, key: str, named: str | None, entry: Entry | None, asked: float, asked_wall: float) -> None:
        """Keep what was said. named: the subject of a home; asked: when the question was put, by both clocks."""
        changes_at = inf if entry is None or entry.until is None else entry.until
        if entry is None or entry.home is None:
            until = min(asked_wall + self._unknown_age, changes_at)
            silent = Silent(
                until=until, account=True, why="not-known", changes_at=None if entry is None else entry.until
            )
            self._unknown.put(key, Held(silent, asked + self._unknown_age, changes_at))
            self._homes.drop(key)
        else:
            until = min(asked_wall + self._refresh, changes_at)
            answer = Home(intern(entry.home), named, UNKNOWN, until, entry.until)
            self._homes.put(key, Held(answer, asked + self._refresh, changes_at))
            self._unknown.drop(key)

    def usable(self, held: Held, now: float, wall: float) -> bool:
        """Whether an answer that is no longer fresh may be used while the directory is asked again."""
        return type(held.answer) is Home and now < held.fresh_until + self._spare and wall < held.changes_at

    def __len__(self) -> int:
        return len(self._homes) + len(self._unknown)
