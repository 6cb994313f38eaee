"""What only several values of a `directory` source together show. As in `whole`: the plain tree is read."""

from collections.abc import Callable, Iterator

from proxy.config.addresses import is_loopback
from proxy.config.directories import HTTP_PORTS, POSTGRES_PORTS, STORES, VALKEY_PORTS, read_address
from proxy.config.document import Document, Loc, Scalar, Sequence, Table
from proxy.config.note import VALUE, Note, Wrong, quoted
from proxy.config.report import note_of
from proxy.config.scalars import read_duration

_SOURCES = ("subject", "sources")
_PORTS = {"valkey": VALKEY_PORTS, "postgres": POSTGRES_PORTS, "http": HTTP_PORTS}
# Whom a key by this word is known from, as the policy calls that source.
_VERIFIERS = {"token": "jwt", "certificate": "client_certificate"}


def directory_mistakes(document: Document) -> Iterator[Note]:
    """The mistakes of all directories."""
    listed = document.at(_SOURCES)
    before: set[str] = set()
    for index, item in enumerate(listed.items if isinstance(listed, Sequence) else ()):
        kinds = set(item.entries) if isinstance(item, Table) else set()
        directory = document.at((*_SOURCES, index, "directory"))
        if isinstance(directory, Table):
            loc: Loc = (*_SOURCES, index, "directory")
            yield from _stores(document, loc, directory)
            yield from _key(document, loc, before)
            yield from _cache(document, loc)
        before |= kinds


def _stores(document: Document, loc: Loc, directory: Table) -> Iterator[Note]:
    named = [name for name in STORES if name in directory.entries]
    if len(named) != 1:
        what = "a directory has one store" if named else "the directory has no store"
        yield document.note(loc, what, f"give it one of {', '.join(STORES)}")
    for name in named:
        if name != "sqlite":
            yield from store_mistakes(document, (*loc, name), name, (*loc, name, "url"))


def store_mistakes(document: Document, loc: Loc, name: str, place: Loc) -> Iterator[Note]:
    """The mistakes of one store of this name that is asked over the network. place: where its URL stands."""
    url, password = document.at(place), document.at((*loc, "password"))
    if isinstance(url, Scalar) and not url.broken:
        try:
            address = read_address(url.text, _PORTS[name])
        except Wrong:
            address = None  # noted by the model
        if address is not None and not is_loopback(address.host) and _said(document, (*loc, "plaintext")) != "true":
            if address.scheme in ("redis", "valkey", "http"):
                hint = f"use {address.scheme}s://, or say `plaintext: true` if anybody on the way may read it"
                yield note_of(Wrong(f"{VALUE} is not encrypted", hint), document, place)
        elif address is not None and _contradicts(document, loc, name, address.scheme):
            what = "`plaintext: true` beside TLS"
            yield document.note((*loc, "plaintext"), what, "leave one of the two out", key=True)
    if isinstance(password, Scalar) and not password.broken and not password.from_environment:
        what = "the password stands in the file"
        yield document.note((*loc, "password"), what, "take it from the environment: ${NAME}")
    if name == "valkey" and document.at((*loc, "user")) is not None and password is None:
        yield document.note((*loc, "user"), "`user` without `password`", "they go together", key=True)


def _contradicts(document: Document, loc: Loc, name: str, scheme: str) -> bool:
    secure = document.at((*loc, "ca")) is not None if name == "postgres" else scheme in ("rediss", "valkeys", "https")
    return secure and _said(document, (*loc, "plaintext")) == "true"


def _key(document: Document, loc: Loc, before: set[str]) -> Iterator[Note]:
    key = document.at((*loc, "key"))
    if isinstance(key, Table):
        known = [name for name in ("header", "path", "host") if name in key.entries]
        if len(known) != 1 and key.entries.keys() <= {"header", "path", "host"}:
            what = "a directory has one key" if known else "the key is empty"
            yield document.note((*loc, "key"), what, "give it one of header, path, host")
        if "header" in known and document.at(("subject", "trusted_proxies")) is None:
            what = "nobody is trusted with this header"
            yield document.note((*loc, "key", "header"), what, "name the proxies that set it in `trusted_proxies`")
    elif isinstance(key, Scalar) and key.text in _VERIFIERS and _VERIFIERS[key.text] not in before:
        verifier = quoted(_VERIFIERS[key.text])
        yield document.note(
            (*loc, "key"), f"no source before this one gives a {key.text}", f"put a {verifier} source first"
        )


def _cache(document: Document, loc: Loc) -> Iterator[Note]:
    longest = _seconds(document, (*loc, "cache", "max_age"), 300.0)
    for name, default in (("refresh", 60.0), ("unknown", 30.0)):
        at = (*loc, "cache", name)
        seconds = _seconds(document, at, default)
        if longest is not None and seconds is not None and seconds > longest:
            place = at if document.at(at) is not None else (*loc, "cache", "max_age")
            yield document.note(place, f"`{name}` is more than `max_age`", f"it is {default:g}s unless you say less")


def _seconds(document: Document, loc: Loc, default: float) -> float | None:
    return _read(read_duration, _said(document, loc), default)


def _read(reader: Callable[[str], float], text: str | None, default: float) -> float | None:
    try:
        return default if text is None else reader(text)
    except Wrong:
        return None


def _said(document: Document, loc: Loc) -> str | None:
    node = document.at(loc)
    return node.text if isinstance(node, Scalar) and not node.broken else None
