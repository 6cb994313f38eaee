"""A subject's changes, and what was recorded altogether, shown to people and to programs."""

import json
import time
from typing import Any

import click

from proxy.cli.residency.effects import home_text, when
from proxy.identity.directory.store import Store, instant


def print_history(store: Store, subject: str, as_json: bool) -> None:
    changes = store.history(subject, instant(time.time()))
    rows: list[dict[str, Any]] = [
        {
            "from": when(each.effective),
            "home": each.home,
            "state": each.state,
            "recorded": when(each.recorded),
            "by": each.kind,
            "number": each.batch,
            "reason": each.reason,
        }
        for each in changes
    ]
    if as_json:
        click.echo(json.dumps({"subject": subject, "changes": rows}))
    elif not rows:
        click.echo("not in the directory")
    for row in () if as_json else rows:
        reason = f": {row['reason']}" if row["reason"] else ""
        click.echo(
            f"from {row['from']}  {home_text(row['home'])}  {row['state']}, recorded {row['recorded']} "
            f"by {row['by']} {row['number']}{reason}"
        )


def print_batches(store: Store, as_json: bool) -> None:
    batches = store.batches()
    if as_json:
        rows = [
            {
                "number": each.id,
                "recorded": when(each.recorded),
                "by": each.kind,
                "changes": each.changes,
                "undoes": each.undoes,
                "sha256": each.digest,
                "reason": each.reason,
            }
            for each in batches
        ]
        click.echo(json.dumps({"recorded": rows}))
        return
    for each in batches:
        undoes = "" if each.undoes is None else f" of {each.undoes}"
        reason = f": {each.reason}" if each.reason else ""
        changes = "1 change" if each.changes == 1 else f"{each.changes:,} changes"
        click.echo(f"{each.id}  {when(each.recorded)}  {each.kind}{undoes}  {changes}{reason}")
