"""Facts: everything that a decision may look at.

`home`, `country` and `actor` always have a value, if need be `unknown`. The others are None where the
connection cannot have them: a path on tcp, a host in a ClientHello without SNI, the address of a Unix
socket's peer. None is not a value: it is "not known", and what is not known never permits more.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

UNKNOWN = "unknown"
"""The home, country or actor that nobody could establish."""

UNCLASSIFIED = "unclassified"
"""The class of what no class rule matches."""

SUBJECT = "subject"
"""The actor who is the subject."""

NO_SOURCE = "none"
"""The `source` of a home that nobody gave."""

STATED = "stated"
"""The `source` of a home that the operator states."""

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""What `method: read` stands for, unless the request asks for an upgrade."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One request's or connection's facts, all in canonical form.

    time: seconds since the epoch (UTC).
    home: a zone's name, `unknown`, or the upper-case ISO code of a country that no zone holds.
    country: upper-case ISO 3166-1 alpha-2 code, or `unknown`.
    data_class: a class's name; None derives it from the policy's `classes`.
    host: lower case, no port, no trailing dot. path: canonical, without the query.
    method: as sent (`GET`); upgrade: whether the request asks for another protocol.
    source: the kind of source that gave the home, `stated`, or `none`.
    actor: `subject`, a kind of staff, or `unknown`. ech: whether the ClientHello carried the extension.
    """

    time: float
    home: str = UNKNOWN
    country: str = UNKNOWN
    data_class: str | None = None
    host: str | None = None
    path: str | None = None
    method: str | None = None
    upgrade: bool = False
    listener: str | None = None
    client: Address | None = None
    source: str | None = None
    actor: str = UNKNOWN
    ech: bool | None = None
