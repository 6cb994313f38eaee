"""What is said about a policy file: where, what, and what to do about it.

`Wrong` is raised by whoever reads one value and knows no place; `Note` has the place; `PolicyRefused`
carries all notes of a file at once.
"""

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

VALUE = "{value}"
"""Stands in a `Wrong` for the value as it is written in the file, which is never the expanded one."""

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Note:
    """One mistake or finding, at a 1-based line and column. str() is `file:line:column: what, hint`."""

    file: Path
    line: int
    column: int
    what: str
    hint: str | None = None

    def __str__(self) -> str:
        said = self.what if self.hint is None else f"{self.what}, {self.hint}"
        return f"{self.file}:{self.line}:{self.column}: {said}"


class PolicyRefused(Exception):
    """The policy file's author has to change it: every mistake that was found, in the order of the file."""

    def __init__(self, mistakes: tuple[Note, ...]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


class Wrong(ValueError):
    """A value that its author has to change. Holds no value itself: `what` may say VALUE for it.

    suggestion is a hint that was derived from the value, so it is left out where the value is secret.
    """

    def __init__(self, what: str, hint: str | None = None, *, suggestion: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.suggestion = suggestion

    def said_of(self, written: str) -> str:
        """The whole text, of a value that may be shown."""
        parts = [self.what.replace(VALUE, quoted(written))]
        parts += [hint for hint in (self.suggestion or self.hint,) if hint]
        return ", ".join(parts)


def quoted(text: str) -> str:
    """A value as messages show it: on one line, bounded, between backticks."""
    bounded = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return "`" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in bounded) + "`"


def did_you_mean(name: str, known: Collection[str]) -> str | None:
    """A hint that names what was probably meant, or None."""
    if len(name) > _SHOWN:
        return None
    exact = [other for other in known if other.casefold() == name.casefold()]
    close = exact or get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {quoted(close[0])}?" if close else None
