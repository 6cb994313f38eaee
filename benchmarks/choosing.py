"""What health, choice and retry budget cost a request: processor time, for a provider of one and of more endpoints.

    python -m benchmarks.choosing

One request: the order of the endpoints, a try begun and counted in the provider's budget, its first byte and its whole
answer told. All endpoints are well; answers take 1 to 50 ms and come in turns, and time goes on by 0.1 ms a request.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import median
from time import process_time
from typing import Any

from benchmarks.budget import CHOOSING_ENDPOINTS
from benchmarks.decide import a_policy
from proxy.policy.policy import Policy
from proxy.policy.routes import Preferred
from proxy.policy.settings import Endpoint
from proxy.providers.choice import order
from proxy.providers.fleet import Fleet
from proxy.providers.names import Answer
from proxy.providers.resolve import Resolver

_STEP = 1e-4
_LATENCIES = tuple(step / 1000 for step in (1, 2, 3, 5, 8, 50))


@dataclass(frozen=True, slots=True)
class ChoosingCost:
    """Seconds of processor time a request, the median of the rounds."""

    endpoints: int
    request: float


def measure(sizes: Sequence[int] = CHOOSING_ENDPOINTS, requests: int = 20_000, rounds: int = 5) -> list[ChoosingCost]:
    """The cost for providers of so many endpoints."""
    return [ChoosingCost(size, _measure(size, requests, rounds)) for size in sizes]


def _measure(size: int, requests: int, rounds: int) -> float:
    policy = _a_policy(size)
    fleet: Fleet[Any] = Fleet.open(policy, Resolver(_nobody))
    preferred = Preferred((), None, policy.providers)
    moments = _moments()
    return median(_time(fleet, preferred, list(islice(moments, requests))) for _ in range(rounds))


def _time(fleet: Fleet[Any], preferred: Preferred, moments: Sequence[tuple[float, float]]) -> float:
    start = process_time()
    for now, latency in moments:
        place = order(preferred, fleet, b"subject", now)[0]
        tried = place.begin(now)
        assert tried is not None
        place.state.budget.request(now)
        tried.answered(latency, now)
        tried.completed(200, now)
    return (process_time() - start) / len(moments)


def _moments() -> Iterator[tuple[float, float]]:
    """When a request is, and how long it takes to be answered."""
    now = 1000.0
    for latency in cycle(_LATENCIES):
        now += _STEP
        yield now, latency


def _a_policy(size: int) -> Policy:
    policy = a_policy(10)
    endpoints = tuple(Endpoint("http", "127.0.0.1", 1024 + place) for place in range(size))
    return replace(policy, providers=(replace(policy.providers[0], endpoints=endpoints, plaintext=True),))


async def _nobody(name: str) -> Answer:
    raise AssertionError("no name is asked for")


def main() -> None:
    print("Microseconds of processor time a request")
    for cost in measure():
        print(f"{cost.endpoints:>3} endpoints {cost.request * 1e6:>6.2f}")


if __name__ == "__main__":
    main()
