"""Countries that the operator states for networks, whatever country data says of them."""

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Address

from proxy.policy.facts import Address
from proxy.policy.rules import Network
from proxy.policy.settings import CountryOverride

_Ranges = tuple[list[int], list[str | None]]


class Overrides:
    """The longest network that holds an address says its country; one bisection, however many there are."""

    __slots__ = ("_four", "_six")

    def __init__(self, overrides: Iterable[CountryOverride]) -> None:
        stated = {network: each.country for each in overrides for network in each.networks}
        self._four = _ranges((network, country) for network, country in stated.items() if network.version == 4)
        self._six = _ranges((network, country) for network, country in stated.items() if network.version == 6)

    def country(self, address: Address) -> str | None:
        """A code, `unknown`, or None where nothing is stated. address: no IPv4-mapped one."""
        starts, countries = self._four if type(address) is IPv4Address else self._six
        index = bisect_right(starts, int(address)) - 1
        return countries[index] if index >= 0 else None


def _ranges(stated: Iterable[tuple[Network, str]]) -> _Ranges:
    """Networks, which lie in each other or apart, as consecutive ranges: where each begins, and what holds there."""
    starts: list[int] = []
    countries: list[str | None] = []
    around: list[tuple[int, str]] = []

    def begin(at: int, country: str | None) -> None:
        if starts and starts[-1] == at:
            countries[-1] = country
        else:
            starts.append(at)
            countries.append(country)

    def leave(before: int) -> None:
        while around and around[-1][0] < before:
            end, _ = around.pop()
            begin(end + 1, around[-1][1] if around else None)

    for network, country in sorted(stated, key=lambda each: (int(each[0].network_address), each[0].prefixlen)):
        first, last = int(network.network_address), int(network.broadcast_address)
        leave(first)
        begin(first, country)
        around.append((last, country))
    leave(1 << 128)
    return starts, countries
