"""What only several values together show of health, choice, waiting, retries and limits. As in `whole`: the plain tree.

A key that could do nothing is a mistake: whoever wrote it expects something of it.
"""

from collections.abc import Iterator

from proxy.config.addresses import read_endpoint
from proxy.config.directory_mistakes import store_mistakes
from proxy.config.document import Document, Loc, Table
from proxy.config.note import VALUE, Note, Wrong, quoted
from proxy.config.report import note_of
from proxy.config.scalars import read_count, read_duration
from proxy.config.walk import entries_at, read_or_none, repeated, tables_at, text_at, texts_at

_CHECKED: dict[str, frozenset[str]] = {"http": frozenset({"https", "http"}), "tls": frozenset({"https", "tls"})}
_INSTEAD = {"http": "tls, tcp or none", "tls": "tcp or none"}
_OF_A_GET = ("path", "host", "status", "body")
_OF_CHECKS = (*_OF_A_GET, "interval", "jitter", "timeout", "healthy", "unhealthy")


def reliability_mistakes(document: Document) -> Iterator[Note]:
    """The mistakes of what keeps a provider in service, and the proxy."""
    for name, loc, _ in entries_at(document, ("providers",)):
        kind = kind_of_checks(document, loc)
        yield from _checks(document, name, loc, kind)
        yield from _breaker(document, (*loc, "health", "breaker"))
        yield from _evidence(document, loc, kind)
        yield from _balance(document, loc)
        yield from _queue(document, loc)
    yield from _retries(document)
    yield from _rates(document)
    yield from _overload(document)


# Providers


def kind_of_checks(document: Document, loc: Loc) -> str | None:
    """How a provider is checked, `none` among it; None where what is written cannot be read."""
    health = document.at((*loc, "health"))
    if health is None:
        return "none"
    if not isinstance(health, Table):
        return text_at(document, (*loc, "health"))
    return text_at(document, (*loc, "health", "kind")) if "kind" in health.entries else "http"


def _checks(document: Document, name: str, loc: Loc, kind: str | None) -> Iterator[Note]:
    at: Loc = (*loc, "health")
    if kind in _CHECKED:
        for _, text in texts_at(document, (*loc, "endpoints")):
            endpoint = read_or_none(read_endpoint, text)
            if endpoint is not None and endpoint.scheme not in _CHECKED[kind]:
                said: Loc = (*at, "kind")
                what = f"no {kind} check can be made of the {endpoint.scheme}:// endpoint of provider {quoted(name)}"
                hint = f"say `kind: {_INSTEAD[kind]}`, or give it a provider of its own"
                written = document.at(said) is not None
                yield document.note(said if written else at, what, hint, key=not written and kind == "http")
                break
    idle = {"none": _OF_CHECKS, "tcp": _OF_A_GET, "tls": _OF_A_GET}.get(kind or "", ())
    for key in idle:
        if document.at((*at, key)) is not None:
            what = "nothing is checked" if kind == "none" else f"a {kind} check asks for nothing"
            yield document.note((*at, key), what, f"leave {quoted(key)} out, or say another `kind`", key=True)


def _breaker(document: Document, loc: Loc) -> Iterator[Note]:
    opened, longest = _seconds(document, (*loc, "open"), 5.0), _seconds(document, (*loc, "longest"), 60.0)
    if opened is not None and longest is not None and longest < opened:
        key = "longest" if document.at((*loc, "longest")) is not None else "open"
        yield document.note((*loc, key), "`longest` is less than `open`", f"they are {longest:g}s and {opened:g}s")


def _evidence(document: Document, loc: Loc, kind: str | None) -> Iterator[Note]:
    place: Loc = (*loc, "location")
    if kind == "none":
        hint = "checks bring it: give the provider `health` with a `kind`"
        if text_at(document, (*loc, "evidence")) == "enforce":
            yield note_of(Wrong(f"{VALUE} has nothing to go by", hint), document, (*loc, "evidence"))
        if document.at(place) is not None:
            yield document.note(place, "nothing measures how far it is", hint, key=True)
    elif document.at(place) is not None and document.at(("location",)) is None:
        what = "it is not known how far that is"
        yield document.note(place, what, "say where this proxy is: `location` at the top of the file", key=True)


def _balance(document: Document, loc: Loc) -> Iterator[Note]:
    at: Loc = (*loc, "balance")
    balance = document.at(at)
    kind = text_at(document, (*at, "kind")) if isinstance(balance, Table) else text_at(document, at)
    weights = document.at((*at, "weights")) if isinstance(balance, Table) else None
    if kind == "weighted" and weights is None:
        said: Loc = (*at, "kind") if isinstance(balance, Table) else at
        hint = "write {kind: weighted, weights: [...]}, one for each endpoint"
        yield note_of(Wrong(f"{VALUE} without weights", hint), document, said)
    if weights is not None and kind == "round-robin":
        yield document.note((*at, "weights"), "`round-robin` looks at no weights", "say `kind: weighted`", key=True)
    elif weights is not None:
        endpoints = len(list(texts_at(document, (*loc, "endpoints"))))
        given = len(list(texts_at(document, (*at, "weights"))))
        if endpoints and given and given != endpoints:
            what = f"{given} weights for {endpoints} endpoints"
            yield document.note((*at, "weights"), what, "give each endpoint one, in their order")
    if isinstance(balance, Table) and "bound" in balance.entries and kind != "consistent-hash":
        what = "`bound` is for `consistent-hash` alone"
        yield document.note((*at, "bound"), what, "leave it out, or say `kind: consistent-hash`", key=True)


def _queue(document: Document, loc: Loc) -> Iterator[Note]:
    limits: Loc = (*loc, "limits")
    if isinstance(document.at((*limits, "queue")), Table) and document.at((*limits, "connections")) is None:
        what = "`queue` without `connections`"
        yield document.note((*limits, "queue"), what, "nobody waits where nothing is full", key=True)


# The whole proxy


def _retries(document: Document) -> Iterator[Note]:
    hedge = text_at(document, ("retries", "hedge"))
    if hedge not in (None, "none") and text_at(document, ("retries", "attempts")) == "1":
        what = "`hedge` beside `attempts: 1`"
        yield document.note(("retries", "hedge"), what, "asking elsewhere too is a second attempt", key=True)


def _rates(document: Document) -> Iterator[Note]:
    limits = [loc for loc, _ in tables_at(document, ("rates", "limits"))]
    yield from repeated(document, [(*loc, "name") for loc in limits], "limit")
    sources = {kind for _, source in tables_at(document, ("subject", "sources")) for kind in source.entries}
    for loc in limits:
        if sources <= {"location"} and text_at(document, (*loc, "by")) == "subject":
            hint = "say `by: network`, or add a source that verifies somebody, such as jwt"
            yield note_of(Wrong(f"{VALUE} where no source names one", hint), document, (*loc, "by"))
    at: Loc = ("rates", "store")
    store = document.at(at)
    shared = store is not None and text_at(document, at) != "none"
    if shared:
        yield from store_mistakes(document, at, "valkey", (*at, "url") if isinstance(store, Table) else at)
    secret: Loc = ("rates", "secret")
    if shared and document.at(secret) is None:
        hint = "add `secret`, a file or ${NAME}, alike in all instances: openssl rand -base64 32"
        yield document.note(at, "`store` without `secret`: its keys would name subjects", hint, key=True)
    if not shared and document.at(secret) is not None:
        yield document.note(secret, "`secret` without `store`", "nothing leaves this process: leave it out", key=True)


def _overload(document: Document) -> Iterator[Note]:
    at: Loc = ("overload",)
    if text_at(document, (*at, "adaptive")) == "false":
        for key in ("least", "tolerance"):
            if document.at((*at, key)) is not None:
                what = f"{quoted(key)} beside `adaptive: false`"
                yield document.note((*at, key), what, "the bound is `most`: leave it out", key=True)
        return
    least, most = _count(document, (*at, "least"), 16), _count(document, (*at, "most"), 10_000)
    if least is not None and most is not None and most < least:
        key = "most" if document.at((*at, "most")) is not None else "least"
        yield document.note((*at, key), "`most` is less than `least`", f"they are {most} and {least}")


def _seconds(document: Document, loc: Loc, default: float) -> float | None:
    """A duration, or its default where there is none; None where it cannot be read."""
    return default if document.at(loc) is None else read_or_none(read_duration, text_at(document, loc))


def _count(document: Document, loc: Loc, default: int) -> int | None:
    return default if document.at(loc) is None else read_or_none(read_count, text_at(document, loc))
