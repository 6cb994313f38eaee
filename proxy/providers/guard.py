"""Which addresses a provider may be dialled at: the last word before a socket is opened, and again after.

- With `dial`: inside one of its networks, whatever the endpoint is called.
- Without: never an address that means this machine, its link, its cloud's metadata service, or many machines,
  unless the policy itself writes that very address as the endpoint's host.
- An address literal is dialled at that address and no other.
- `localhost` is a literal too: it means loopback (RFC 6761 section 6.3), and nothing but loopback.
- A plaintext endpoint whose provider does not say `plaintext: true` is dialled at loopback only.

An IPv6 address that carries an IPv4 address is judged as the IPv4 address that it reaches.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

from proxy.policy.facts import Address
from proxy.policy.rules import Network
from proxy.policy.settings import Endpoint, Provider

LOCALHOST = "localhost"

_NEVER: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # "this network": Linux connects 0.0.0.0 to loopback
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; metadata of AWS, Azure, Google, Oracle, ... at 169.254.169.254
        "100.100.100.200/32",  # metadata of Alibaba Cloud
        "168.63.129.16/32",  # Azure's virtual machine host
        "192.0.0.192/32",  # metadata of Oracle Cloud, first generation
        "224.0.0.0/4",  # multicast
        "255.255.255.255/32",
        "::/128",
        "::1/128",
        "fe80::/10",
        "fd00:ec2::/32",  # AWS's services for instances, metadata at fd00:ec2::254
        "fd20:ce::254/128",  # metadata of Google Cloud
        "ff00::/8",  # multicast
    )
)

# Where the last 32 bits are an IPv4 address: IPv4-compatible (RFC 4291 2.5.5.1), translated (RFC 2765),
# and NAT64's well-known and local-use prefixes (RFC 6052, RFC 8215).
_TAIL_IS_IPV4 = tuple(IPv6Network(text) for text in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/96"))

_SIX_TO_FOUR = IPv6Network("2002::/16")


@lru_cache(maxsize=1024)  # hosts of endpoints, asked for at every dial
def literal(host: str) -> Address | None:
    """The address that an endpoint's host is; None when it is a name."""
    try:
        return unmapped(ip_address(host))
    except ValueError:
        return None


def unmapped(address: Address) -> Address:
    """The IPv4 address inside an IPv4-mapped one (RFC 4291 section 2.5.5.2): the kernel dials that."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def admits(provider: Provider, endpoint: Endpoint, address: Address) -> bool:
    """Whether the provider may be dialled at the address. Addresses with an IPv6 scope never are."""
    address = unmapped(address)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    written = literal(endpoint.host)
    if written is not None and address != written:
        return False
    if endpoint.host == LOCALHOST and not address.is_loopback:
        return False
    if endpoint.scheme == "http" and not provider.plaintext and not address.is_loopback:
        return False
    if provider.dial:
        return any(address in network for network in provider.dial)
    return written is not None or endpoint.host == LOCALHOST or not _refused(address)


Answered = Literal["fresh", "remembered", "failed", "outside"]
"""What asking for a name came to: an answer, the last good one in its stead, none; or one that may not be dialled."""


class Admission:
    """What of a name's answers is admitted at one endpoint. It keeps the last: equal answers are judged once.

    admitted: of the last answers. changed: is told when these are others, before any of them is dialled.
    closed: evidence that is enforced speaks against one of them, so that only checks are admitted.
    answers: how often asking came to what, until somebody counts them; outside: answers of which something was refused.
    """

    __slots__ = ("_answers", "admitted", "answers", "changed", "closed")

    def __init__(self) -> None:
        self.answers: dict[Answered, int] = {"fresh": 0, "remembered": 0, "failed": 0, "outside": 0}
        self._answers: Sequence[Address] = ()
        self.admitted: tuple[Address, ...] = ()
        self.changed: Callable[[], None] | None = None
        self.closed = False

    def of(self, provider: Provider, endpoint: Endpoint, answers: Sequence[Address]) -> tuple[Address, ...]:
        """The addresses that may be dialled, IPv4-mapped ones unmapped. Of one provider's endpoint, always the same."""
        if answers != self._answers:
            self.admitted = tuple(unmapped(each) for each in answers if admits(provider, endpoint, each))
            self._answers = answers
            if self.changed is not None:
                self.changed()
        return self.admitted


def _refused(address: Address) -> bool:
    if any(address in network for network in _NEVER):
        return True
    if isinstance(address, IPv4Address):
        return False
    number = int(address)
    if any(address in network for network in _TAIL_IS_IPV4):
        return _refused(IPv4Address(number & 0xFFFFFFFF))
    if address in _SIX_TO_FOUR:
        return _refused(IPv4Address(number >> 80 & 0xFFFFFFFF))
    return False
