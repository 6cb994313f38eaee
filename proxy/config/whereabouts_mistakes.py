"""What only several values together show of where clients are. As in `whole`: the plain tree is read."""

from collections.abc import Iterator
from os.path import normpath

from proxy.config.addresses import read_network
from proxy.config.document import Document, Loc, Scalar, Sequence, Table
from proxy.config.geoip import REGISTRY
from proxy.config.note import VALUE, Note, Wrong, quoted
from proxy.config.report import note_of


def whereabouts_mistakes(document: Document) -> Iterator[Note]:
    """The mistakes of country data and of PROXY headers."""
    geoip = document.at(("geoip",))
    if isinstance(geoip, Table):
        yield from _databases(document, geoip)
        yield from _overrides(document)
    listeners = document.at(("listeners",))
    for index in range(len(listeners.items) if isinstance(listeners, Sequence) else 0):
        yield from _proxy_header(document, ("listeners", index, "proxy_protocol"))


def _databases(document: Document, geoip: Table) -> Iterator[Note]:
    if {"database", "databases"} <= geoip.entries.keys():
        what = "both `database` and `databases`"
        yield document.note(("geoip", "database"), what, "list it among `databases`", key=True)
    several = ("geoip", "databases")
    listed = [(at, text) for loc in (("geoip", "database"), several) for at, text in _texts(document, loc)]
    first: dict[str, int] = {}
    for at, text in listed:
        node = document.at(at)
        name = text if text == REGISTRY else normpath(text)
        if name in first and node is not None:
            wrong = Wrong(f"{VALUE} is listed twice", "a second opinion has to come from elsewhere")
            yield note_of(wrong, document, at)
        elif node is not None:
            first[name] = node.place[0]
    if "agree" in geoip.entries and len(list(_texts(document, several))) < 2:
        yield document.note(
            ("geoip", "agree"), "`agree` without several databases does nothing", "leave it out", key=True
        )
    if "max_age" in geoip.entries and all(text == REGISTRY for _, text in listed):
        what = "`max_age` without a database file does nothing"
        yield document.note(("geoip", "max_age"), what, "the embedded data carries no date: leave it out", key=True)


def _overrides(document: Document) -> Iterator[Note]:
    listed = document.at(("geoip", "overrides"))
    first: dict[object, int] = {}
    for index in range(len(listed.items) if isinstance(listed, Sequence) else 0):
        for at, text in _texts(document, ("geoip", "overrides", index, "network")):
            node = document.at(at)
            try:
                network = read_network(text)
            except Wrong:
                continue  # noted by the model
            if node is None:
                continue
            if network in first:
                wrong = Wrong(f"{VALUE} is overridden twice", f"line {first[network]} has it already")
                yield note_of(wrong, document, at)
            first.setdefault(network, node.place[0])


def _proxy_header(document: Document, loc: Loc) -> Iterator[Note]:
    for _, text in _texts(document, loc):
        if text in ("optional", "required") and document.at(("subject", "trusted_proxies")) is None:
            what = f"{quoted(text)}, and no proxy is trusted to send a PROXY header"
            hint = "list the networks of those in front in `subject.trusted_proxies`"
            yield document.note(loc, what, hint)


def _texts(document: Document, loc: Loc) -> Iterator[tuple[Loc, str]]:
    """Text that is one value or a list of them, each with its path."""
    node = document.at(loc)
    if isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            if isinstance(item, Scalar) and not item.broken:
                yield (*loc, index), item.text
    elif isinstance(node, Scalar) and not node.broken:
        yield loc, node.text
