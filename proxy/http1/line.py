"""Everything that one loaded policy brings to a request; the plane reads it once a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.http1.demands import Demands
from proxy.http1.provider import ProviderConnection
from proxy.identity.client_address import CdnHeader
from proxy.identity.country import Countries
from proxy.identity.identify import Sources
from proxy.identity.networks import Networks
from proxy.policy.policy import Policy
from proxy.providers.fleet import Fleet
from proxy.providers.rates import UNLIMITED, RateLimits


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A policy, and what was opened for it. Immutable: a reload makes another and swaps it in whole.

    demands: what TLS listeners demand of their clients, by the listener's name. cdn: the header that a CDN tells its
    client's address in, None where none is believed.
    """

    policy: Policy
    sources: Sources
    countries: Countries
    trusted: Networks
    fleet: Fleet[ProviderConnection]
    demands: Mapping[str, Demands] = field(default_factory=dict)
    cdn: CdnHeader | None = None
    rates: RateLimits = UNLIMITED
