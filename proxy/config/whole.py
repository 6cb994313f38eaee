"""What only several values together show: duplicates, overlaps, pairs, sources in the wrong order.

These checks read the plain tree and not the model, so that they speak even where other values are
wrong. They step over whatever has another shape than expected: the model has noted that already.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from proxy.config.directory_mistakes import directory_mistakes
from proxy.config.document import Document, Loc, Sequence, Table
from proxy.config.note import VALUE, Note, Wrong, quoted
from proxy.config.places import EVERYWHERE
from proxy.config.reliability_mistakes import reliability_mistakes
from proxy.config.report import note_of
from proxy.config.scalars import read_instant, read_weight
from proxy.config.service_mistakes import service_mistakes
from proxy.config.trust import check_pair
from proxy.config.walk import all_tables, entries_at, read_or_none, repeated, scalar, tables_at, text_at, texts_at
from proxy.config.whereabouts_mistakes import whereabouts_mistakes
from proxy.policy.countries import COUNTRIES, UNIONS, expand

_SHOWN = 5
# The sources whose homes a cookie may remember; as in proxy.identity.home_cookie.
_STRONGER = ("jwt", "client_certificate", "directory", "proxy_header")
T = TypeVar("T")


def mistakes_of(document: Document, folder: Path) -> list[Note]:
    """The mistakes of a file that no single value shows."""
    own = (_zones, _operators, _names, _law, _routes, _sources, _periods)
    checks = (*own, directory_mistakes, whereabouts_mistakes, reliability_mistakes)
    notes = [note for check in checks for note in check(document)]
    return notes + list(service_mistakes(document, folder)) + list(_pairs(document, folder))


def _zones(document: Document) -> Iterator[Note]:
    holders: dict[str, str] = {}
    everywhere: str | None = None
    for name, loc, _ in entries_at(document, ("zones",)):
        taken = _codes(text for _, text in texts_at(document, (*loc, "except")))
        held: set[str] = set()
        for at, text in texts_at(document, (*loc, "countries")):
            if text == EVERYWHERE:
                if everywhere is not None:
                    hint = f"zone {quoted(everywhere)} is one already"
                    yield document.note(at, "a second zone for whatever no other zone names", hint)
                everywhere = everywhere or name
                continue
            codes = _codes([text]) - taken
            held |= codes
            for holder, shared in _shared(codes, holders, name):
                what = f"{quoted(text)} is in zone {quoted(holder)} already"
                if text in UNIONS:
                    what = f"{quoted(text)} holds {_some(shared)}, in zone {quoted(holder)} already"
                yield document.note(at, what, "a country is in one zone; `except` takes countries out")
            holders.update((code, holders.get(code, name)) for code in codes)
        star = any(text == EVERYWHERE for _, text in texts_at(document, (*loc, "countries")))
        named = _codes(text for _, text in texts_at(document, (*loc, "countries")))
        if named and not held and not star:
            yield document.note((*loc, "except"), "`except` leaves the zone no country", "take fewer countries out")
        for at, text in texts_at(document, (*loc, "except")):
            if not star and named and not _codes([text]) <= named and _codes([text]):
                yield document.note(at, f"{quoted(text)} is not among the zone's countries", "remove it")


def _shared(codes: frozenset[str], holders: dict[str, str], name: str) -> Iterator[tuple[str, list[str]]]:
    by_holder: dict[str, list[str]] = {}
    for code in sorted(codes):
        if holders.get(code, name) != name:
            by_holder.setdefault(holders[code], []).append(code)
    yield from by_holder.items()


def _some(codes: list[str]) -> str:
    return ", ".join(codes[:_SHOWN]) + (f" and {len(codes) - _SHOWN} more" if len(codes) > _SHOWN else "")


def _codes(texts: Iterable[str]) -> frozenset[str]:
    return expand(text for text in texts if text in COUNTRIES or text in UNIONS)


def _operators(document: Document) -> Iterator[Note]:
    """One company, one spelling: a law that names the other spelling would miss it."""
    spelled: dict[str, str] = {}
    for _, loc, _ in entries_at(document, ("providers",)):
        text = text_at(document, (*loc, "operator"))
        if text is None:
            continue
        first = spelled.setdefault(" ".join(text.casefold().split()), text)
        if first != text:
            hint = "spell one company one way"
            suggestion = f"write {quoted(first)}"
            wrong = Wrong(f"{VALUE} is another operator's name in other letters", hint, suggestion=suggestion)
            yield note_of(wrong, document, (*loc, "operator"))


def _names(document: Document) -> Iterator[Note]:
    for section, key, noun in (
        ("rules", "name", "rule"),
        ("classes", "class", "class"),
        ("listeners", "name", "listener"),
    ):
        yield from repeated(document, [(*loc, key) for loc, _ in tables_at(document, (section,))], noun)
    yield from repeated(document, [at for at, _ in texts_at(document, ("subject", "actors"))], "actor")


def _law(document: Document) -> Iterator[Note]:
    for loc, rule in tables_at(document, ("rules",)):
        if not {"allow", "only", "forbid"} & rule.entries.keys():
            yield document.note(loc, "the rule does nothing", "give it `allow`, `only` or `forbid`")
    for loc, guarantee in tables_at(document, ("guarantees",)):
        both = {"only", "never"} & guarantee.entries.keys()
        if len(both) != 1:
            what = "the guarantee has both `only` and `never`" if both else "the guarantee promises nothing"
            yield document.note(loc, what, "write two guarantees" if both else "give it `only` or `never`")


def _routes(document: Document) -> Iterator[Note]:
    for loc, _ in tables_at(document, ("routes",)):
        listed = document.at((*loc, "prefer"))
        if not isinstance(listed, Sequence):
            if text_at(document, (*loc, "strict")) == "true":
                yield document.note((*loc, "strict"), "`strict` without `prefer` leaves no provider", "list some")
            continue
        tables = [item for item in listed.items if isinstance(item, Table)]
        weighted = [item for item in tables if "weight" in item.entries]
        if weighted and len(weighted) < len(listed.items):
            bare = next(i for i, item in enumerate(listed.items) if item not in weighted)
            what = "no weight here, but other providers of the route have one"
            yield document.note((*loc, "prefer", bare), what, "give all of them weights, or none")
        elif weighted:
            weights = [read_or_none(read_weight, scalar(item.entries["weight"].node)) for item in weighted]
            if None not in weights and not any(weights):
                yield document.note((*loc, "prefer"), "the weights add up to nothing", "give one of them more than 0")
        providers = [
            (*loc, "prefer", i, "provider") if isinstance(item, Table) else (*loc, "prefer", i)
            for i, item in enumerate(listed.items)
        ]
        yield from repeated(document, providers, "provider")


def _sources(document: Document) -> Iterator[Note]:
    for loc, source in tables_at(document, ("subject", "sources")):
        if len(source.entries) != 1:
            what = "one item, several sources" if source.entries else "the source is empty"
            yield document.note(loc, what, "write one item for each, such as `- jwt: {...}`")
        header: Loc = (*loc, "client_certificate", "from_header")
        if text_at(document, header) == "true" and document.at(("subject", "trusted_proxies")) is None:
            yield document.note(header, "`from_header` without `trusted_proxies` believes nobody", "name the proxy")
        fed = ("optional", "required")
        listeners = [text_at(document, (*at, "proxy_protocol")) for at, _ in tables_at(document, ("listeners",))]
        if "proxy_header" in source.entries and listeners and not any(text in fed for text in listeners):
            what = "no listener takes a PROXY header, and this source would never speak"
            hint = "say `proxy_protocol: required` where it comes"
            yield document.note((*loc, "proxy_header"), what, hint, key=True)
    kinds = [(loc, kind) for loc, source in tables_at(document, ("subject", "sources")) for kind in source.entries]
    cookies = [at for at, (_, kind) in enumerate(kinds) if kind == "home_cookie"]
    for at in cookies:
        loc = (*kinds[at][0], "home_cookie")
        if at != cookies[0]:
            yield document.note(loc, "a second `home_cookie`", "one device has one home", key=True)
        for _, kind in kinds[at + 1 :]:
            if kind in _STRONGER:
                what = f"`home_cookie` comes before `{kind}`"
                yield document.note(loc, what, "it never outranks a stronger source: put it behind", key=True)
                break
        if any(kind == "location" for _, kind in kinds[:at]):
            what = "`home_cookie` comes behind `location`"
            yield document.note(loc, what, "an address would answer first: put it before", key=True)
        if not any(kind in _STRONGER for _, kind in kinds):
            what = "`home_cookie` without a stronger source"
            yield document.note(loc, what, f"nothing would set it: add {', '.join(_STRONGER)}", key=True)


def _periods(document: Document) -> Iterator[Note]:
    for loc, table in all_tables(document.root, ()):
        if "from" in table.entries and "until" in table.entries:
            start = read_or_none(read_instant, scalar(table.entries["from"].node))
            end = read_or_none(read_instant, scalar(table.entries["until"].node))
            if start is not None and end is not None and start >= end:
                yield document.note((*loc, "until"), "`until` is not after `from`", "it would never be in force")


def _pairs(document: Document, folder: Path) -> Iterator[Note]:
    for loc, _ in tables_at(document, ("listeners",)):
        for at, pair in tables_at(document, (*loc, "tls", "certificates")):
            if {"certificate", "key"} <= pair.entries.keys():
                yield from _pair(document, folder, (*at, "certificate"), (*at, "key"))
    for _, loc, _ in entries_at(document, ("providers",)):
        tls = document.at((*loc, "tls"))
        if not isinstance(tls, Table):
            continue
        present = {"client_certificate", "client_key"} & tls.entries.keys()
        if len(present) == 1:
            (one,) = present
            missing = "client_key" if one == "client_certificate" else "client_certificate"
            what = f"{quoted(one)} without {quoted(missing)}"
            yield document.note((*loc, "tls", one), what, "they go together", key=True)
        elif present:
            yield from _pair(document, folder, (*loc, "tls", "client_certificate"), (*loc, "tls", "client_key"))


def _pair(document: Document, folder: Path, certificate: Loc, key: Loc) -> Iterator[Note]:
    texts = text_at(document, certificate), text_at(document, key)
    if None in texts:
        return
    try:
        check_pair(folder / str(texts[0]), folder / str(texts[1]))
    except Wrong as wrong:
        note = note_of(wrong, document, key)
        # What cannot be read at all was noted at its own place.
        if "not the key" in wrong.what or "OpenSSL" in wrong.what:
            yield note
