"""What a policy says of choice, waiting, trying again and bounds of rate. Durations are seconds, sizes bytes.

None of it is law: each of these only orders, delays or refuses what the rules permit. The figures are the defaults.
"""

from dataclasses import dataclass
from typing import Final, Literal

from proxy.policy.rules import Condition

EVERYTHING: Final = Condition()


@dataclass(frozen=True, slots=True)
class Balance:
    """How one provider's traffic is shared among its endpoints that are healthy.

    peak_ewma: of two drawn by chance, the one that is expected to answer first. consistent_hash: a subject stays
    with its endpoint; bound: and no endpoint has more than so many times its part of what is under way (above 1).
    weights: the endpoints' own, in their order, each above 0; empty is all alike. round_robin does not look at them.
    """

    kind: Literal["peak_ewma", "round_robin", "least_connections", "weighted", "consistent_hash"] = "peak_ewma"
    weights: tuple[float, ...] = ()
    bound: float = 1.25


@dataclass(frozen=True, slots=True)
class Queue:
    """Who waits while a provider is at its connection cap. most: how many, 0 is nobody; longest: for how long."""

    most: int = 256
    longest: float = 3.0


@dataclass(frozen=True, slots=True)
class Retries:
    """When a request is tried again, never beyond its permit.

    share: retries to requests, over ten seconds; least: retries a second that are free even so. attempts: at most, the
    first among them; 1 is never again. replay: how much of a body is kept to be sent again.
    hedge: a read that has no answer after so long is asked elsewhere too; None is never.
    """

    share: float = 0.2
    least: float = 3.0
    attempts: int = 3
    replay: int = 65536
    hedge: float | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `rate` requests a second, after `burst` at once, of each subject or client network, of what matches.

    by subject: a request whose subject nobody verified counts for its network. prefix4, prefix6: how long a network's
    prefix is. keys: how many buckets are kept; the one used longest ago makes room.
    """

    name: str
    rate: float
    burst: int
    by: Literal["subject", "network"] = "subject"
    when: Condition = EVERYTHING
    unless: Condition | None = None
    prefix4: int = 32
    prefix6: int = 64
    keys: int = 100_000


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many requests one worker has under way at once; what is above is shed.

    adaptive: between `least` and `most` as latency tells; off, `most` alone counts. tolerance: how many times the
    unloaded latency the admitted may take.
    """

    adaptive: bool = True
    least: int = 16
    most: int = 10_000
    tolerance: float = 2.0
