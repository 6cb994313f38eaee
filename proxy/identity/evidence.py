"""Evidence: what a request shows of who it is for."""

from dataclasses import dataclass, field

from proxy.policy.facts import UNKNOWN, Address


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the sources may look at.

    fields: all header fields in order, names lower-cased, values stripped of white space. client: the
    client's address as `client_address` found it, None where there is none that can be believed. country:
    that address's country, upper-case ISO 3166-1 alpha-2 or `unknown`. host, path: a request's, in canonical
    form, path None where it has none; empty for what is passed on and has none. sni: the ClientHello's server
    name, None without one. client_certificate: DER, verified by the listener's CA. trusted: whether the peer is
    a trusted proxy. tlvs: types and values of the PROXY v2 header that a trusted proxy sent, in order.
    """

    fields: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    client: Address | None = field(default=None, repr=False)
    country: str = UNKNOWN
    host: str = ""
    path: str | None = field(default="", repr=False)
    sni: str | None = None
    client_certificate: bytes | None = field(default=None, repr=False)
    trusted: bool = False
    tlvs: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)
