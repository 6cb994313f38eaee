"""Everybody in a store as CSV or JSON lines, to a file that appears whole or not at all, or to standard output."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

import click

from proxy.cli.residency.effects import home_text, when
from proxy.cli.residency.progress import Told
from proxy.identity.directory.store import Store
from proxy.identity.directory.store_export import residents, stays

Format = Literal["csv", "jsonl"]


def export_residents(store: Store, now: int, to: TextIO, form: Format, told: Told) -> int:
    """Who has a home at `now`, and which. How many there are."""
    count = 0
    write = _writer(to, form, ("subject", "home"))
    for piece in residents(store, now):
        write(piece)
        count += len(piece)
        told(len(piece))
    return count


def export_stays(store: Store, to: TextIO, form: Format, told: Told) -> int:
    """All changes that stand. How many there are."""
    count = 0
    write = _writer(to, form, ("subject", "home", "from", "reason"))
    for piece in stays(store):
        write([(subject, home_text(home), when(start), reason) for subject, home, start, reason in piece])
        count += len(piece)
        told(len(piece))
    return count


def format_of(file: str, wanted: str | None) -> Format:
    """What was asked for, else what the file's name says, else CSV."""
    if wanted is None:
        return "jsonl" if Path(file).suffix in (".jsonl", ".ndjson", ".json") else "csv"
    return "jsonl" if wanted == "jsonl" else "csv"


@contextmanager
def opened_for_export(file: str) -> Iterator[TextIO]:
    """The file to write, 0600 as its content asks, in its place once all is written; `-` is standard output.

    Raises click.UsageError where it cannot be written.
    """
    if file == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    path = Path(file)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8", newline="") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file's name"
        raise click.UsageError(f"{file} cannot be written: {reason}") from None


def _writer(to: TextIO, form: Format, columns: tuple[str, ...]) -> Callable[[Sequence[tuple[str | None, ...]]], None]:
    if form == "csv":
        writer = csv.writer(to, lineterminator="\n")
        writer.writerow(columns)
        return writer.writerows
    encode = json.JSONEncoder(ensure_ascii=False).encode

    def write(rows: Sequence[tuple[str | None, ...]]) -> None:
        objects = ({name: value for name, value in zip(columns, row, strict=True) if value is not None} for row in rows)
        to.write("".join(f"{encode(each)}\n" for each in objects))

    return write
