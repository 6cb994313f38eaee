"""The operator's preference among what the law permits. A route can limit and order; it never adds."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.policy.decision import Permit
from proxy.policy.facts import Facts
from proxy.policy.selectors import fits
from proxy.policy.settings import Provider

if TYPE_CHECKING:
    from proxy.policy.policy import Policy

_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Preferred:
    """The permitted providers, as the first matching route wants them.

    listed: those that the route's `prefer` lists, in its order; weights: their shares as written (they
    need not add up to anything), or None where the route is in order. rest: permitted and not listed, in
    the policy's order; to be tried last, fastest first. No route: nothing is listed, all are the rest.
    Both may be empty where the route's `only` or `strict` leaves nothing of the permit: nothing may be used.
    """

    listed: tuple[Provider, ...]
    weights: tuple[float, ...] | None
    rest: tuple[Provider, ...]


def preferred(policy: "Policy", permit: Permit, facts: Facts) -> Preferred:
    """How the route of these facts orders what this permit permits: never anything else."""
    decider = policy.decider
    place = decider.look(facts)[1]
    if place is None:
        return Preferred((), None, permit.providers)
    memo = decider.epoch(facts.time).preferred
    found = memo.get((permit, place))
    if found is None:
        if len(memo) >= _REMEMBERED:
            memo.clear()
        found = memo[permit, place] = _route(policy, permit, place, facts.time)
    return found


def _route(policy: "Policy", permit: Permit, place: int, time: float) -> Preferred:
    route = policy.routes[place]
    usable = [p for p in permit.providers if route.only is None or fits(route.only, p, time)]
    by_name = {provider.name: provider for provider in usable}
    listed = [(by_name[each.provider], each.weight) for each in route.prefer if each.provider in by_name]
    names = {provider.name for provider, _ in listed}
    weights = tuple(weight for _, weight in listed if weight is not None)
    return Preferred(
        listed=tuple(provider for provider, _ in listed),
        weights=weights if weights and len(weights) == len(listed) else None,
        rest=() if route.strict else tuple(p for p in usable if p.name not in names),
    )
