"""What the accept stage knows of a connection when it hands it to the plane."""

from dataclasses import dataclass, field
from hashlib import sha256

from proxy.http1.demands import NOTHING, Demand
from proxy.policy.facts import Address
from proxy.policy.settings import Listener
from proxy.wire.proxy_header import Fields


@dataclass(frozen=True, slots=True)
class Arrival:
    """One accepted connection.

    peer: the socket's peer, IPv4-mapped addresses unmapped; None on a Unix socket. sni: the ClientHello's
    server name in canonical form, None where there was none. certificate: the index in
    listener.certificates of the one that serves. ech: whether the ClientHello carried the extension.
    demand: what it was held to in the handshake. client_certificate: the client's own, DER, verified by the
    demand's authorities; known after the handshake. tlvs: types and values of a believed PROXY header's fields.
    key: stands for all of it but the tlvs in a table of decisions.
    """

    listener: Listener
    peer: Address | None = field(repr=False)
    tls: bool = False
    sni: str | None = None
    certificate: int | None = None
    ech: bool = False
    client_certificate: bytes | None = field(default=None, repr=False)
    demand: Demand = NOTHING
    tlvs: Fields = field(default=(), repr=False)
    key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shown = "" if self.client_certificate is None else sha256(self.client_certificate).hexdigest()
        held = "" if self.demand is NOTHING else repr(self.demand)
        key = f"{self.listener.name} {self.peer} {self.tls} {self.sni} {self.ech} {shown} {held}"
        object.__setattr__(self, "key", key)
