"""What the commands begin with: the policy's directory, its homes, and arguments that are checked."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from proxy.cli.opening import open_or_exit
from proxy.cli.residency.effects import Allowed
from proxy.cli.residency.importing import RowsRefused
from proxy.cli.residency.rows import Homes, read_date, read_reason, read_subject
from proxy.config.note import Wrong
from proxy.identity.directory.store import Store, StoreRefused
from proxy.identity.places import Places
from proxy.policy.policy import Policy
from proxy.policy.subject import Directory, SqliteStore


class Place:
    """The file of a policy, and the homes that it knows."""

    def __init__(self, policy: Policy, file: Path) -> None:
        self.file = file
        self.homes = Homes(Places(policy.zones), tuple(zone.name for zone in policy.zones))


def place_of(path: Path) -> Place:
    """Exits 1 for a policy with mistakes, or without a directory that these commands write."""
    policy = open_or_exit(path).policy
    stores = [source.store for source in policy.subject.sources if isinstance(source, Directory)]
    files = dict.fromkeys(store.path for store in stores if isinstance(store, SqliteStore))
    if len(files) == 1:
        return Place(policy, next(iter(files)))
    if files:
        said = "it has several SQLite directories, and this command would have to guess"
    elif stores:
        said = "its directory is kept elsewhere, change it there"
    else:
        said = "it has no directory, add {directory: {sqlite: directory.db, key: {header: X-Account}}} to its sources"
    click.echo(f"{path}: {said}", err=True)
    raise click.exceptions.Exit(1)


@contextmanager
def closing(store: Store) -> Iterator[Store]:
    try:
        yield store
    finally:
        store.close()


@contextmanager
def refusals(as_json: bool) -> Iterator[None]:
    """What a file, or the store, is refused for, said; exit 1."""
    try:
        yield
    except StoreRefused as refused:
        click.echo(refused, err=True)
    except RowsRefused as refused:
        mistakes = refused.mistakes
        if as_json:
            first = [{"line": each.line, "what": each.what, "hint": each.hint} for each in mistakes.first]
            click.echo(json.dumps({"mistakes": first, "count": mistakes.count}))
        else:
            for mistake in mistakes.first:
                click.echo(f"{refused.file}:{mistake}", err=True)
        more = mistakes.count - len(mistakes.first)
        said = f"{mistakes.count:,} mistake{'' if mistakes.count == 1 else 's'}"
        click.echo(f"{refused.file}: {said}{f', {more:,} not shown' if more else ''}, nothing is imported", err=True)
    else:
        return
    raise click.exceptions.Exit(1)


def subject_of(given: str) -> str:
    """The subject that was named, or that stands on standard input, where no list of processes shows it."""
    if given == "-":
        given = sys.stdin.readline().rstrip("\r\n")
    try:
        return read_subject(given)
    except Wrong as wrong:
        raise click.UsageError(f"SUBJECT: {wrong.what}, {wrong.hint}.") from None


def date_of(option: str, text: str) -> int:
    try:
        return read_date(text)
    except Wrong as wrong:
        raise click.UsageError(f"{option}: {wrong.said_of(text)}") from None


def check_reason(reason: str | None) -> None:
    try:
        read_reason(reason or "")
    except Wrong as wrong:
        raise click.UsageError(f"--reason: {wrong.what.replace('{value}', 'it')}, {wrong.hint}") from None


def moves_of(only: tuple[str, ...], homes: Homes) -> Allowed:
    pairs = []
    for pair in only:
        was, colon, becomes = pair.partition(":")
        try:
            if not colon:
                raise Wrong("{value} is no move", "write two homes as FROM:TO")
            pairs.append((homes.read(was), homes.read(becomes)))
        except Wrong as wrong:
            raise click.UsageError(f"--only: {wrong.said_of(pair)}") from None
    return frozenset(pairs)
