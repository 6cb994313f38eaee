"""What a policy says of a provider's health, and of where it says that it is.

Durations are seconds. The figures are the defaults.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """An active check of each endpoint of a provider; a provider without one is judged by its traffic alone.

    kind: a GET, or no more than a connection (tcp) or a TLS handshake (tls). path, host, statuses, body: of a GET; host
    None is the endpoint's own, body a text that the answer's content has to hold.
    jitter: the share of the interval by which a check comes sooner or later, so that many proxies do not ask at once.
    healthy, unhealthy: how many results in a row change what is thought of the endpoint.
    A dead endpoint is out after at most unhealthy * interval * (1 + jitter) + timeout: 18.5 seconds as it stands.
    """

    kind: Literal["http", "tcp", "tls"] = "http"
    path: str = "/"
    host: str | None = None
    interval: float = 5.0
    jitter: float = 0.1
    timeout: float = 2.0
    healthy: int = 2
    unhealthy: int = 3
    statuses: frozenset[int] = frozenset(range(200, 300))
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Passive:
    """When a provider's traffic shows that it is sick; None never does.

    window: how far back outcomes count. samples: how many there have to be before a share or a median means anything.
    share: of failures among them; a half, because clients can ask for what a provider answers with a 500.
    consecutive: failures of the connection in a row (refused, too slow, cut off); a 5xx is an answer, not one of them.
    latency: how many times slower than the other providers of its zone. None: slow is better than nothing, providers of
    one zone may rightly be a continent apart, and subjects that stay with a provider would be moved from it.
    """

    window: float = 30.0
    samples: int = 20
    share: float | None = 0.5
    consecutive: int | None = 3
    latency: float | None = None


@dataclass(frozen=True, slots=True)
class Breaker:
    """For how long a sick provider is left alone, and how it comes back.

    open: after the first trip; each further one doubles it, up to `longest`; who stayed well for `longest` starts anew.
    trials: how many requests may try it in each `open` seconds once that is over; most of so many have to succeed.
    slow_start: how long its share of traffic takes to grow back; 0 is at once.
    """

    open: float = 5.0
    longest: float = 60.0
    trials: int = 3
    slow_start: float = 10.0


@dataclass(frozen=True, slots=True)
class Location:
    """A place on earth in degrees: north and east are positive."""

    lat: float
    lon: float
