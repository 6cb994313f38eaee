"""What the law permits, for given facts.

Matching is three-valued. A fact that is None, and the country `unknown` where a test does not name `unknown`,
is not known. The home and the actor `unknown` are values like any other.

    a rule grants   if it is in force, its `when` surely matches and its `unless` surely does not
    a rule narrows  if it is in force, its `when` may match and its `unless` does not surely match

So what is not known never permits more. `allow` grants and narrows; `only` narrows; `forbid` takes. For the home
`unknown` only a rule whose `when.home` names `unknown` grants. Where it is not known whether a class matches,
the class is one of several: all that may match, up to and with the first that surely does.

Rules are bits (matcher.py). What follows from those that match is the Epoch's (epoch.py).
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from proxy.policy.balance import RateLimit
from proxy.policy.decision import Decision
from proxy.policy.epoch import Epoch, Look, Matches
from proxy.policy.facts import UNCLASSIFIED, Facts
from proxy.policy.matcher import Masks, Matcher, bits
from proxy.policy.rules import Condition
from proxy.policy.selectors import dates, selector_dates
from proxy.policy.subject import Directory

if TYPE_CHECKING:
    from proxy.policy.policy import Policy

# Bounds of what is remembered; at a bound all is forgotten. Facts of more than _LONG characters are not kept.
_LOOKS = 4096
_CLASSES = 1024
_EPOCHS = 8
_LONG = 256

NOT_YET = frozenset({"home", "source", "actor"})
"""What is not known when stated homes are looked at."""


def decide(policy: "Policy", facts: Facts) -> Decision:
    """What the policy permits for these facts: a pure function of the two."""
    return policy.decider.look(facts)[0]


def stated_home(policy: "Policy", facts: Facts) -> str | None:
    """The home that the operator states for these facts, None where nothing stated surely matches.

    Stated homes come before the sources: home, source and actor are not known yet, whatever `facts` says.
    """
    return policy.decider.stated_home(facts)


def rate_limits(policy: "Policy", facts: Facts) -> tuple[RateLimit, ...]:
    """The limits of rate that these facts have to pass, in the policy's order.

    A limit takes, as a forbid does: where it is not known whether it matches, it does.
    """
    return policy.decider.rate_limits(facts)


def looks_at_path(policy: "Policy") -> bool:
    """Whether any condition of the policy tests a path, or a source's key is in it."""
    return policy.decider.looks_at_path


def next_change(policy: "Policy", after: float) -> float | None:
    """The first `from` or `until` of a rule, a selector or a route that is later than `after`."""
    return next((date for date in policy.decider.dates if date > after), None)


class Conditional(Protocol):
    """What has a `when` and an `unless`."""

    @property
    def when(self) -> Condition: ...
    @property
    def unless(self) -> Condition | None: ...


class _Place(NamedTuple):
    """Where a group's conditions lie among a matcher's bits: each `when`, then each `unless`."""

    when: int
    unless: int
    mask: int

    @classmethod
    def after(cls, start: int, group: Sequence[object]) -> "_Place":
        return cls(start, start + len(group), (1 << len(group)) - 1)

    def split(self, sure: int, maybe: int) -> Masks:
        """Which of the group match: `when` surely and `unless` surely not; `when` maybe and `unless` not surely."""
        when, unless, mask = self
        return sure >> when & ~(maybe >> unless) & mask, maybe >> when & ~(sure >> unless) & mask


def conditions(*groups: Sequence[Conditional]) -> list[Condition | None]:
    """Group by group, each `when`, then each `unless`."""
    return [c for group in groups for c in (*(each.when for each in group), *(each.unless for each in group))]


def _first(mask: int) -> int | None:
    return (mask & -mask).bit_length() - 1 if mask else None


class Decider:
    """A policy, compiled: the tables behind `decide`. Kept by the policy; it holds no state but memos."""

    def __init__(self, policy: "Policy") -> None:
        self.policy = policy
        self.zones = frozenset(zone.name for zone in policy.zones)
        self.matcher = Matcher(conditions(policy.classes, policy.rules, policy.routes))
        self._rules = _Place.after(2 * len(policy.classes), policy.rules)
        self._routes = _Place.after(self._rules.unless + len(policy.rules), policy.routes)
        self._classes: dict[Masks, frozenset[str]] = {}
        self._unclassified = frozenset({UNCLASSIFIED})
        stated = policy.subject.stated
        self._stated = Matcher(conditions(policy.classes, stated), NOT_YET) if stated else None
        self._stated_at = _Place.after(2 * len(policy.classes), stated)
        limits = policy.rates.limits
        self._limits = Matcher(conditions(policy.classes, limits)) if limits else None
        self._limits_at = _Place.after(2 * len(policy.classes), limits)
        everything = conditions(policy.classes, policy.rules, policy.routes, policy.guarantees, stated, limits)
        self.looks_at_path = any(condition is not None and condition.path is not None for condition in everything)
        self.looks_at_path |= any(
            isinstance(source, Directory) and source.key.kind == "path" for source in policy.subject.sources
        )
        selectors = [s for rule in policy.rules for s in (rule.allow, rule.only, rule.forbid)]
        selectors += [route.only for route in policy.routes]
        self.dates = tuple(sorted({*dates(*policy.rules), *selector_dates(selectors)}))
        self._epochs: dict[int, Epoch] = {}
        self._epoch: Epoch | None = None
        # A repeated look is found by the facts that something tests, the client by its interval.
        names = {"home", "data_class", *self.matcher.tests} - {"client"}
        if "method" in names:
            names.add("upgrade")
        self._key: Callable[[Facts], tuple[object, ...]] = attrgetter(*sorted(names))

    def look(self, facts: Facts) -> Look:
        """The decision, and the place of the first route that matches."""
        epoch = self._epoch
        if epoch is None or not epoch.start <= facts.time < epoch.end:
            epoch = self.epoch(facts.time)
        key = self._key(facts)
        networks = self.matcher.networks
        if networks is not None:
            client = facts.client
            key = (key, None if client is None else networks.interval(client))
        found = epoch.looks.get(key)
        if found is None:
            matches = self.match(facts)
            found = epoch.outcome(facts.home, matches), matches.route
            if len(epoch.looks) >= _LOOKS:
                epoch.looks.clear()
            if len(facts.path or "") + len(facts.host or "") + len(facts.method or "") <= _LONG:
                epoch.looks[key] = found
        return found

    def match(self, facts: Facts) -> Matches:
        """What the facts match, whatever the date."""
        sure, maybe = self.matcher.look(facts)
        possible = self._possible(facts, sure, maybe, self.matcher)
        class_sure, class_maybe = self.matcher.by_class(possible)
        sure &= class_sure
        maybe &= class_maybe
        grants, narrows = self._rules.split(sure, maybe)
        route = None
        if self._routes.mask:
            route = _first(self._routes.split(sure, maybe)[0])
        return Matches(possible, grants, narrows, route)

    def stated_home(self, facts: Facts) -> str | None:
        if self._stated is None:
            return None
        first = _first(self._stated_at.split(*self._look(self._stated, facts))[0])
        return None if first is None else self.policy.subject.stated[first].home

    def rate_limits(self, facts: Facts) -> tuple[RateLimit, ...]:
        if self._limits is None:
            return ()
        may = self._limits_at.split(*self._look(self._limits, facts))[1]
        return tuple(self.policy.rates.limits[i] for i in bits(may))

    def _look(self, matcher: Matcher, facts: Facts) -> Masks:
        """What these facts match, the class too."""
        sure, maybe = matcher.look(facts)
        class_sure, class_maybe = matcher.by_class(self._possible(facts, sure, maybe, matcher))
        return sure & class_sure, maybe & class_maybe

    def _possible(self, facts: Facts, sure: int, maybe: int, matcher: Matcher) -> frozenset[str]:
        """The classes that these facts may have. The classes' conditions are the lowest bits of the masks."""
        if facts.data_class is not None:
            return frozenset({facts.data_class})
        classes = self.policy.classes
        if not classes:
            return self._unclassified
        # A class that tests the class asks for what is being worked out: not known.
        surely, may = _Place.after(0, classes).split(sure & ~matcher.tested["data_class"], maybe)
        found = self._classes.get((surely, may))
        if found is None:
            first = surely & -surely
            names = [classes[i].name for i in bits(may & (2 * first - 1) if first else may)]
            found = frozenset(names if first else [*names, UNCLASSIFIED])
            if len(self._classes) >= _CLASSES:
                self._classes.clear()
            self._classes[surely, may] = found
        return found

    def epoch(self, time: float) -> Epoch:
        """What is in force at this time."""
        place = bisect_right(self.dates, time)
        epoch = self._epochs.get(place)
        if epoch is None:
            if len(self._epochs) >= _EPOCHS:
                self._epochs.clear()
            start = self.dates[place - 1] if place else -inf
            end = self.dates[place] if place < len(self.dates) else inf
            epoch = self._epochs[place] = Epoch(self.policy, self.zones, start, end)
        self._epoch = epoch
        return epoch
