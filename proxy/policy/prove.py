"""Guarantees, proved for all facts at every moment from now on, or broken by facts that show it.

A guarantee applies wherever it may match. A proof that takes too long counts as broken: see Unproved.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.policy.decide import decide
from proxy.policy.decision import Permit
from proxy.policy.facts import Facts
from proxy.policy.search import Search
from proxy.policy.settings import Provider
from proxy.policy.space import TIME, Exhausted, Space, Steps
from proxy.policy.words import worded

if TYPE_CHECKING:
    from proxy.policy.policy import Policy

STEPS = 100_000
"""How many boxes a proof of one guarantee may look at; some seconds."""


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Facts that reach a provider which the guarantee of this place excludes; `decide` permits it for them.

    rules: the names of the rules that granted it. tested: the keys that the policy tests; the facts' other values
    are any.
    """

    guarantee: int
    facts: Facts
    provider: str
    rules: tuple[str, ...]
    tested: frozenset[str]

    def words(self) -> str:
        """One sentence for people."""
        laws = ", ".join(self.rules)
        return f"broken: provider {self.provider} is reached by {worded(self.facts, self.tested)}; let by {laws}"


@dataclass(frozen=True, slots=True)
class Unproved:
    """The proof of the guarantee of this place took more than its steps: it may hold, and is not known to."""

    guarantee: int

    def words(self) -> str:
        """One sentence for people."""
        return f"not proved within {STEPS} steps, and so taken as broken: simplify the rules or the guarantee"


def broken_guarantees(policy: "Policy", now: float) -> tuple[Counterexample | Unproved, ...]:
    """For each guarantee that does not surely hold from `now` on: what breaks it. Empty when all are proved."""
    selectors = [selector for each in policy.guarantees for selector in (each.only, each.never)]
    space = Space(policy, policy.guarantees, selectors, now)
    search = Search(space)
    found = (_broken(search, place) for place in range(len(policy.guarantees)))
    return tuple(each for each in found if each is not None)


def _broken(search: Search, place: int) -> Counterexample | Unproved | None:
    space = search.space
    guarantee = space.policy.guarantees[place]
    steps = Steps(STEPS)
    try:
        for provider in space.policy.providers:
            always = during = space.full[TIME]
            if guarantee.only is not None:
                during = always & ~space.fitting(guarantee.only, provider)
            if guarantee.never is not None:
                during &= space.fitting(guarantee.never, provider)
            for box in search.reached(place, provider, during, steps) if during else ():
                return _shown(space, place, space.facts(box), provider)
    except Exhausted:
        return Unproved(place)
    return None


def _shown(space: Space, place: int, facts: Facts, provider: Provider) -> Counterexample:
    decision = decide(space.policy, facts)
    # The search and `decide` are two readings of one text: where they differ, no proof is worth anything.
    if not isinstance(decision, Permit) or not decision.covers(provider):
        raise AssertionError(f"the proof and the decision differ for {facts}")
    rules = tuple(say.rule for say in decision.says() if provider.name in say.granted)
    return Counterexample(place, facts, provider.name, rules, frozenset(space.matcher.tests))
