"""One decision in full: what every rule said, and why those that did not apply did not."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from proxy.policy.balance import RateLimit
from proxy.policy.decide import decide, rate_limits
from proxy.policy.decision import Permit, Reason, RuleSay
from proxy.policy.facts import UNKNOWN, Facts
from proxy.policy.matcher import KEYS, Matcher
from proxy.policy.routes import preferred
from proxy.policy.rules import Condition, Rule
from proxy.policy.words import moment

if TYPE_CHECKING:
    from proxy.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `decide` said, for people and for `--json`.

    outcome: `permit` or `denial`; reason: a denial's. permitted: provider names in the policy's order.
    laws, authority: a denial's. says: every rule's, in the policy's order. classes: those that are possible, sorted;
    data_class: the one, or `unknown` where there are several. route: the place of the first route that
    matches, None for none; order: the permitted providers in the order that the route gives them (without
    those that it leaves out), weights: the shares of the first ones, or None. until: when dates may change the answer.
    limits: those of rate that what is permitted has to pass.
    """

    outcome: str
    reason: Reason | None
    permitted: tuple[str, ...]
    laws: tuple[str, ...]
    authority: str | None
    says: tuple[RuleSay, ...]
    digest: str
    home: str
    data_class: str
    classes: tuple[str, ...]
    route: int | None
    order: tuple[str, ...]
    weights: tuple[float, ...] | None
    until: float | None
    limits: tuple[RateLimit, ...]


def explain(policy: "Policy", facts: Facts) -> Explanation:
    """The decision for these facts and all that led to it."""
    decision = decide(policy, facts)
    possible = policy.decider.match(facts).possible
    laws = zip(decision.says(), policy.rules, strict=True)
    says = tuple(say if say.applies else replace(say, why_not=_why_not(rule, facts, possible)) for say, rule in laws)
    permit = decision if isinstance(decision, Permit) else None
    denial = None if isinstance(decision, Permit) else decision
    order = preferred(policy, permit, facts) if permit else None
    return Explanation(
        outcome="permit" if permit else "denial",
        reason=denial.reason if denial else None,
        permitted=tuple(provider.name for provider in permit.providers) if permit else (),
        laws=denial.laws if denial else (),
        authority=denial.authority if denial else None,
        says=says,
        digest=decision.digest,
        home=decision.home,
        data_class=decision.data_class,
        classes=tuple(sorted(possible)),
        route=policy.decider.look(facts)[1] if permit else None,
        order=tuple(provider.name for provider in (*order.listed, *order.rest)) if order else (),
        weights=order.weights if order else None,
        until=decision.until,
        limits=rate_limits(policy, facts) if permit else (),
    )


def _why_not(rule: Rule, facts: Facts, possible: frozenset[str]) -> str:
    if rule.from_ is not None and facts.time < rule.from_:
        return f"in force from {moment(rule.from_)}"
    if rule.until is not None and facts.time >= rule.until:
        return f"in force until {moment(rule.until)}"
    for key in ("home", "country", "data_class", *KEYS[2:]):
        wanted = getattr(rule.when, key)
        if wanted is not None and not _may_match(key, wanted, facts, possible):
            return f"{_word(key)} is {_value(key, facts, possible)}, not {_list(wanted)}"
    return "its unless matches"


def _may_match(key: str, wanted: Any, facts: Facts, possible: frozenset[str]) -> bool:
    alone = Matcher([Condition(**{key: wanted})])
    return bool(alone.look(facts)[1] & alone.by_class(possible)[1])


def _word(key: str) -> str:
    return "class" if key == "data_class" else key


def _value(key: str, facts: Facts, possible: frozenset[str]) -> str:
    if key == "data_class":
        return " or ".join(sorted(possible))
    if key == "ech":
        return str(facts.ech).lower()
    if key == "method" and facts.upgrade:
        return f"{facts.method} with an upgrade"
    return str(getattr(facts, key))


_SHOWN = 6  # values of a list that a sentence can bear


def _list(wanted: Any) -> str:
    if isinstance(wanted, bool):
        return str(wanted).lower()
    names = sorted(map(str, wanted - {UNKNOWN})) + sorted(wanted & {UNKNOWN})
    more = len(names) - _SHOWN
    return " or ".join(names) if more <= 1 else f"{', '.join(names[:_SHOWN])} or {more} more"
