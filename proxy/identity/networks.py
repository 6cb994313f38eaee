"""A set of networks that is asked for addresses on every request."""

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, collapse_addresses

from proxy.policy.facts import Address
from proxy.policy.rules import Network

_MAPPED = IPv6Network("::ffff:0:0/96")


class Networks:
    """Membership by one bisection, however many networks there are; mapped ones count as IPv4.

    A mapped network shorter than /96 holds more than IPv4 and stays IPv6: it matches no unmapped address.
    """

    __slots__ = ("_first4", "_first6", "_last4", "_last6")

    def __init__(self, networks: Iterable[Network]) -> None:
        four: list[IPv4Network] = []
        six: list[IPv6Network] = []
        for network in networks:
            if isinstance(network, IPv4Network):
                four.append(network)
            elif network.subnet_of(_MAPPED):
                inside = IPv4Address(int(network.network_address) & 0xFFFFFFFF)
                four.append(IPv4Network((inside, network.prefixlen - 96)))
            else:
                six.append(network)
        sorted4 = sorted(collapse_addresses(four))
        sorted6 = sorted(collapse_addresses(six))
        self._first4 = [int(network.network_address) for network in sorted4]
        self._last4 = [int(network.broadcast_address) for network in sorted4]
        self._first6 = [int(network.network_address) for network in sorted6]
        self._last6 = [int(network.broadcast_address) for network in sorted6]

    def __contains__(self, address: Address) -> bool:
        value = int(address)
        if type(address) is IPv4Address:
            first, last = self._first4, self._last4
        elif value >> 32 == 0xFFFF:
            value &= 0xFFFFFFFF
            first, last = self._first4, self._last4
        else:
            first, last = self._first6, self._last6
        index = bisect_right(first, value) - 1
        return index >= 0 and value <= last[index]

    def __bool__(self) -> bool:
        return bool(self._first4 or self._first6)
