"""Rows of subjects and homes, checked one by one and collected for the store.

A mistake names the line and what to do. It never shows what stands there: columns get mixed up, and then the home
is the subject.
"""

from dataclasses import dataclass
from heapq import merge

from proxy.config.note import VALUE, Wrong, did_you_mean
from proxy.config.scalars import read_instant
from proxy.identity.directory.store import LONGEST_SUBJECT
from proxy.identity.directory.store_changes import PlainRow, Row, Staged
from proxy.identity.directory.store_sql import UNDATED
from proxy.identity.places import Places

NONE = "none"
"""How files and people write that a subject has no home; a zone cannot be called so."""

COLUMNS = ("subject", "home", "from", "reason")

LONGEST_REASON = 1000
"""Characters."""

SHOWN = 100
"""Mistakes that are shown; all are counted."""

_PIECE = 5000
_REMEMBERED_DATES = 10_000


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """What is wrong with a line (from 1), and what to do about it."""

    line: int
    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.line}: {self.what}, {self.hint}"


class Mistakes:
    """The first mistakes of a file, in its order, and how many there are."""

    def __init__(self) -> None:
        self.first: list[Mistake] = []
        self.count = 0

    def add(self, line: int, what: str, hint: str) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(Mistake(line, what, hint))

    def add_later_ones(self, mistakes: list[Mistake], count: int) -> None:
        """Mistakes that were found only after all lines had been read: `count` of them, these being the first."""
        self.count += count
        self.first = list(merge(self.first, mistakes))[:SHOWN]


class Homes:
    """The homes of a policy by what people write for them: a zone, an ISO code in any case, or `none`."""

    def __init__(self, places: Places, zones: tuple[str, ...]) -> None:
        self._places = places
        self._zones = zones

    def read(self, text: str) -> str | None:
        """A zone's name, a code that no zone holds, or None for `none`. Raises Wrong."""
        if text == NONE:
            return None
        home = self._places.home(text)
        if home is None:
            hint = f"write a zone ({', '.join(self._zones)}), an ISO code, or none"
            if text.upper() == "UK":
                hint = "the United Kingdom is GB"
            raise Wrong(f"{VALUE} is no home", did_you_mean(text, (*self._zones, NONE)) or hint)
        return home

    def lost(self, home: str) -> bool:
        """Whether a home that was stored is none of the policy's any more."""
        return self._places.home(home) is None


class Rows:
    """Takes rows, notes mistakes, and stages what is right, many at once."""

    def __init__(
        self,
        homes: Homes,
        staged: Staged,
        mistakes: Mistakes,
    ) -> None:
        self._homes = homes
        self._staged = staged
        self._mistakes = mistakes
        self._numbers: dict[str, int] = {}
        self._dates: dict[str, int] = {}
        self._rows: list[Row] = []
        self._plain: list[PlainRow] = []

    def take(self, line: int, subject: str, home: str, date: str | None = None, reason: str | None = None) -> None:
        """One row; an empty date or reason is none."""
        before = self._mistakes.count
        number = self._numbers.get(home)
        if number is None:
            number = self._read_home(line, home)
        if not subject or not subject.isprintable() or subject[0] == " " or subject[-1] == " " or len(subject) > 128:
            self._check_subject(line, subject)
        if date or reason:
            self._take_whole(line, subject, number, date, reason, before)
        elif self._mistakes.count == before:
            self._plain.append((line, subject, number))
            if len(self._plain) >= _PIECE:
                self.flush()

    def flush(self) -> None:
        """Stage what is left."""
        self._staged.add_plain(self._plain)
        self._staged.add(self._rows)
        self._plain, self._rows = [], []

    def _take_whole(
        self, line: int, subject: str, number: int, date: str | None, reason: str | None, before: int
    ) -> None:
        effective = UNDATED
        if date:
            known = self._dates.get(date)
            effective = self._read_date(line, date) if known is None else known
        if reason:
            self._check_reason(line, reason)
        if self._mistakes.count == before:
            self._rows.append((line, subject, number, effective, reason or None))
            if len(self._rows) >= _PIECE:
                self.flush()

    def _read_home(self, line: int, text: str) -> int:
        if not text:
            self._mistakes.add(line, "`home` is empty", f"write {NONE} where a subject has no home")
            return 0
        try:
            number = self._numbers[text] = self._staged.number(self._homes.read(text))  # as many as there are spellings
        except Wrong as wrong:
            self._mistakes.add(line, wrong.what.replace(VALUE, "`home`"), wrong.hint or "")
            return 0
        return number

    def _check_subject(self, line: int, subject: str) -> None:
        try:
            read_subject(subject)
        except Wrong as wrong:
            self._mistakes.add(line, wrong.what, wrong.hint or "")

    def _read_date(self, line: int, text: str) -> int:
        try:
            effective = read_date(text)
        except Wrong as wrong:
            self._mistakes.add(line, wrong.what.replace(VALUE, "`from`"), wrong.hint or "")
            return UNDATED
        if len(self._dates) >= _REMEMBERED_DATES:
            self._dates.clear()
        self._dates[text] = effective
        return effective

    def _check_reason(self, line: int, reason: str) -> None:
        try:
            read_reason(reason)
        except Wrong as wrong:
            self._mistakes.add(line, wrong.what.replace(VALUE, "`reason`"), wrong.hint or "")


def read_subject(text: str) -> str:
    """What the proxy may be asked about. Raises Wrong, which does not say VALUE."""
    if not text:
        raise Wrong("`subject` is empty", "say whose home it is")
    if not text.isprintable():
        raise Wrong(
            "`subject` has a character that is not printable, or not UTF-8", "write UTF-8 text that fits on one line"
        )
    if text[0] == " " or text[-1] == " ":
        raise Wrong("`subject` has white space around it", "remove it")
    if len(text.encode()) > LONGEST_SUBJECT:
        raise Wrong("`subject` is too long", f"keep it to {LONGEST_SUBJECT} bytes")
    return text


def read_date(text: str) -> int:
    """Milliseconds since the epoch, of an ISO 8601 time with its offset. Raises Wrong."""
    milliseconds = read_instant(text) * 1000
    whole = round(milliseconds)
    if abs(milliseconds - whole) > 0.0005:
        raise Wrong(f"{VALUE} is finer than a millisecond", "leave out what is behind the third digit")
    if whole < 0:
        raise Wrong(f"{VALUE} is before 1970", "homes are dated from then on")
    return whole


def read_reason(text: str) -> str:
    """Why somebody moves. Raises Wrong."""
    if not text.isprintable():
        raise Wrong(
            f"{VALUE} has a character that is not printable, or not UTF-8", "write UTF-8 text that fits on one line"
        )
    if len(text) > LONGEST_REASON:
        raise Wrong(f"{VALUE} is too long", f"keep it to {LONGEST_REASON} characters")
    return text
