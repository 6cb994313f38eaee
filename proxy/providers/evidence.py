"""Whether a provider can be where it says it is: what its checks show, held against its zone and its location.

- The country of each address has to be one of the zone's. A country that is not known shows nothing.
- Light in fibre goes about 200,000 km a second. An answer that came sooner than light goes there and back came from
  nearer by: the claimed distance is impossible. A late answer shows nothing, since any line can be slow; so the
  shortest of all round trips counts, and it can only accuse.
- Among the addresses that a name leads to, one in the wrong place is enough.

Pure. No text names an address.
"""

from dataclasses import dataclass
from math import asin, cos, radians, sin, sqrt
from typing import Final, Literal

from proxy.policy.health import Location

Verdict = Literal["ok", "unknown", "country-mismatch", "distance-impossible"]

FIBRE: Final = 200_000.0
"""Kilometres a second."""

EARTH: Final = 6371.0
"""Its mean radius in kilometres."""

SLACK: Final = 100.0
"""Kilometres by which a distance may be wrong: the size of a city, rounded coordinates, an earth that is no globe."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What checks of one endpoint showed until now.

    countries: of the addresses that answered, and of others that its name leads to outside its zone, where they are
    known. rtt: the shortest round trip in seconds.
    """

    countries: frozenset[str] = frozenset()
    rtt: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the evidence comes to. reason: one line for the operator."""

    verdict: Verdict
    reason: str

    @property
    def flagged(self) -> bool:
        """Whether the provider cannot be where it says it is."""
        return self.verdict in ("country-mismatch", "distance-impossible")

    def forbids(self, mode: Literal["record", "enforce"]) -> bool:
        """Whether the policy takes the provider out of service for it."""
        return self.flagged and mode == "enforce"


def judge(seen: Seen, zone: str, countries: frozenset[str], here: Location | None, there: Location | None) -> Judgement:
    """What the evidence comes to.

    zone, countries: the provider's zone and what it holds. here, there: the proxy's location and the provider's.
    """
    outside = sorted(seen.countries - countries)
    if outside:
        return Judgement("country-mismatch", f"is in {', '.join(outside)}, outside zone {zone}")
    if seen.rtt is not None and here is not None and there is not None:
        distance = great_circle(here, there)
        least = shortest_trip(distance)
        if seen.rtt < least:
            spent, needed = f"{seen.rtt * 1000:.1f} ms", f"{least * 1000:.1f} ms"
            return Judgement(
                "distance-impossible", f"answers within {spent}; light takes {needed} over {distance:,.0f} km and back"
            )
    if not seen.countries:
        return Judgement("unknown", "the country of its address is not known")
    return Judgement("ok", f"answers from {', '.join(sorted(seen.countries))}, inside zone {zone}")


def great_circle(a: Location, b: Location) -> float:
    """Kilometres between two places over the earth's surface (haversine: exact for near ones too)."""
    lat_a, lat_b = radians(a.lat), radians(b.lat)
    across = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin(radians(b.lon - a.lon) / 2) ** 2
    return 2 * EARTH * asin(sqrt(min(across, 1.0)))


def shortest_trip(distance: float) -> float:
    """Seconds that light in fibre takes over so many kilometres and back, the doubt about them given away."""
    return 2 * max(distance - SLACK, 0.0) / FIBRE
