"""One policy's caps, shared out among workers that cannot see each other's connections.

The kernel spreads connections nearly evenly, and each worker holds to its own share: so a cap may be reached a little
before its number is. A cap smaller than the number of workers is one each; what is a rate is divided exactly.

What is kept on a store that all workers ask is nobody's share, but for the time when it cannot be asked. Shares of
traffic and times are the same for each.
"""

from dataclasses import replace

from proxy.policy.balance import RateLimit
from proxy.policy.policy import Policy
from proxy.policy.settings import Provider


def shared_out(policy: Policy, workers: int) -> Policy:
    """The policy as one of so many workers keeps it: what it may have of everything that is counted in one process."""
    if workers == 1:
        return policy
    overload, rates = policy.overload, policy.rates
    limits = tuple(_limit(each, workers) for each in rates.limits)
    return replace(
        policy,
        providers=tuple(_provider(each, workers) for each in policy.providers),
        limits=replace(policy.limits, connections=_share(policy.limits.connections, workers)),
        retries=replace(policy.retries, least=policy.retries.least / workers),
        rates=replace(rates, alone=limits) if rates.store else replace(rates, limits=limits),
        overload=replace(overload, least=_share(overload.least, workers), most=_share(overload.most, workers)),
    )


def _provider(provider: Provider, workers: int) -> Provider:
    cap, queue = provider.connections, provider.queue
    if cap is None:
        return provider  # so nobody ever waits
    return replace(
        provider,
        connections=_share(cap, workers),
        queue=None if queue is None else replace(queue, most=_share(queue.most, workers)),
    )


def _limit(limit: RateLimit, workers: int) -> RateLimit:
    return replace(limit, rate=limit.rate / workers, burst=_share(limit.burst, workers))


def _share(cap: int, workers: int) -> int:
    return -(-cap // workers)
