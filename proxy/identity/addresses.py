"""Address literals, read one way only."""

from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, inet_pton

from proxy.policy.facts import Address

_LONGEST = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")


def parse_address(text: bytes) -> Address | None:
    """The address that `text` writes, exactly: a dotted quad or RFC 4291 2.2, else None.

    No leading zeros in a quad, no zone identifier, no brackets, port or white space. An IPv4-mapped address
    stays as it is written.
    """
    if len(text) > _LONGEST:
        return None
    try:
        literal = text.decode("ascii")
        if ":" in literal:
            return IPv6Address(inet_pton(AF_INET6, literal))
        return IPv4Address(inet_pton(AF_INET, literal))
    except (OSError, ValueError):
        return None


def unmapped(address: Address) -> Address:
    """The IPv4 address inside an IPv4-mapped IPv6 one (RFC 4291 2.5.5.2), any other as it is.

    No other embedding is undone: 6to4, Teredo and NAT64 addresses are what anyone can write.
    """
    if type(address) is IPv6Address:
        value = int(address)
        if value >> 32 == 0xFFFF:
            return IPv4Address(value & 0xFFFFFFFF)
    return address
