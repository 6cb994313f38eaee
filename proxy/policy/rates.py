"""What a policy says of limits of rate: which there are, and where their buckets are kept."""

from dataclasses import dataclass
from pathlib import Path

from proxy.policy.balance import RateLimit
from proxy.policy.settings import Secret
from proxy.policy.subject import ValkeyStore


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits of rate; a request has to pass each that matches it.

    store: where all instances keep their buckets; None is each process by itself. secret: makes the store's keys name
    nobody; alike in all instances, or the file that holds it, and there wherever there is a store.
    alone: with a store and several processes, this process's share of each limit, for while the store cannot be asked;
    empty: all of it.
    """

    limits: tuple[RateLimit, ...] = ()
    store: ValkeyStore | None = None
    secret: Path | Secret | None = None
    alone: tuple[RateLimit, ...] = ()
