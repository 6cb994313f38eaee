"""What the admin endpoints are told by the server, as values."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Crew:
    """Worker processes: how many live, and how many the policy wants."""

    living: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether this instance should be sent traffic.

    providers: each provider's state in a word (`healthy`, `down`), shown and never judged: one provider's outage
    must not take every instance out. workers: one that lives is enough.
    """

    policy_loaded: bool
    listeners_bound: bool
    draining: bool
    providers: Mapping[str, str]
    workers: Crew

    @property
    def ready(self) -> bool:
        return self.policy_loaded and self.listeners_bound and not self.draining and self.workers.living > 0


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """binds: where it is bound, ports as the kernel gave them. connections: clients now."""

    name: str
    protocol: str
    binds: tuple[str, ...]
    connections: int


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """One endpoint, `host:port`. state: what its breaker lets through, the worst of all workers; trips: how often it
    opened. evidence: what checks show of its place, rtt: the shortest round trip to it, in seconds; None without.
    """

    endpoint: str
    state: str
    trips: int
    evidence: str | None
    rtt: float | None


@dataclass(frozen=True, slots=True)
class Durations:
    """Quantiles in seconds, None before the first; counts: since the start, by bucket of Status.bounds, and one more.

    Of two answers, the differences of the counts give the quantiles of the time between them.
    """

    p50: float | None
    p99: float | None
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """state: a word, as in Readiness. connections: open to it, in use or idle. waiting: requests for one of them.

    requests, failed: of HTTP that ended, and those with a 5xx among them. passed: connections of tls and tcp listeners
    that ended. to_provider, to_client: bytes. These, and retries, are totals since the start.
    """

    name: str
    operator: str
    zone: str
    state: str
    connections: int
    waiting: int
    requests: int
    failed: int
    passed: int
    retries: int
    to_provider: int
    to_client: int
    first_byte: Durations
    endpoints: tuple[EndpointStatus, ...]


@dataclass(frozen=True, slots=True)
class ZoneStatus:
    """state: `healthy` if one of its providers is, `down` if none is, `empty` without any. providers: their names."""

    name: str
    state: str
    providers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadStatus:
    """What this instance bears. requests: HTTP requests that ended, those that reached no provider among them.

    denials: by reason. shed, rate_limited: turned away because there were too many, or by a limit of rate. under_way,
    limit: requests let in, and how many may be; 0 where nobody says. loop_lag: how late event loops come to a timer.
    """

    requests: int
    denials: Mapping[str, int]
    shed: int
    rate_limited: int
    under_way: int
    limit: int
    loop_lag: Durations


@dataclass(frozen=True, slots=True)
class Status:
    """What this instance is doing. uptime: seconds. digest: of the policy in force, None before the first.

    log_problem: why the access log cannot be written at present, None while it can. restarts: workers that died and
    were replaced. bounds: the upper ones of the buckets of all Durations, in seconds.
    """

    version: str
    digest: str | None
    uptime: float
    draining: bool
    connections: int
    listeners: tuple[ListenerStatus, ...]
    zones: tuple[ZoneStatus, ...]
    providers: tuple[ProviderStatus, ...]
    load: LoadStatus
    log_dropped: int
    log_problem: str | None
    workers: Crew
    restarts: int
    bounds: tuple[float, ...]
