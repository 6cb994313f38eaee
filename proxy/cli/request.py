"""`domicile explain --request`: who the sources say that a raw request is for, and the decision."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.cli.asking import NOT_ASKED, Connection, Look, Said, look, read_head
from proxy.cli.explain import explanation_as_json
from proxy.cli.facts import BadFacts, FactsReader
from proxy.cli.opening import open_or_exit, read_input
from proxy.cli.trace import print_trace
from proxy.identity.answers import Invalid, Unavailable
from proxy.identity.identify import Identity
from proxy.policy.explain import explain
from proxy.policy.facts import STATED
from proxy.policy.policy import Policy
from proxy.server.load import LoadRefused

_READ = ("client", "listener", "time", "ech")
_ANSWERS = {Invalid: (401, "credential-invalid"), Unavailable: (503, "source-unavailable")}


def explain_request(path: Path, request: str, named: dict[str, Any], as_json: bool) -> None:
    """Show what comes of the request in a file (`-`: standard input). named: the options that were given."""
    if "client" not in named:
        raise click.UsageError("--request needs --client: the address that the connection comes from.")
    policy = open_or_exit(path).policy
    reader = FactsReader(policy, time.time())
    try:
        # A server name has the canonical form of a host.
        given = reader.read({name: named.get(name) for name in _READ} | {"host": named.get("sni")})
    except BadFacts as bad:
        texts = [f"--{'sni' if name == 'host' else name}: {text}" for name, text in bad.mistakes]
        raise click.UsageError("\n".join(texts)) from None
    named_one = next((each for each in policy.listeners if each.name == given.listener), None)
    if named_one is not None and named_one.protocol != "http":
        raise click.UsageError(f"--listener: {named_one.name} passes {named_one.protocol} on and reads no requests.")
    listener = named_one or next((each for each in policy.listeners if each.protocol == "http"), None)
    if listener is None:
        raise click.UsageError("--request: the policy has no listener that a request could come in by.")
    tls = named.get("tls", bool(listener.certificates))
    connection = Connection(
        listener.name,
        given.client,
        tls,
        given.host,
        bool(given.ech),
        _certificate(named.get("certificate")),
    )
    head = read_head(read_input(request, "--request"))
    try:
        seen = asyncio.run(look(policy, connection, head, given.time, bool(named.get("offline"))))
    except LoadRefused as refused:
        click.echo("\n".join(refused.mistakes), err=True)
        raise click.exceptions.Exit(1) from None
    _show(policy, connection, seen, as_json)


def _certificate(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    except OSError as error:
        raise click.UsageError(f"--certificate: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise click.UsageError(f"--certificate: {path} holds no PEM certificate") from None


def _show(policy: Policy, connection: Connection, look: Look, as_json: bool) -> None:
    """What came of a request: who was asked and what they said, then the answer or the decision."""
    explanation = None
    if look.judged is not None and isinstance(look.judged.found, Identity) and look.judged.facts is not None:
        explanation = explain(policy, look.judged.facts)
    answer = _answer(look)
    if as_json:
        shown = _request(connection, look) | {"sources": [_said_as_json(each) for each in look.said]}
        if answer is not None:
            shown |= {"outcome": "refusal", "status": answer[0], "reason": answer[1]}
        if explanation is not None:
            shown |= explanation_as_json(explanation)
        click.echo(json.dumps(shown))
        return
    for name, value in _request(connection, look)["request"].items():
        if value is not None:
            click.echo(f"{name}: {str(value).lower() if isinstance(value, bool) else value}")
    for each in look.said:
        click.echo(f"source {each.source}: {_sentence(each)}")
    if look.judged is not None and look.judged.facts is not None and look.judged.facts.source == STATED:
        click.echo(f"stated: home {look.judged.facts.home}, before any source")
    if answer is not None:
        click.echo(f"refusal: {answer[0]} {answer[1]}")
    if explanation is not None and look.judged is not None and look.judged.facts is not None:
        print_trace(explanation, look.judged.facts)


def _answer(look: Look) -> tuple[int, str] | None:
    if look.refusal is not None:
        return look.refusal.status, look.refusal.cause
    return None if look.judged is None else _ANSWERS.get(type(look.judged.found))


def _request(connection: Connection, look: Look) -> dict[str, Any]:
    facts = None if look.judged is None else look.judged.facts
    return {
        "request": {
            "listener": connection.listener,
            "tls": connection.tls,
            "peer": None if connection.peer is None else str(connection.peer),
            "trusted": None if look.judged is None else look.judged.sender.trusted,
            "client": None if facts is None or facts.client is None else str(facts.client),
            "country": None if facts is None else facts.country,
            "method": None if look.head is None else look.head.method,
            "host": None if look.head is None else look.head.authority.host,
            "path": None if facts is None else facts.path,
        }
    }


def _said_as_json(said: Said) -> dict[str, str | None]:
    return {
        "source": said.source,
        "answer": said.answer,
        "why": said.why,
        "home": said.home,
        "actor": said.actor,
    }


def _sentence(said: Said) -> str:
    if said.answer == NOT_ASKED:
        return "not asked, which the proxy would have done"
    what = f"home {said.home}" if said.answer == "home" else said.answer
    why = "" if said.why is None else f", {said.why}"
    who = "" if said.actor is None else f" (verified: {said.actor})"
    return f"{what}{why}{who}"
