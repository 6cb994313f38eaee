"""From a file of rows to their effect on a store: what `import` and `preview` share."""

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import click

from proxy.cli.residency.progress import Steps
from proxy.cli.residency.reading import read_rows
from proxy.cli.residency.rows import SHOWN, Homes, Mistake, Mistakes, Rows
from proxy.identity.directory.store_changes import Effect, Staged


@dataclass(frozen=True, slots=True)
class Intake:
    """What a file would do. digest: of the file, SHA-256 as hex."""

    effect: Effect
    digest: str


class RowsRefused(Exception):
    """The file's author has to change it: the first mistakes, and how many there are."""

    def __init__(self, file: str, mistakes: Mistakes) -> None:
        super().__init__(f"{mistakes.count} mistakes")
        self.file = file
        self.mistakes = mistakes


def take_in(file: str, staged: Staged, homes: Homes, steps: Steps, *, hold: bool) -> Intake:
    """Read, check, sort and compare a whole file; hold: as Staged.compare.

    Raises RowsRefused with every mistake, StoreRefused, and click.UsageError for a file that cannot be read.
    """
    mistakes = Mistakes()
    rows = Rows(homes, staged, mistakes)
    with _opened(file) as (stream, size):
        digest = read_rows(stream, rows, mistakes, steps.step("reading", size))
    steps.step("sorting")
    count, clashes = staged.sort(SHOWN)
    if count:
        hint = "a subject has one home at a time; leave one out, or date them"
        later = [Mistake(line, f"another home than in line {first}", hint) for line, first in clashes]
        mistakes.add_later_ones(later, count)
    if mistakes.count:
        raise RowsRefused(file, mistakes)
    steps.step("comparing")
    return Intake(staged.compare(time.time, hold=hold), digest)


@contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file and its size, None where it is not known; `-` is standard input."""
    try:
        if file == "-":
            yield sys.stdin.buffer, None
            return
        with open(file, "rb") as stream:
            about = os.fstat(stream.fileno())
            yield stream, about.st_size if stat.S_ISREG(about.st_mode) else None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file's name"
        raise click.UsageError(f"{file} cannot be read: {reason}") from None
