"""`domicile directory`: who lives where, in the policy's own file.

Subjects are personal data. They are printed where the operator asks for them, and named in no message.
"""

import json
import time
from pathlib import Path

import click

from proxy.cli.residency.effects import effect_as_json, fingerprint, home_text, objections, print_effect, when
from proxy.cli.residency.exporting import export_residents, export_stays, format_of, opened_for_export
from proxy.cli.residency.histories import print_batches, print_history
from proxy.cli.residency.importing import take_in
from proxy.cli.residency.place import check_reason, closing, date_of, moves_of, place_of, refusals, subject_of
from proxy.cli.residency.progress import shown_steps
from proxy.config.note import Wrong
from proxy.identity.directory.store import empty_store, instant, open_read_only, open_store
from proxy.identity.directory.store_changes import Staged
from proxy.identity.directory.store_sql import UNDATED

_POLICY = click.argument("policy", type=click.Path(path_type=Path))
_SUBJECT = click.argument("subject")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_REASON = click.option("--reason", metavar="TEXT", help="Why; kept with the change.")


@click.group()
def directory() -> None:
    """Say who lives where, in the SQLite file of POLICY's `directory` source.

    A running proxy sees a change once what it remembers of the subject is older than the policy allows. Nothing is
    ever overwritten: a correction is one more change. Exit status: 0 good, 1 the policy, the directory or a file of
    rows falls short, 2 usage.
    """


@directory.command("import")
@_POLICY
@click.argument("file")
@click.option("--max-moves", type=click.IntRange(min=0), metavar="N", help="Import nothing if more subjects move.")
@click.option("--only", multiple=True, metavar="FROM:TO", help="Import nothing if any move but these is in it.")
@click.option("--expect", metavar="FINGERPRINT", help="Import nothing unless it does what `preview` showed.")
@_REASON
@_JSON
def import_(
    policy: Path,
    file: str,
    max_moves: int | None,
    only: tuple[str, ...],
    expect: str | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Import subjects and homes from FILE, all of them or none.

    CSV with a header line (subject,home and optionally from,reason), or one JSON object a line with these keys; - is
    standard input. A home is a zone, an ISO code or none. Rows without `from` hold from now on.
    """
    place = place_of(policy)
    allowed = moves_of(only, place.homes)
    check_reason(reason)
    written = None
    with (
        refusals(as_json),
        closing(open_store(place.file, create=True)) as store,
        shown_steps() as steps,
        Staged(store) as staged,
    ):
        intake = take_in(file, staged, place.homes, steps, hold=True)
        effect = intake.effect
        refused = objections(effect, max_moves, allowed, expect, fingerprint(effect, intake.digest))
        if not refused:
            steps.step("writing")
            written = staged.write("import", reason=reason, digest=intake.digest)
    if as_json:
        click.echo(json.dumps({**effect_as_json(effect), "import": written, "refused": refused}))
    else:
        print_effect(effect)
        if written is not None:
            click.echo(f"imported as number {written}")
        elif not refused:
            click.echo("nothing to import")
        for objection in refused:
            click.echo(f"refused: {objection}", err=True)
    if refused:
        raise click.exceptions.Exit(1)


@directory.command()
@_POLICY
@click.argument("file")
@_JSON
def preview(policy: Path, file: str, as_json: bool) -> None:
    """Show what importing FILE would do: how many would move, from which home to which. Changes nothing."""
    place = place_of(policy)
    with refusals(as_json), shown_steps() as steps:
        opened = open_read_only(place.file) if place.file.exists() else empty_store(place.file)
        with closing(opened) as store, Staged(store) as staged:
            intake = take_in(file, staged, place.homes, steps, hold=False)
    shown = fingerprint(intake.effect, intake.digest)
    if as_json:
        click.echo(json.dumps({**effect_as_json(intake.effect), "fingerprint": shown}))
    else:
        print_effect(intake.effect)
        click.echo(f"fingerprint {shown}")


@directory.command("set")
@_POLICY
@_SUBJECT
@click.argument("home")
@click.option("--from", "start", metavar="TIME", help="From when on, such as 2031-12-27T00:00:00Z; left out: now.")
@_REASON
@_JSON
def set_(policy: Path, subject: str, home: str, start: str | None, reason: str | None, as_json: bool) -> None:
    """Give SUBJECT the home HOME: a zone, an ISO code, or none. - reads the subject from standard input.

    With the time of an earlier change it corrects that change; without --from it holds from now on.
    """
    place = place_of(policy)
    who = subject_of(subject)
    effective = UNDATED if start is None else date_of("--from", start)
    check_reason(reason)
    try:
        becomes = place.homes.read(home)
    except Wrong as wrong:
        raise click.UsageError(f"HOME: {wrong.said_of(home)}") from None
    with refusals(as_json), closing(open_store(place.file, create=True)) as store:
        with Staged(store) as staged:
            staged.add([(1, who, staged.number(becomes), effective, None)])
            staged.sort(1)
            effect = staged.compare(time.time, hold=True)
            batch = staged.write("set", reason=reason)
        now = instant(time.time())
        standing = store.standing(who, now)
    if as_json:
        click.echo(json.dumps({**effect_as_json(effect), "change": batch}))
        return
    moves = (*effect.moves, *effect.new, *effect.ahead)
    if batch is None:
        click.echo(f"{home_text(becomes)} already, nothing to change")
    else:
        was = home_text(moves[0].was) + " -> " if moves else ""
        date = "now" if start is None else when(effective)
        click.echo(f"{was}{home_text(becomes)} from {date} on, change number {batch}")
    if standing is not None and standing.until is not None:
        click.echo(f"next: {home_text(standing.next_home)} from {when(standing.until)} on")


@directory.command()
@_POLICY
@_SUBJECT
@click.option("--at", metavar="TIME", help="When, such as 2031-12-27T00:00:00Z; left out: now.")
@_JSON
def get(policy: Path, subject: str, at: str | None, as_json: bool) -> None:
    """Show where SUBJECT lives, since when, and what is dated ahead. - reads the subject from standard input.

    Exits 0 also for a subject that the directory does not know.
    """
    place = place_of(policy)
    who = subject_of(subject)
    with refusals(as_json), closing(open_read_only(place.file)) as store:
        now = instant(time.time()) if at is None else date_of("--at", at)
        found = store.standing(who, now)
    home = None if found is None else found.home
    if as_json:
        ahead = None
        if found is not None and found.until is not None:
            ahead = {"home": found.next_home, "from": when(found.until)}
        since = None if found is None or found.since is None else when(found.since)
        shown = {"subject": who, "known": found is not None, "home": home, "since": since, "next": ahead}
        click.echo(json.dumps(shown))
    elif found is None:
        click.echo("not in the directory")
    else:
        click.echo(home_text(found.home) + ("" if found.since is None else f" since {when(found.since)}"))
        if found.until is not None:
            click.echo(f"next: {home_text(found.next_home)} from {when(found.until)} on")
    if home is not None and place.homes.lost(home):
        click.echo(f"{policy}: it has no such zone as the home that is stored; a request would be refused", err=True)


@directory.command()
@_POLICY
@click.argument("subject", required=False)
@_JSON
def history(policy: Path, subject: str | None, as_json: bool) -> None:
    """Show every change of SUBJECT, replaced ones too; without one, every import, set and undo."""
    place = place_of(policy)
    who = None if subject is None else subject_of(subject)
    with refusals(as_json), closing(open_read_only(place.file)) as store:
        if who is None:
            print_batches(store, as_json)
        else:
            print_history(store, who, as_json)


@directory.command()
@_POLICY
@click.argument("file", default="-")
@click.option("--format", "wanted", type=click.Choice(["csv", "jsonl"]), help="Left out: as FILE is called, else csv.")
@click.option("--history", "whole", is_flag=True, help="Past and future changes too, with from and reason.")
@click.option("--at", metavar="TIME", help="Who lives where then; left out: now.")
def export(policy: Path, file: str, wanted: str | None, whole: bool, at: str | None) -> None:
    """Write everybody and their homes to FILE, ready to be imported; - or nothing is standard output.

    A file is made readable for its owner alone. With --history every change that was not replaced is a row.
    """
    if whole and at is not None:
        raise click.UsageError("--history has all times, so --at goes without it.")
    place = place_of(policy)
    form = format_of(file, wanted)
    with refusals(False), shown_steps() as steps, closing(open_read_only(place.file)) as store:
        now = instant(time.time()) if at is None else date_of("--at", at)
        told = steps.step("exporting")
        with opened_for_export(file) as to:
            count = export_stays(store, to, form, told) if whole else export_residents(store, now, to, form, told)
    if file != "-":
        click.echo(f"{count:,} {'changes' if whole else 'subjects'}", err=True)


@directory.command()
@_POLICY
@click.argument("number", type=click.IntRange(min=1))
@_REASON
@_JSON
def undo(policy: Path, number: int, reason: str | None, as_json: bool) -> None:
    """Take back import (or set) NUMBER: its subjects go back to where they would live without it.

    What was corrected since stays corrected, and the history shows both the change and that it was taken back.
    """
    place = place_of(policy)
    check_reason(reason)
    with refusals(as_json), closing(open_store(place.file)) as store, Staged(store) as staged:
        if number not in {batch.id for batch in store.batches()}:
            raise click.UsageError(f"There is no number {number}; `domicile directory history {policy}` lists them.")
        effect = staged.take_back(number, time.time)
        batch = staged.write("undo", reason=reason)
    if as_json:
        click.echo(json.dumps({**effect_as_json(effect), "undo": batch}))
        return
    print_effect(effect)
    if batch is None:
        click.echo("nothing to take back")
    else:
        click.echo(f"{effect.changes:,} changes taken back as number {batch}")
