"""One policy's caps, shared out among workers that cannot see each other's connections.

The kernel spreads connections nearly evenly, and each worker holds to its own share: so a cap may be reached a little
before its number is. A cap smaller than the number of workers is one each.
"""

from dataclasses import replace

from proxy.policy.policy import Policy


def shared_out(policy: Policy, workers: int) -> Policy:
    """The policy as one of so many workers keeps it: caps on connections are its share, rounded up."""
    if workers == 1:
        return policy
    return replace(
        policy,
        providers=tuple(
            each if each.connections is None else replace(each, connections=_share(each.connections, workers))
            for each in policy.providers
        ),
        limits=replace(policy.limits, connections=_share(policy.limits.connections, workers)),
    )


def _share(cap: int, workers: int) -> int:
    return -(-cap // workers)
