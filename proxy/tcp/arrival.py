"""What the accept stage knows of a connection when it hands it to the plane."""

from dataclasses import dataclass, field

from proxy.policy.facts import Address
from proxy.policy.settings import Listener
from proxy.wire.proxy_header import Fields


@dataclass(frozen=True, slots=True)
class Arrival:
    """One accepted connection. Of a tls listener the ClientHello was read, and still is in the socket.

    peer, port: the client's, as a believed PROXY header has them, else the socket's; IPv4-mapped addresses unmapped.
    None and 0 on a Unix socket. sni: the ClientHello's server name in canonical form, None where there was none.
    alpn, ech: the ClientHello's; ech None where none was read. destination: where the client connected to, by a
    believed PROXY header; None without one. tlvs: types and values of that header's fields.
    """

    listener: Listener
    peer: Address | None = field(repr=False)
    port: int = field(default=0, repr=False)
    sni: str | None = None
    alpn: tuple[bytes, ...] = ()
    ech: bool | None = None
    destination: tuple[Address, int] | None = field(default=None, repr=False)
    tlvs: Fields = field(default=(), repr=False)
