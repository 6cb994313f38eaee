"""A decision's trace for people: drawn in a terminal, one plain line each when piped."""

import sys
from dataclasses import fields

import click

from proxy.policy.decision import RuleSay
from proxy.policy.explain import Explanation
from proxy.policy.facts import Facts
from proxy.policy.rules import Condition
from proxy.policy.words import moment, worded

_KEYS = frozenset(each.name for each in fields(Condition))
REASONS = {
    "no-zone": "no zone holds the home",
    "home-unknown": "the home is unknown, and no rule grants anything to unknown homes",
    "no-rule": "no rule that allows anything applies",
    "no-provider": "what the rules allow fits no provider",
    "conflict": "the rules together leave no provider",
    "forbidden": "what the rules allowed is forbidden",
}


def print_trace(explanation: Explanation, facts: Facts) -> None:
    """The facts, each rule's say, and what is left."""
    if sys.stdout.isatty():
        _draw(explanation, facts)
        return
    click.echo(_outcome(explanation))
    click.echo(f"facts: {worded(facts, _KEYS)}")
    click.echo(f"class: {_classes(explanation)}")
    for say in explanation.says:
        because = f" ({say.because})" if say.because else ""
        click.echo(f"rule {say.rule}{because}: {_said(say)}")
    for line in _left(explanation):
        click.echo(line)
    click.echo(explanation.digest)


def _draw(explanation: Explanation, facts: Facts) -> None:
    # Only a terminal needs rich, and it takes a while to import.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    permitted = explanation.outcome == "permit"
    console.print(Text(_outcome(explanation), style="bold green" if permitted else "bold red"))
    console.print(Text(f"{worded(facts, _KEYS)}; class {_classes(explanation)}", style="dim"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("")
    table.add_column("rule", overflow="fold")
    table.add_column("says", overflow="fold")
    table.add_column("because", overflow="fold", style="dim")
    for say in explanation.says:
        style = "dim" if not say.applies else "red" if say.forbade else "yellow" if not say.granted else "green"
        mark = "·" if not say.applies else "✗" if say.forbade else "≤" if not say.granted else "✓"
        decisive = say.rule in explanation.laws
        table.add_row(
            Text(mark, style=style),
            Text(say.rule, style=f"bold {style}" if decisive else style),
            Text(_said(say), style=style),
            Text("; ".join(filter(None, (say.because, say.authority)))),
        )
    console.print(table)
    for line in _left(explanation):
        console.print(Text(line))
    console.print(Text(explanation.digest, style="dim"), soft_wrap=True)


def _outcome(explanation: Explanation) -> str:
    if explanation.reason is None:
        return f"permit: {', '.join(explanation.permitted)}"
    laws = f" (by {', '.join(explanation.laws)})" if explanation.laws else ""
    return f"denial: {explanation.reason}, {REASONS[explanation.reason]}{laws}"


def _classes(explanation: Explanation) -> str:
    return " or ".join(explanation.classes) or explanation.data_class


def _said(say: RuleSay) -> str:
    if not say.applies:
        return f"does not apply, {say.why_not}"
    parts = [
        f"{verb} {', '.join(names)}"
        for verb, names in (("grants", say.granted), ("leaves out", say.narrowed), ("forbids", say.forbade))
        if names
    ]
    return "; ".join(parts) or "applies, and changes nothing"


def _left(explanation: Explanation) -> list[str]:
    lines = []
    if explanation.order:
        how = "as permitted, fastest first" if explanation.route is None else f"by route {explanation.route + 1}"
        shares = explanation.weights or ()
        total = sum(shares)
        names = [
            f"{name} {shares[i] / total:.0%}" if i < len(shares) and total else name
            for i, name in enumerate(explanation.order)
        ]
        lines.append(f"route: {', '.join(names)} ({how})")
    elif explanation.outcome == "permit":
        lines.append("route: it leaves none of the permitted providers, so nothing is reached")
    if explanation.authority:
        lines.append(f"authority: {explanation.authority}")
    for limit in explanation.limits:
        each = "subject, or network where none is known" if limit.by == "subject" else "network"
        lines.append(f"limit {limit.name}: {limit.rate:g} a second and {limit.burst} at once for each {each}")
    if explanation.until is not None:
        lines.append(f"until: {moment(explanation.until)}, when dates of the policy may change it")
    return lines
