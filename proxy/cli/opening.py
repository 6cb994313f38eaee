"""How every command opens a policy file, and how notes are printed."""

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from proxy.config import Loaded, Note, PolicyRefused, load


def open_policy(path: Path) -> Loaded:
    """The policy in a file, for now and this environment. Raises PolicyRefused."""
    return load(path, os.environ, time.time())


def open_or_exit(path: Path) -> Loaded:
    """As open_policy, for commands that have nothing to say of a refused policy: notes on stderr, exit 1."""
    try:
        return open_policy(path)
    except PolicyRefused as refused:
        print_notes(refused.mistakes, err=True)
        raise click.exceptions.Exit(1) from None


def read_input(file: str, option: str) -> bytes:
    """A file's bytes, or standard input's for `-`. option: what named it, for the message."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file's name"
        raise click.UsageError(f"{option}: {file} cannot be read: {reason}") from None


def print_notes(notes: Iterable[Note], *, err: bool = False) -> None:
    """One line a note: `file:line:column: what, hint`; the place stands out in a terminal."""
    for note in notes:
        place = click.style(f"{note.file}:{note.line}:{note.column}:", bold=True)
        hint = "" if note.hint is None else f", {note.hint}"
        click.echo(f"{place} {note.what}{click.style(hint, dim=True)}", err=err)


def notes_as_json(notes: Iterable[Note]) -> list[dict[str, Any]]:
    return [
        {"file": str(note.file), "line": note.line, "column": note.column, "what": note.what, "hint": note.hint}
        for note in notes
    ]
