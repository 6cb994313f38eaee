"""Endpoints that are chosen among, with what each choice would otherwise make anew."""

from collections.abc import Sequence
from typing import Final, Generic

from proxy.providers.endpoint import EndpointState
from proxy.providers.health import Company
from proxy.providers.pool import C

READY: Final = 32
"""Of how many endpoints every order is kept ready: they take the square of it."""


class Row(Company, Generic[C]):
    """Endpoints as they are listed. loads: theirs, in the same order.

    orders: by its place, each endpoint and then the others in turn; empty where they are too many.
    """

    __slots__ = ("endpoints", "loads", "orders")

    def __init__(self, endpoints: tuple[EndpointState[C], ...]) -> None:
        super().__init__()
        self.endpoints = endpoints
        self.loads = [endpoint.health.load for endpoint in endpoints]
        for endpoint in endpoints:
            endpoint.health.join(self)
        self.orders = [turned(endpoints, place) for place in range(len(endpoints))] if len(endpoints) <= READY else []


def turned(endpoints: Sequence[EndpointState[C]], place: int) -> Sequence[EndpointState[C]]:
    """The one at this place, then the others in turn."""
    return (*endpoints[place:], *endpoints[:place])
