"""What an import, a set or an undo does, shown to people and to programs."""

import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import click

from proxy.cli.residency.rows import NONE
from proxy.identity.directory.store_changes import Effect, Move

Allowed = frozenset[tuple[str | None, str | None]]
"""Pairs of homes between which subjects may move."""


@lru_cache(4096)  # an export has few instants, each a million times
def when(milliseconds: int) -> str:
    """An instant as files write it, in UTC."""
    spec = "milliseconds" if milliseconds % 1000 else "seconds"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec=spec).replace("+00:00", "Z")


def home_text(home: str | None) -> str:
    return NONE if home is None else home


def print_effect(effect: Effect) -> None:
    """One line a count, and below it one for each pair of homes, the largest first."""
    sections = (
        ("move now", effect.moves, sum(move.subjects for move in effect.moves)),
        ("get their first home", effect.new, sum(move.subjects for move in effect.new)),
        ("change later", effect.ahead, sum(move.subjects for move in effect.ahead)),
    )
    click.echo(f"{effect.rows:,} rows, {effect.subjects:,} subjects")
    for title, moves, count in sections:
        click.echo(click.style(f"{count:,} {title}", bold=bool(count)))
        width = max((len(_pair(move)) for move in moves), default=0)
        for move in moves:
            first = "" if move.first is None else f", from {when(move.first)} on"
            click.echo(f"  {_pair(move):{width}}  {move.subjects:,}{first}")
    click.echo(f"{effect.unchanged:,} stay as they are")


def effect_as_json(effect: Effect) -> dict[str, Any]:
    return {
        "rows": effect.rows,
        "subjects": effect.subjects,
        "moved": effect.moved,
        "moves": [_as_json(move) for move in effect.moves],
        "new": [_as_json(move) for move in effect.new],
        "ahead": [_as_json(move) for move in effect.ahead],
        "changes": effect.changes,
        "unchanged": effect.unchanged,
    }


def fingerprint(effect: Effect, digest: str) -> str:
    """Stands for this effect of this file (its SHA-256) on this state of the store; changes if any of them does."""
    said = json.dumps([digest, effect.latest, effect_as_json(effect)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def objections(effect: Effect, max_moves: int | None, only: Allowed, given: str | None, actual: str) -> list[str]:
    """Why an import that was limited must not be written; empty if it may. given, actual: fingerprints."""
    found = []
    if given is not None and given != actual:
        found.append("not what was previewed, for the file or the directory has changed; preview it again")
    if max_moves is not None and effect.moved > max_moves:
        found.append(f"{effect.moved:,} would move, and --max-moves allows {max_moves:,}")
    if only:
        stray: Counter[str] = Counter()
        for move in (*effect.moves, *effect.ahead):
            if move.was is not None and (move.was, move.becomes) not in only:
                stray[_pair(move)] += move.subjects
        found += [f"{count:,} would move {pair}, which --only does not name" for pair, count in stray.items()]
    return found


def _pair(move: Move) -> str:
    return f"{home_text(move.was)} -> {home_text(move.becomes)}"


def _as_json(move: Move) -> dict[str, Any]:
    shown: dict[str, Any] = {"from": move.was, "to": move.becomes, "subjects": move.subjects}
    if move.first is not None:
        shown["first"] = when(move.first)
    return shown
