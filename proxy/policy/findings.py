"""What is odd about a policy and does not stop it: homes without a provider, or without one that serves a listener,
conflicts, what is dead or expired.

Each is found over the same space of facts as guarantees are proved in, from `now` on; where a look takes too long,
nothing is said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.policy.decide import Conditional
from proxy.policy.facts import UNKNOWN
from proxy.policy.matcher import bits
from proxy.policy.rules import Condition, Guarantee, Route, Rule, Selector, Term
from proxy.policy.search import Search
from proxy.policy.space import TIME, Box, Exhausted, Space, Steps, meet, subtract
from proxy.policy.unserved import unserved
from proxy.policy.words import moment, worded

if TYPE_CHECKING:
    from proxy.policy.policy import Policy

_STEPS = 20_000  # boxes that one look may take
_PARTS = 1_000  # boxes that what is uncovered of a class or route may fall into before it counts as alive
_ANY: Selector = (Term(),)
_SIDES = ("allow", "only", "forbid")


@dataclass(frozen=True, slots=True)
class Finding:
    """loc: the path in the policy file, such as ("rules", 3, "allow"); what: one sentence for people."""

    loc: tuple[str | int, ...]
    what: str


def findings(policy: "Policy", now: float) -> tuple[Finding, ...]:
    """All that is odd about the policy from `now` on, in the file's order of parts."""
    return tuple(_Looking(policy, now).all())


class _Looking:
    def __init__(self, policy: "Policy", now: float) -> None:
        self.policy = policy
        self.now = now
        homes = [zone.name for zone in policy.zones]
        if any(rule.allow and rule.when.home is not None and UNKNOWN in rule.when.home for rule in policy.rules):
            homes.append(UNKNOWN)
        self.homes = homes
        # Places of interest to the search: the homes, then the routes.
        extra: list[Conditional] = [Guarantee(Condition(home=frozenset({home})), never=_ANY) for home in homes]
        extra += policy.routes
        self.space = Space(policy, extra, [route.only for route in policy.routes], now)
        self.search = Search(self.space)
        self.always = self.space.full[TIME]
        self._leaves_out: dict[int, dict[int, int]] = {}

    def all(self) -> Iterator[Finding]:
        yield from self._homes()
        yield from self._listeners()
        yield from self._classes()
        for i, rule in enumerate(self.policy.rules):
            yield from self._rule(i, rule)
        yield from self._conflicts()
        yield from self._routes()
        for i, guarantee in enumerate(self.policy.guarantees):
            yield from self._expired(("guarantees", i), guarantee.only, "only")
            yield from self._expired(("guarantees", i), guarantee.never, "never")
        yield from self._limits()

    # Homes

    def _homes(self) -> Iterator[Finding]:
        for place, home in enumerate(self.homes):
            loc = self._home_loc(home)
            try:
                granted = self.search.times(place, self.policy.providers, self.always, Steps(_STEPS))
            except Exhausted:
                continue
            if granted != self.always:
                since = self._since(self.always & ~granted)
                yield Finding(loc, f"{since}no provider is permitted for anything of home {home}")

    def _since(self, times: int) -> str:
        """The first of these times, in words; none if they are all."""
        if times == self.always:
            return ""
        first = self.space.times[(times & -times).bit_length() - 1]
        return "now, " if first == self.now else f"from {moment(first)}, "

    def _home_loc(self, home: str) -> tuple[str | int, ...]:
        if home != UNKNOWN:
            return ("zones", home)
        rules = enumerate(self.policy.rules)
        return ("rules", next(i for i, r in rules if r.allow and r.when.home is not None and UNKNOWN in r.when.home))

    # Listeners

    def _listeners(self) -> Iterator[Finding]:
        for each in unserved(self.search, self.homes, _STEPS):
            noun = "home" if len(each.homes) == 1 else "homes"
            what = (
                f"{self._since(each.times)}no endpoint of the providers that are permitted to {noun} "
                f"{', '.join(each.homes)} serves {self.policy.listeners[each.listener].protocol} listeners"
            )
            yield Finding(("listeners", each.listener), what)

    # Rules

    def _rule(self, i: int, rule: Rule) -> Iterator[Finding]:
        if rule.until is not None and rule.until <= self.now:
            yield Finding(("rules", i), f"rule {rule.name} expired on {moment(rule.until)}")
            return
        if rule.from_ is not None and rule.until is not None and rule.until <= rule.from_:
            yield Finding(("rules", i), f"rule {rule.name} is never in force: its until is not after its from")
            return
        for side in _SIDES:
            yield from self._expired(("rules", i), getattr(rule, side), side)
        try:
            dead = not any(True for root in self.space.roots() for _ in self._matching(root, i, Steps(_STEPS)))
        except Exhausted:
            dead = False
        if dead:
            empty = rule.unless is not None and rule.unless == Condition()
            why = "its unless is empty and always cancels it" if empty else "no facts pass its when and its unless"
            yield Finding(("rules", i), f"rule {rule.name} can never match: {why}")
        elif rule.allow is None and not self._excluded(rule):
            yield Finding(("rules", i), f"rule {rule.name} changes nothing: it leaves out and forbids no provider")

    def _excluded(self, rule: Rule) -> bool:
        """Whether the rule's only or forbid ever takes any provider away."""
        span = self.space.span(rule)
        for provider in self.policy.providers:
            taken = 0
            if rule.only is not None:
                taken |= self.always & ~self.space.fitting(rule.only, provider)
            if rule.forbid is not None:
                taken |= self.space.fitting(rule.forbid, provider)
            if taken & span:
                return True
        return False

    def _matching(self, box: Box, rule: int, steps: Steps) -> Iterator[Box]:
        """Parts of the box in which the rule is in force and may match."""
        return self._narrowing(box, rule, steps, self.space.span(self.policy.rules[rule]))

    def _narrowing(self, box: Box, rule: int, steps: Steps, times: int) -> Iterator[Box]:
        """Parts of the box, at these times, in which the rule may match."""
        space = self.space
        when, unless = space.rules_at + rule, space.rules_at + len(self.policy.rules) + rule
        base = meet(box, space.maybe(when))
        base = (*base[:TIME], base[TIME] & times)
        steps.take()
        if not all(base):
            return
        if not (space.tests_class(when) or space.tests_class(unless)):
            yield from subtract(base, space.surely(unless))
            return
        for part, possible in space.classified(base, steps):
            sure, maybe = space.by_class(possible)
            if maybe >> when & 1:
                yield from subtract(part, space.surely(unless)) if sure >> unless & 1 else [part]

    def _expired(self, loc: tuple[str | int, ...], selector: Selector | None, side: str) -> Iterator[Finding]:
        for term in selector or ():
            if term.until is not None and term.until <= self.now:
                yield Finding((*loc, side), f"a part of this {side} expired on {moment(term.until)} and fits nothing")

    # Conflicts

    def _conflicts(self) -> Iterator[Finding]:
        for place, home in enumerate(self.homes):
            try:
                found = self._conflict(place, Steps(_STEPS))
            except Exhausted:
                continue
            if found is not None:
                rules, box = found
                names = ", ".join(self.policy.rules[i].name for i in rules)
                facts = worded(self.space.facts(box), self.space.matcher.tests)
                what = f"conflict: together, {names} leave no provider to home {home}, as in {facts}"
                yield Finding(("rules", rules[0]), what)

    def _conflict(self, place: int, steps: Steps) -> tuple[list[int], Box] | None:
        """Rules that together leave nothing of what one grants, and a box in which they do."""
        space = self.space
        for rule, law in enumerate(self.policy.rules):
            if law.allow is None:
                continue
            fitting = [space.fitting(law.allow, provider) for provider in self.policy.providers]
            for root in space.roots():
                base = meet(meet(root, space.maybe(space.extra_at + place)), self.search.granting(rule))
                for i, times in enumerate(fitting):
                    granted = (*base[:TIME], base[TIME] & times & space.span(law))
                    if all(granted):
                        for box in self._granting(granted, rule, steps):
                            found = self._emptied(box, [rule], i, steps)
                            if found is not None:
                                return found
        return None

    def _granting(self, box: Box, rule: int, steps: Steps) -> Iterator[Box]:
        """Parts of the box, in which the rule's when matches but for the class, in which it grants."""
        space = self.space
        when, unless = space.rules_at + rule, space.rules_at + len(self.policy.rules) + rule
        if not (space.tests_class(when) or space.tests_class(unless)):
            yield from subtract(box, space.maybe(unless))
            return
        for part, possible in space.classified(box, steps):
            sure, maybe = space.by_class(possible)
            if sure >> when & 1:
                yield from subtract(part, space.maybe(unless)) if maybe >> unless & 1 else [part]

    def _emptied(self, box: Box, rules: list[int], provider: int, steps: Steps) -> tuple[list[int], Box] | None:
        """More rules that match somewhere in the box and leave out, with these, first this provider, then all."""
        leaving_out = self._leaving_out(provider)
        for rule in bits(self.search.touching(box)):
            for part in self._narrowing(box, rule, steps, leaving_out.get(rule, 0)):
                more = rules if rule in rules else [*rules, rule]
                left = self._left(part, more)
                if left is None:
                    return sorted(more), part
                found = self._emptied(part, more, left, steps)
                if found is not None:
                    return found
        return None

    def _left(self, box: Box, rules: Sequence[int]) -> int | None:
        """A provider that these rules do not leave out at the first time of the box."""
        now = box[TIME] & -box[TIME]
        for i in range(len(self.policy.providers)):
            leaving_out = self._leaving_out(i)
            if not any(leaving_out.get(rule, 0) & now for rule in rules):
                return i
        return None

    def _leaving_out(self, provider: int) -> dict[int, int]:
        """The rules whose allow or only leaves a provider out, and when."""
        found = self._leaves_out.get(provider)
        if found is None:
            found = self._leaves_out[provider] = {}
            for i, rule in enumerate(self.policy.rules):
                times = 0
                for selector in (rule.allow, rule.only):
                    if selector is not None:
                        times |= self.always & ~self.space.fitting(selector, self.policy.providers[provider])
                if times & self.space.span(rule):
                    found[i] = times & self.space.span(rule)
        return found

    # Classes and routes

    def _classes(self) -> Iterator[Finding]:
        for i, each in enumerate(self.policy.classes):
            left = [box for root in self.space.roots() for box in self._uncovered(root, 0, len(self.policy.classes), i)]
            if not left:
                yield Finding(("classes", i), f"class {each.name} can never match: {_why_not(i)}")

    def _uncovered(self, root: Box, whens: int, unlesses: int, place: int) -> list[Box]:
        """Parts of the root where this one of a first-match list may match, and none before it surely does.

        Of those before it only the ones without `unless` are looked at.
        """
        space = self.space
        left = _may_match(space, root, whens + place, unlesses + place)
        for earlier in range(place):
            if space.conditions[unlesses + earlier] is None and not space.tests_class(whens + earlier):
                left = [part for box in left for part in subtract(box, space.surely(whens + earlier))]
                if len(left) > _PARTS:
                    break
        return left

    def _routes(self) -> Iterator[Finding]:
        whens = self.space.extra_at + len(self.homes)
        unlesses = whens + len(self.homes) + len(self.policy.routes)
        for i, route in enumerate(self.policy.routes):
            yield from self._expired(("routes", i), route.only, "only")
            if not any(self._uncovered(root, whens, unlesses, i) for root in self.space.roots()):
                yield Finding(("routes", i), f"this route can never match: {_why_not(i)}")
                continue
            try:
                yield from self._route(i, route)
            except Exhausted:
                continue

    def _route(self, i: int, route: Route) -> Iterator[Finding]:
        steps = Steps(_STEPS)
        listed = {each.provider: place for place, each in enumerate(route.prefer)}
        used = False
        for provider in self.policy.providers:
            times = self.always if route.only is None else self.space.fitting(route.only, provider)
            if provider.name not in listed and (route.strict or used):
                continue
            reached = any(True for _ in self.search.reached(len(self.homes) + i, provider, times, steps))
            used = used or reached
            if not reached and provider.name in listed:
                what = f"provider {provider.name} is never permitted and left where this route matches"
                yield Finding(("routes", i, "prefer", listed[provider.name]), what)
        if not used:
            yield Finding(("routes", i), "this route leaves no provider of those that are permitted where it matches")

    # Limits of rate

    def _limits(self) -> Iterator[Finding]:
        limits = self.policy.rates.limits
        if not limits:
            return
        space = Space(self.policy, limits, (), self.now)
        for i, limit in enumerate(limits):
            when, unless = space.extra_at + i, space.extra_at + len(limits) + i
            if not any(_may_match(space, root, when, unless) for root in space.roots()):
                yield Finding(("rates", "limits", i), f"limit {limit.name} can never match: {_why_not(0)}")


def _may_match(space: Space, root: Box, when: int, unless: int) -> list[Box]:
    """Parts of the root where these conditions may match, whatever the class."""
    start = meet(root, space.maybe(when))
    if not all(start):
        return []
    return [start] if space.tests_class(unless) else list(subtract(start, space.surely(unless)))


def _why_not(place: int) -> str:
    return "earlier ones take all that it would match" if place else "no facts pass its when and its unless"
