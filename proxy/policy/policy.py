"""The policy: one policy file, as one immutable value."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from proxy.policy.balance import Concurrency, Retries
from proxy.policy.decide import Decider
from proxy.policy.health import Location
from proxy.policy.rates import Rates
from proxy.policy.rules import DataClass, Guarantee, Route, Rule
from proxy.policy.settings import AUTO, Admin, GeoIP, Limits, Listener, Log, Provider, Timeouts, Workers, Zone
from proxy.policy.subject import Subject


@dataclass(frozen=True, eq=False)
class Policy:
    """All that a policy file says. `digest` is the SHA-256 of its bytes, as `sha256:` and hex.

    Names are checked: every zone, provider, class, listener and actor that is referred to exists. control: the Unix
    socket at which a new program finds this one; None where it is not to be found. location: where this proxy is.
    overload: how many requests the whole program has under way at once, all workers together.
    Compared by identity: two loads are two policies.
    """

    digest: str
    zones: tuple[Zone, ...]
    providers: tuple[Provider, ...]
    rules: tuple[Rule, ...]
    classes: tuple[DataClass, ...]
    routes: tuple[Route, ...]
    guarantees: tuple[Guarantee, ...]
    subject: Subject
    geoip: GeoIP
    listeners: tuple[Listener, ...]
    limits: Limits
    timeouts: Timeouts
    log: Log
    admin: Admin
    workers: Workers = AUTO
    control: Path | None = None
    location: Location | None = None
    retries: Retries = field(default_factory=Retries)
    rates: Rates = field(default_factory=Rates)
    overload: Concurrency = field(default_factory=Concurrency)

    @cached_property
    def decider(self) -> Decider:
        """The policy compiled for `decide`, on first use: some milliseconds for a thousand rules."""
        return Decider(self)
