"""Everything that one loaded policy brings to a connection; the plane reads it once a connection."""

from dataclasses import dataclass
from typing import Any

from proxy.identity.client_address import CdnHeader
from proxy.identity.country import Countries
from proxy.identity.identify import Sources
from proxy.identity.networks import Networks
from proxy.policy.policy import Policy
from proxy.providers.fleet import Fleet
from proxy.providers.rates import UNLIMITED, RateLimits


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A policy, and what was opened for it, shared with the line of the HTTP plane: that one begins and closes it.

    cdn: the header that a CDN tells its client's address in. Here nothing reads one, so that behind a CDN that is
    believed the client has no address.
    """

    policy: Policy
    sources: Sources
    countries: Countries
    trusted: Networks
    fleet: Fleet[Any]
    cdn: CdnHeader | None = None
    rates: RateLimits = UNLIMITED
