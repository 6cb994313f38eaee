"""Endpoints that are chosen among, with what each choice would otherwise make anew."""

from typing import Final, Generic

from proxy.providers.endpoint import EndpointState
from proxy.providers.health import Company
from proxy.providers.pool import C

READY: Final = 32
"""Of how many endpoints every order is kept ready: they take the square of it."""


class Row(Generic[C]):
    """Endpoints as they are listed. loads: theirs, in the same order. company: what knows of them all."""

    __slots__ = ("_orders", "company", "endpoints", "loads")

    def __init__(self, endpoints: tuple[EndpointState[C], ...]) -> None:
        self.endpoints = endpoints
        self.loads = [endpoint.health.load for endpoint in endpoints]
        self.company = Company()
        for endpoint in endpoints:
            endpoint.health.join(self.company)
        self._orders = [self._turned(place) for place in range(len(endpoints))] if len(endpoints) <= READY else []

    def from_place(self, place: int) -> tuple[EndpointState[C], ...]:
        """The one at this place, then the others in turn."""
        return self._orders[place] if self._orders else self._turned(place)

    def _turned(self, place: int) -> tuple[EndpointState[C], ...]:
        return (*self.endpoints[place:], *self.endpoints[:place])
