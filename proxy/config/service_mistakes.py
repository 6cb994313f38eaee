"""What only several values together show of providers and listeners: what neither can mean, and who serves whom.

As in `whole`: the plain tree is read.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path

from proxy.config.addresses import is_loopback, read_bind, read_endpoint, read_network, read_socket
from proxy.config.document import Document, Loc, Table
from proxy.config.note import VALUE, Note, Wrong, quoted
from proxy.config.reliability_mistakes import kind_of_checks
from proxy.config.report import note_of
from proxy.config.walk import entries_at, read_or_none, tables_at, text_at, texts_at
from proxy.policy.protocols import SCHEMES
from proxy.policy.rules import Network
from proxy.policy.settings import Endpoint, Protocol, TcpBind, UnixBind

_PROTOCOLS: dict[str, Protocol] = {"http": "http", "tls": "tls", "tcp": "tcp"}
_OF_REQUESTS: tuple[Loc, ...] = (("host",), ("headers",), ("plaintext",), ("timeouts", "first_byte"))
_SERVING = {"http": "https:// or http://", "tls": "tls:// or tcp://", "tcp": "tls:// or tcp://"}


def service_mistakes(document: Document, folder: Path) -> Iterator[Note]:
    """The mistakes of providers and listeners."""
    spoken = set(_protocols(document).values())
    schemes: set[str] | None = set()
    for name, loc, provider in entries_at(document, ("providers",)):
        yield from _endpoints(document, loc)
        yield from _headers(document, loc)
        found = _schemes(document, loc)
        if found:
            yield from _idle(document, name, loc, provider, found, spoken)
        schemes = None if schemes is None or not found else schemes | found
    if schemes:
        yield from _unserved(document, schemes)
    yield from _passed_on(document)
    yield from _binds(document, folder)


def _protocols(document: Document) -> dict[int, Protocol]:
    """What each listener speaks, by its place; those that say what no listener can are left out."""
    listed = [(loc[-1], text_at(document, (*loc, "protocol"))) for loc, _ in tables_at(document, ("listeners",))]
    named = ((place, "http" if text is None else text) for place, text in listed)
    return {int(place): _PROTOCOLS[text] for place, text in named if text in _PROTOCOLS}


def _schemes(document: Document, loc: Loc) -> set[str] | None:
    """The schemes of a provider's endpoints, None where one of them cannot be read."""
    found = [read_or_none(read_endpoint, text) for _, text in texts_at(document, (*loc, "endpoints"))]
    return None if None in found else {endpoint.scheme for endpoint in found if endpoint is not None}


def _endpoints(document: Document, loc: Loc) -> Iterator[Note]:
    seen: set[Endpoint] = set()
    networks = [read_or_none(read_network, text) for _, text in texts_at(document, (*loc, "dial"))]
    dial = [network for network in networks if network is not None]
    for at, text in texts_at(document, (*loc, "endpoints")):
        endpoint = read_or_none(read_endpoint, text)
        if endpoint is None:
            continue
        if endpoint in seen:
            yield note_of(Wrong(f"{VALUE} is listed twice", "remove one"), document, at)
        seen.add(endpoint)
        plain = endpoint.scheme == "http" and not is_loopback(endpoint.host)
        if plain and text_at(document, (*loc, "plaintext")) != "true":
            hint = "use https://, or say `plaintext: true` if anybody on the way may read it"
            yield note_of(Wrong(f"{VALUE} is not encrypted", hint), document, at)
        if dial == networks and dial and not _within(endpoint.host, dial):
            yield note_of(Wrong(f"{VALUE} is outside of `dial`", "it could never be reached"), document, at)


def _within(host: str, networks: Iterable[Network]) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return True
    return any(address in network for network in networks)


def _headers(document: Document, loc: Loc) -> Iterator[Note]:
    fields: dict[str, str] = {}
    for field, at, _ in entries_at(document, (*loc, "headers"), scalars=True):
        if (twin := field.lower().replace("_", "-")) in fields:
            what = f"header {quoted(field)} is the same as {quoted(fields[twin])}"
            yield document.note(at, what, "case and underscores make no difference to providers", key=True)
        fields.setdefault(twin, field)


def _idle(
    document: Document, name: str, loc: Loc, provider: Table, schemes: set[str], spoken: set[Protocol]
) -> Iterator[Note]:
    """What would do nothing with endpoints of these schemes, or cannot be done."""
    if "tls" in provider.entries and not schemes & {"https", "tls"}:
        what = f"provider {quoted(name)} has no https:// or tls:// endpoint"
        yield document.note((*loc, "tls"), what, "`tls` would do nothing: leave it out", key=True)
    elif (
        "tls" in provider.entries
        and "https" not in schemes
        and spoken
        and "tcp" not in spoken
        and kind_of_checks(document, loc) != "tls"  # whose handshakes go by it
    ):
        what = f"no tcp listener reaches the tls:// endpoints of provider {quoted(name)}"
        hint = "tls listeners pass on the client's own TLS, and `tls` would do nothing: leave it out"
        yield document.note((*loc, "tls"), what, hint, key=True)
    sent: Loc = (*loc, "send_proxy")
    if schemes & SCHEMES["http"] and text_at(document, sent) in ("v1", "v2"):
        what = f"{VALUE} beside an {'https' if 'https' in schemes else 'http'}:// endpoint"
        hint = "its connections serve many clients: give the tls:// and tcp:// endpoints a provider of their own"
        yield note_of(Wrong(what, hint), document, sent)
    if not schemes & SCHEMES["http"]:
        for key in _OF_REQUESTS:
            if document.at((*loc, *key)) is not None:
                what = f"provider {quoted(name)} has no https:// or http:// endpoint"
                hint = f"what is passed on to tls:// and tcp:// has no requests: leave {quoted(str(key[-1]))} out"
                yield document.note((*loc, *key), what, hint, key=True)


def _unserved(document: Document, schemes: set[str]) -> Iterator[Note]:
    for place, protocol in _protocols(document).items():
        if not schemes & SCHEMES[protocol]:
            said: Loc = ("listeners", place, "protocol")
            what = f"no provider has an endpoint that serves {protocol} listeners"
            hint = f"give one an endpoint {_SERVING[protocol]}"
            yield document.note(said if document.at(said) is not None else said[:-1], what, hint)


def _passed_on(document: Document) -> Iterator[Note]:
    for place, protocol in _protocols(document).items():
        at: Loc = ("listeners", place, "tls")
        if protocol != "http" and document.at(at) is not None:
            what = f"a {protocol} listener decrypts nothing"
            yield document.note(at, what, "leave `tls` out, or say `protocol: http`", key=True)


def _binds(document: Document, folder: Path) -> Iterator[Note]:
    listeners = [at for loc, _ in tables_at(document, ("listeners",)) for at, _ in texts_at(document, (*loc, "bind"))]
    binds = [*listeners, *(at for at, _ in texts_at(document, ("admin", "bind")))]
    found = [(at, read_or_none(lambda text: read_bind(text, folder), text_at(document, at))) for at in binds]
    control = read_or_none(lambda text: read_socket(text, folder), text_at(document, ("control",)))
    if control is not None:
        found.append((("control",), UnixBind(control)))
    first: dict[object, int] = {}
    for loc, bind in found:
        node = document.at(loc)
        if bind is None or node is None or (isinstance(bind, TcpBind) and bind.port == 0):
            continue
        if bind in first:
            yield note_of(Wrong(f"{VALUE} is bound twice", f"line {first[bind]} has it already"), document, loc)
        first.setdefault(bind, node.place[0])
