"""`domicile check`: reads and proves a policy file, and says what it became."""

import json
from pathlib import Path
from typing import Any

import click

from proxy.cli.opening import notes_as_json, open_policy, print_notes
from proxy.config import Loaded, PolicyRefused
from proxy.policy.policy import Policy
from proxy.policy.settings import Listener


@click.command()
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(policy: Path, as_json: bool) -> None:
    """Read and prove POLICY.

    Prints what each zone expands to, the providers, the listeners and the digest. Exits 1 with every mistake, every
    guarantee that does not hold, or every finding.
    """
    try:
        loaded = open_policy(policy)
    except PolicyRefused as refused:
        if as_json:
            click.echo(json.dumps({"ok": False, "mistakes": notes_as_json(refused.mistakes), "findings": []}))
        else:
            print_notes(refused.mistakes)
            click.echo(f"{policy}: refused, {_count(len(refused.mistakes), 'mistake')}", err=True)
        raise click.exceptions.Exit(1) from None
    if as_json:
        click.echo(json.dumps(_as_json(loaded)))
    else:
        _print(loaded.policy)
        print_notes(loaded.findings)
        found = _count(len(loaded.findings), "finding")
        click.echo(f"{policy}: {'good' if not loaded.findings else found}", err=True)
    if loaded.findings:
        raise click.exceptions.Exit(1)


def _as_json(loaded: Loaded) -> dict[str, Any]:
    policy = loaded.policy
    return {
        "ok": not loaded.findings,
        "mistakes": [],
        "findings": notes_as_json(loaded.findings),
        "digest": policy.digest,
        "zones": {zone.name: sorted(zone.countries) for zone in policy.zones},
        "providers": [
            {
                "name": provider.name,
                "operator": provider.operator,
                "zone": provider.zone,
                "endpoints": [str(endpoint) for endpoint in provider.endpoints],
                "send_proxy": provider.send_proxy,
            }
            for provider in policy.providers
        ],
        "listeners": [
            {
                "name": listener.name,
                "protocol": listener.protocol,
                "tls": bool(listener.certificates),
                "binds": [str(bind) for bind in listener.binds],
                "proxy_protocol": listener.proxy_protocol,
            }
            for listener in policy.listeners
        ],
        "rules": len(policy.rules),
        "routes": len(policy.routes),
        "guarantees": len(policy.guarantees),
    }


def _print(policy: Policy) -> None:
    _section(
        "zones",
        [
            (zone.name, _count(len(zone.countries), "country"), " ".join(sorted(zone.countries)))
            for zone in policy.zones
        ],
    )
    _section(
        "providers",
        [
            (each.name, f"{each.operator}, in {each.zone}", " ".join(map(str, each.endpoints)))
            for each in policy.providers
        ],
    )
    _section(
        "listeners",
        [
            (
                each.name,
                _spoken(each),
                " ".join(map(str, each.binds)),
            )
            for each in policy.listeners
        ],
    )
    click.echo(
        f"{_count(len(policy.rules), 'rule')}, {_count(len(policy.routes), 'route')}, "
        f"{_count(len(policy.guarantees), 'guarantee')} proved"
    )
    click.echo(policy.digest)


def _spoken(listener: Listener) -> str:
    if listener.protocol != "http":
        return f"{listener.protocol}, passed on"
    return "http over TLS" if listener.certificates else "http"


def _section(title: str, rows: list[tuple[str, str, str]]) -> None:
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    click.secho(title, bold=True)
    for name, what, where in rows:
        click.echo(f"  {name:{widths[0]}}  {what:{widths[1]}}  {where}")


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
