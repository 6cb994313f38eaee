"""A door: one listener at run time, and what became of those who came to it."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from proxy.identity.networks import Networks
from proxy.policy.facts import Address
from proxy.policy.settings import Listener
from proxy.server.certificates import Certificates
from proxy.wire.proxy_header import Fields

_NOBODY = Networks(())


class Live(Protocol):
    """The gauge that the data plane keeps: how many connections of a listener it has."""

    count: int


class Caller(NamedTuple):
    """Who is at the other end: by its socket, or by a believed PROXY header. Not to be printed.

    peer: None on a Unix socket. destination, tlvs: what only such a header says, where it connected to and more.
    """

    peer: Address | None
    port: int = 0
    destination: tuple[Address, int] | None = None
    tlvs: Fields = ()

    def __repr__(self) -> str:
        return "Caller(...)"


@dataclass(slots=True)
class Counts:
    """Connections that never reached the data plane, by why. Only ever rise.

    turned_away: the listener had as many as it may. crowded_out: too many had sent no PROXY header or ClientHello
    yet. too_slow: not the whole of it by the deadline. proxy_untrusted: a PROXY header is required, and the peer is
    no trusted proxy. proxy_missing: it is, and sent none. proxy_malformed: one that cannot be believed. not_tls:
    something else than a ClientHello. handshake: the handshake failed or was not finished by the deadline.
    """

    turned_away: int = 0
    crowded_out: int = 0
    too_slow: int = 0
    proxy_untrusted: int = 0
    proxy_missing: int = 0
    proxy_malformed: int = 0
    not_tls: int = 0
    handshake: int = 0


@dataclass(slots=True)
class Opening:
    """What one load of the policy gives a door.

    certificates: None for plaintext, and for what is passed on. head: seconds for a PROXY header, for hello and
    handshake. most: how many connections at once. trusted: whose PROXY headers are believed.
    """

    listener: Listener
    certificates: Certificates | None
    head: float
    most: int
    trusted: Networks = _NOBODY


class Door:
    """One listener, by name: a reload changes its opening, its counts stay.

    pending: connections that are accepted and that the data plane does not have yet. One may be in both
    `pending` and `live` for a turn of the loop, none is ever in neither.
    """

    __slots__ = ("counts", "live", "opening", "pending")

    def __init__(self, opening: Opening, live: Live) -> None:
        self.opening = opening
        self.live = live
        self.pending = 0
        self.counts = Counts()

    def full(self) -> bool:
        return self.live.count + self.pending >= self.opening.most

    def passed_on(self) -> None:
        """One of the pending is the data plane's now, or gone."""
        self.pending -= 1
