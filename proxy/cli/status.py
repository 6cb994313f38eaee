"""`domicile status`: how a running instance stands."""

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from proxy.cli.opening import open_or_exit
from proxy.cli.watching.admin import Admin, NoAnswer, admin_of, read_admin
from proxy.cli.watching.history import History
from proxy.cli.watching.keyboard import Left, keyboard
from proxy.cli.watching.view import picture
from proxy.config.note import Wrong
from proxy.config.scalars import read_duration

_USUAL = "http://127.0.0.1:9400"
_PATIENCE = 3.0
_SHORTEST = 0.1


@click.command()
@click.argument("policy", type=click.Path(path_type=Path), required=False)
@click.option("--admin", metavar="URL|unix:PATH", help=f"Where its admin endpoints are; else {_USUAL}.")
@click.option("--json", "as_json", is_flag=True, help="Print what /status says, once.")
@click.option("--every", metavar="TIME", default="1s", show_default=True, help="How often to ask.")
def status(policy: Path | None, admin: str | None, as_json: bool, every: str) -> None:
    """Show how a running instance stands: zones, providers, bandwidth, latency, denials, evidence.

    POLICY is a policy file that says where the admin endpoints are. In a terminal it is a live view, until q or Ctrl-C;
    else, and with --json, it is printed once. Exits 1 if nobody answers.
    """
    where, period = _where(policy, admin), _period(every)
    try:
        if as_json:
            click.echo(json.dumps(where.ask(_PATIENCE)))
            return
        console = Console(highlight=False)
        history = History()
        history.add(where.status(_PATIENCE))
    except NoAnswer as error:
        click.echo(error, err=True)
        sys.exit(1)
    if sys.stdout.isatty() and not console.is_dumb_terminal:
        _watch(where, period, console, history)
    else:
        console.print(picture(history, _unicode(console)))


def _where(policy: Path | None, admin: str | None) -> Admin:
    if policy is not None and admin is not None:
        raise click.UsageError("give a POLICY or --admin, not both")
    try:
        if policy is not None:
            return admin_of(open_or_exit(policy).policy.admin.bind)
        return read_admin(admin or _USUAL)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _period(every: str) -> float:
    try:
        return max(read_duration(every), _SHORTEST)
    except Wrong as wrong:
        raise click.UsageError(f"--every: {wrong.said_of(every)}") from None


def _watch(where: Admin, period: float, console: Console, history: History) -> None:
    unicode, note = _unicode(console), None
    try:
        with keyboard() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(picture(history, unicode, note), refresh=True)
                keys.wait(period)
                try:
                    history.add(where.status(_PATIENCE))
                    note = None
                except NoAnswer as error:
                    note = str(error)
    except Left:
        pass


def _unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")
