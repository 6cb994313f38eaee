"""The client's address, found behind the trusted proxies.

- A peer that is not trusted is the client, whatever its header says.
- Behind a trusted peer the chain is walked from the right, each hop vouching for the next, to the first
  address that is not trusted. What lies to the left of it was written by strangers and is not looked at.
- A hop that is not an address (malformed, obfuscated, `unknown`, missing) ends the walk with no address: the
  client's is not known, and the peer's is never taken for it.
- X-Forwarded-For and Forwarded (RFC 7239) must agree where both are present. The one that the proxy does not
  write is whatever the client sent: a lie can make the address unknown, and cannot choose it.
- When all hops are trusted, the leftmost is the client; a trusted peer that forwards for nobody is its own.
- A peer on a Unix socket is on this machine, and is believed as 127.0.0.1 is. It has no address of its own.
- A CDN's own header (`CdnHeader`) is believed where the walk, or the connection itself, comes to one of the CDN's
  addresses: it was the CDN that wrote it last. There it decides alone, and has to be one address.
"""

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from proxy.identity.addresses import parse_address, unmapped
from proxy.identity.networks import Networks
from proxy.policy.facts import Address
from proxy.policy.subject import ClientHeader

LONGEST_CHAIN = 32
"""How many trusted hops are walked before the chain counts as unreadable."""

LARGEST_FORWARDED = 4096
"""Bytes of Forwarded, all its lines together, that are read; more is unreadable."""

MOST_PARTS = 256
"""Parameters and elements of Forwarded that are read, strangers' included; more is unreadable."""

_LOOPBACK = IPv4Address("127.0.0.1")
_NONE = Networks(())

_OWS = b" \t"
_PORT = re.compile(rb"[0-9]{1,5}")

# RFC 7239 4: parameters of `token "=" ( token / quoted-string )`; RFC 9110 5.6.2, 5.6.4.
_PARAMETER = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)="
    rb'(?:([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)|"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*)")'
)
_GAP = re.compile(rb"[ \t]*([;,])[ \t]*")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
# RFC 7239 6: node = nodename [ ":" node-port ]; the port is 1*5DIGIT or obfuscated.
_NODE = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._\-]+))?")


def is_trusted(peer: Address | None, trusted: Networks) -> bool:
    """Whether the forwarding headers of this peer are believed; None is a peer on a Unix socket."""
    return bool(trusted) and (_LOOPBACK if peer is None else peer) in trusted


class CdnHeader:
    """A header that a CDN sets to its client's address. name: lower-cased. networks: the CDN's."""

    __slots__ = ("name", "networks")

    def __init__(self, stated: ClientHeader) -> None:
        self.name = stated.name.encode("ascii")
        self.networks = Networks(stated.networks)


@dataclass(frozen=True, slots=True)
class Client:
    """The client's address, IPv4-mapped ones unmapped; None when there is none that can be believed.

    by_cdn: whether the CDN's header is the CDN's own word here, readable or not.
    """

    address: Address | None = field(repr=False)
    by_cdn: bool = False


def client_address(peer: Address | None, fields: tuple[tuple[bytes, bytes], ...], trusted: Networks) -> Address | None:
    """The client's address where no CDN's header is believed."""
    return find_client(peer, fields, trusted, None).address


def find_client(
    peer: Address | None, fields: tuple[tuple[bytes, bytes], ...], trusted: Networks, cdn: CdnHeader | None
) -> Client:
    """The client behind a connection.

    peer: the other end of the connection (or the source that a believed PROXY header names), None on a Unix
    socket. fields: header fields in order, names lower-cased. cdn: the CDN's header, if one is believed of anybody.
    """
    if cdn is None:
        return Client(_walked(peer, fields, trusted, _NONE))
    if is_trusted(peer, cdn.networks):
        return Client(_told(fields, cdn), by_cdn=True)
    address = _walked(peer, fields, trusted, cdn.networks)
    if address is not None and address in cdn.networks:
        return Client(_told(fields, cdn), by_cdn=True)
    return Client(address)


def _told(fields: tuple[tuple[bytes, bytes], ...], cdn: CdnHeader) -> Address | None:
    values = [value for name, value in fields if name == cdn.name]
    address = parse_address(values[0]) if len(values) == 1 else None
    return None if address is None else unmapped(address)


def _walked(
    peer: Address | None, fields: tuple[tuple[bytes, bytes], ...], trusted: Networks, stop: Networks
) -> Address | None:
    """Where the walk ends. stop: networks at which it ends although they are trusted."""
    if not is_trusted(peer, trusted):
        return None if peer is None else unmapped(peer)
    listed = [value for name, value in fields if name == b"x-forwarded-for"]
    forwarded = [value for name, value in fields if name == b"forwarded"]
    if not listed and not forwarded:
        return None if peer is None else unmapped(peer)
    if not forwarded:
        return _first_stranger(_listed_hops(listed), trusted, stop)
    client = _first_stranger(_forwarded_hops(forwarded), trusted, stop)
    if listed and client is not None and _first_stranger(_listed_hops(listed), trusted, stop) != client:
        return None
    return client


def _first_stranger(hops: list[Address | None], trusted: Networks, stop: Networks) -> Address | None:
    """hops: nearest first, None for one that cannot be read."""
    for hop in hops:
        if hop is None or hop not in trusted or hop in stop:
            return hop
    return hops[-1] if hops and len(hops) <= LONGEST_CHAIN else None


def _listed_hops(values: list[bytes]) -> list[Address | None]:
    """The last hops of X-Forwarded-For, nearest first; one more than the longest chain tells that it is longer."""
    entries = b",".join(values).rsplit(b",", LONGEST_CHAIN + 1)
    entries.reverse()
    return [_listed_hop(entry.strip(_OWS)) for entry in entries[: LONGEST_CHAIN + 1]]


def _listed_hop(entry: bytes) -> Address | None:
    """An address, perhaps with a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`."""
    if entry[:1] == b"[":
        literal, bracket, port = entry[1:].partition(b"]")
        if not bracket or b":" not in literal or (port and not (port[:1] == b":" and _PORT.fullmatch(port, 1))):
            return None
    elif entry.count(b":") == 1:
        literal, _, port = entry.partition(b":")
        if not _PORT.fullmatch(port):
            return None
    else:
        literal = entry
    address = parse_address(literal)
    return None if address is None else unmapped(address)


def _forwarded_hops(values: list[bytes]) -> list[Address | None]:
    """The hops of Forwarded, nearest first. Malformed anywhere means that no hop can be read.

    An open quote of a stranger could otherwise swallow what a proxy appended.
    """
    text = b",".join(values)
    if len(text) > LARGEST_FORWARDED:
        return []
    hops: list[Address | None] = []
    names: set[bytes] = set()
    node: Address | None = None
    position, end = len(text) - len(text.lstrip(_OWS)), len(text.rstrip(_OWS))
    for _ in range(MOST_PARTS):
        parameter = _PARAMETER.match(text, position, end)
        if parameter is not None:
            name = parameter[1].lower()
            if name in names:  # RFC 7239 4: no parameter twice in an element
                return []
            names.add(name)
            if name == b"for":
                node = _node(parameter[2] if parameter[2] is not None else _ESCAPE.sub(rb"\1", parameter[3]))
            position = parameter.end()
        if position == end:
            hops.append(node)
            hops.reverse()
            return hops[: LONGEST_CHAIN + 1]
        gap = _GAP.match(text, position, end)
        if gap is None:
            return []
        if gap[1] == b",":
            hops.append(node)
            node = None
            names.clear()
        position = gap.end()
    return []


def _node(text: bytes) -> Address | None:
    match = _NODE.fullmatch(text)
    if match is None:  # `unknown`, an obfuscated identifier, or no node at all
        return None
    literal = match[2] if match[1] is None else match[1]
    if match[1] is not None and b":" not in literal:
        return None
    address = parse_address(literal)
    return None if address is None else unmapped(address)
