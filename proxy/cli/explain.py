"""`domicile explain`: the decision for given facts, and what led to it."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from proxy.cli.facts import BadFacts, FactsReader
from proxy.cli.opening import open_or_exit, read_input
from proxy.cli.trace import print_trace
from proxy.policy.explain import Explanation
from proxy.policy.explain import explain as explained
from proxy.policy.facts import Facts
from proxy.policy.policy import Policy

_OPTIONS = (
    ("--home", "ZONE", "A zone, an ISO code, or unknown."),
    ("--country", "CODE", "Where the client's address is, or unknown."),
    ("--class", "CLASS", "Left out: derived from the other facts."),
    ("--host", "HOST", "The request's host."),
    ("--path", "PATH", "The request's path."),
    ("--method", "METHOD", "The request's method."),
    ("--listener", "NAME", "The listener that it came in by."),
    ("--client", "ADDRESS", "The client's address."),
    ("--source", "SOURCE", "Which kind of source gave the home."),
    ("--actor", "ACTOR", "Who acts: subject, unknown, or a kind of staff."),
    ("--time", "TIME", "When, such as 2031-12-27T00:00:00Z; left out: now."),
)

ASKING_ONLY = frozenset({"sni", "tls", "certificate", "offline"})
ASKING = ASKING_ONLY | {"client", "listener", "time", "ech"}
"""The options that go with --request."""


def _fact_options(command: Callable[..., None]) -> Callable[..., None]:
    for option, metavar, text in reversed(_OPTIONS):
        command = click.option(option, metavar=metavar, help=text)(command)
    return command


@click.command()
@click.argument("policy", type=click.Path(path_type=Path))
@_fact_options
@click.option("--upgrade", is_flag=True, default=None, help="The request asks for another protocol.")
@click.option("--ech/--no-ech", default=None, help="Whether the ClientHello carried the encrypted-hello extension.")
@click.option("--facts", metavar="FILE", help="Decide one JSON object of facts a line; - is standard input.")
@click.option("--request", metavar="FILE", help="Ask the sources about a raw HTTP request; - is standard input.")
@click.option("--sni", metavar="NAME", help="With --request: the name that the client greeted with.")
@click.option("--tls/--no-tls", default=None, help="With --request; left out: as the listener has it.")
@click.option("--certificate", type=click.Path(path_type=Path), help="With --request: the client's own, PEM.")
@click.option("--offline", is_flag=True, default=None, help="With --request: ask no source that asks other machines.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(policy: Path, facts: str | None, request: str | None, as_json: bool, **given: Any) -> None:
    """Show what POLICY decides for given facts: each rule's say, and the providers left.

    What is left out is not known, and what is not known never permits more. With --request the facts are found as
    the proxy finds them, and --client is the other end of the connection. Exits 0 for permit and denial alike.
    """
    named = {name: value for name, value in given.items() if value is not None}
    if request is not None:
        # Only requests need an event loop and all that opens sources, and importing it takes a while.
        from proxy.cli.request import explain_request

        if taken := sorted(({"facts"} if facts is not None else set()) | named.keys() - ASKING):
            raise click.UsageError(f"--request takes the place of --{', --'.join(taken)}.")
        explain_request(policy, request, named, as_json)
        return
    if alone := ASKING_ONLY & named.keys():
        raise click.UsageError(f"--{', --'.join(sorted(alone))} without --request.")
    if facts is not None and named:
        raise click.UsageError(f"--facts takes the place of --{', --'.join(named)}.")
    loaded = open_or_exit(policy).policy
    reader = FactsReader(loaded, time.time())
    if facts is not None:
        for one in _facts_of(facts, reader):
            click.echo(json.dumps(explanation_as_json(explained(loaded, one))))
        return
    try:
        one = reader.read(named)
    except BadFacts as bad:
        raise click.UsageError("\n".join(f"--{name}: {text}" for name, text in bad.mistakes)) from None
    _print(loaded, one, as_json)


def _print(policy: Policy, facts: Facts, as_json: bool) -> None:
    explanation = explained(policy, facts)
    if as_json:
        click.echo(json.dumps(explanation_as_json(explanation)))
    else:
        print_trace(explanation, facts)


def _facts_of(file: str, reader: FactsReader) -> list[Facts]:
    """The facts of all lines. Nothing is decided unless every line can be read."""
    found, mistakes = [], []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            found.append(reader.read_line(line))
        except BadFacts as bad:
            mistakes += [f"{file}:{number}: {name}: {text}" for name, text in bad.mistakes]
    if mistakes:
        click.echo("\n".join(mistakes), err=True)
        raise click.exceptions.Exit(2)
    return found


def _lines(file: str) -> Iterable[str]:
    try:
        return read_input(file, "--facts").decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise click.UsageError(f"--facts: {file} is not UTF-8") from None


def explanation_as_json(explanation: Explanation) -> dict[str, Any]:
    """What --json prints of a decision."""
    return {
        "outcome": explanation.outcome,
        "reason": explanation.reason,
        "permitted": list(explanation.permitted),
        "route": list(explanation.order),
        "home": explanation.home,
        "class": explanation.data_class,
        "limits": [limit.name for limit in explanation.limits],
        "laws": list(explanation.laws),
        "authority": explanation.authority,
        "rules": [
            {
                "rule": say.rule,
                "applies": say.applies,
                "granted": list(say.granted),
                "narrowed": list(say.narrowed),
                "forbade": list(say.forbade),
                "because": say.because,
                "authority": say.authority,
                "why_not": say.why_not,
            }
            for say in explanation.says
        ],
        "digest": explanation.digest,
    }
