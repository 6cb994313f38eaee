"""All facts that connections can bring, as a finite space: what is proved is proved over this.

For each key the values fall into classes that no condition of the policy can tell apart; one value stands for each.
The values of a key are an axis, and a Box is a set of values on every axis (a product of bit sets, the last
axis being time: the spans between the policy's dates, from `now` on). The values that a condition surely matches,
and those that it may match, are boxes too, but for its test of the class: the class is no axis, for it follows from the
other facts; `classified` cuts a box into boxes that each have one set of possible classes.

No relation between keys is assumed, whatever experience says of homes and countries, but for the one that a listener
has with its protocol: a fact is None only where a connection of the protocol can lack it, and has no value that a
connection of the protocol cannot have (protocols.py).
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import product
from typing import TYPE_CHECKING, Any

from proxy.policy.countries import COUNTRIES
from proxy.policy.decide import Conditional, conditions
from proxy.policy.facts import NO_SOURCE, STATED, SUBJECT, UNCLASSIFIED, UNKNOWN, Facts
from proxy.policy.matcher import KEYS, MAPPED, MAPPED_END, Masks, Matcher
from proxy.policy.protocols import ALWAYS, NEVER, SOURCE_KINDS, SOURCES
from proxy.policy.rules import Rule, Selector, Term
from proxy.policy.selectors import dates, describes, selector_dates
from proxy.policy.settings import Listener, Protocol, Provider

if TYPE_CHECKING:
    from proxy.policy.policy import Policy

Box = tuple[int, ...]
"""For each axis of KEYS, then for time: the values in the box, as bits. Empty if any axis is."""

TIME = len(KEYS)


class Exhausted(Exception):
    """The search took more steps than it may: nothing is known of what it looked for. Nobody's fault."""


@dataclass(slots=True)
class Steps:
    """How many more steps a search may take."""

    left: int

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Exhausted


@dataclass(frozen=True, slots=True)
class Value:
    """One value of an axis: what it sets in Facts, and which conditions it matches."""

    facts: dict[str, Any]
    sure: int
    maybe: int


class Space:
    """The space of a policy's facts from `now` on. `extra` are conditions of interest besides classes and rules."""

    def __init__(
        self, policy: "Policy", extra: Sequence[Conditional], selectors: Iterable[Selector | None], now: float
    ):
        self.policy = policy
        self.rules_at = 2 * len(policy.classes)
        self.extra_at = self.rules_at + 2 * len(policy.rules)
        self.extra = extra
        self.conditions = conditions(policy.classes, policy.rules, extra)
        self.matcher = Matcher(self.conditions)
        protocols: set[Protocol] = {listener.protocol for listener in policy.listeners} or {"http"}
        self.protocols = sorted(protocols)
        self.axes = tuple(self._axis(key) for key in KEYS)
        spoken = [s for rule in policy.rules for s in (rule.allow, rule.only, rule.forbid)]
        later = sorted({d for d in (*dates(*policy.rules), *selector_dates([*spoken, *selectors])) if d > now})
        self.times: tuple[float, ...] = (now, *later)
        self.full: Box = (*((1 << len(axis)) - 1 for axis in self.axes), (1 << len(self.times)) - 1)
        self._sure: dict[int, Box] = {}
        self._maybe: dict[int, Box] = {}

    def roots(self) -> list[Box]:
        """For each protocol in use, what its connections can bring."""
        return [self._root(protocol) for protocol in self.protocols]

    def of_listener(self, listener: Listener) -> Box:
        """What its connections can bring."""
        root, at = self._root(listener.protocol), KEYS.index("listener")
        own = sum(1 << i for i, value in enumerate(self.axes[at]) if value.facts["listener"] == listener.name)
        return (*root[:at], root[at] & own, *root[at + 1 :])

    def _root(self, protocol: Protocol) -> Box:
        box = list(self.full)
        for i, (key, axis) in enumerate(zip(KEYS, self.axes, strict=True)):
            for place, value in enumerate(axis):
                if not self._brings(protocol, key, value.facts[key]):
                    box[i] &= ~(1 << place)
        return tuple(box)

    def _brings(self, protocol: Protocol, key: str, value: object) -> bool:
        """Whether connections of the protocol can have this value of a key."""
        if value is None:
            return key not in ALWAYS[protocol]
        if key == "listener" and self.policy.listeners:
            return any(each.name == value and each.protocol == protocol for each in self.policy.listeners)
        return key not in NEVER[protocol] and (key != "source" or value in SOURCES[protocol])

    def _axis(self, key: str) -> tuple[Value, ...]:
        named = [getattr(c, key) for c in self.conditions if c is not None and getattr(c, key) is not None]
        names = {True, False} if key == "ech" else {value for wanted in named for value in wanted}
        test = self.matcher.tests.get(key)
        found: dict[object, Value] = {}
        for facts in self._candidates(key, names):
            value = facts[key]
            brought = tuple(self._brings(protocol, key, value) for protocol in self.protocols)
            if not any(brought):
                continue
            sure, maybe = test(Facts(0.0, **facts)) if test else (self.matcher.all, self.matcher.all)
            # Values that nothing tells apart are one. Homes stay apart, for what they grant differs, and listeners.
            alike = (sure, maybe, value if key in ("home", "listener") else None, brought)
            found.setdefault(alike, Value(facts, sure, maybe))
        return tuple(found.values())

    def _candidates(self, key: str, names: set[Any]) -> list[dict[str, Any]]:
        """Values such that every class of values that the conditions tell apart has one among them."""
        if key == "method":
            methods = [
                "GET",
                "POST",
                "HEAD",
                "OPTIONS",
                "PUT",
                *sorted(names - {"read", "write"}),
                _fresh("OTHER", names),
            ]
            found = [{"method": m, "upgrade": upgrade} for upgrade, m in product((False, True), methods)]
            return [*found, {"method": None, "upgrade": False}]
        values: list[Any] = getattr(self, f"_{key}_values")(names)
        return [*({key: value} for value in values), {key: None}]

    def _home_values(self, names: set[str]) -> list[str]:
        # A home in no zone is always denied.
        return [*(zone.name for zone in self.policy.zones), UNKNOWN]

    def _country_values(self, names: set[str]) -> list[str]:
        # XK is what databases say of Kosovo; it stands for all that is no ISO code.
        return [*sorted(names & COUNTRIES), *sorted(COUNTRIES), "XK", UNKNOWN]

    def _host_values(self, names: set[str]) -> list[str]:
        label = _fresh("any", {part for name in names for part in name.split(".")})
        below = [label + name[1:] for name in sorted(names) if name.startswith("*.")]
        return ["host.example", *sorted(name for name in names if not name.startswith("*.")), *below, label]

    def _path_values(self, names: set[str]) -> list[str]:
        label = _fresh("any", {part for name in names for part in name.split("/")})
        below = [name[:-1] + label for name in sorted(names) if name.endswith("/*")]
        return ["/", *sorted(name for name in names if not name.endswith("/*")), *below, f"/{label}", "*"]

    def _listener_values(self, names: set[str]) -> list[str]:
        return [each.name for each in self.policy.listeners] or [_fresh("listener", names), *sorted(names)]

    def _client_values(self, names: set[object]) -> list[IPv4Address | IPv6Address]:
        starts = self.matcher.networks.starts if self.matcher.networks else []
        places = [*starts, MAPPED, MAPPED_END, 0]
        return [
            IPv4Address("192.0.2.1"),
            *(IPv4Address(p - MAPPED) if MAPPED <= p < MAPPED_END else IPv6Address(p) for p in places if p < 1 << 128),
        ]

    def _source_values(self, names: set[str]) -> list[str]:
        return [*SOURCE_KINDS, STATED, NO_SOURCE]

    def _actor_values(self, names: set[str]) -> list[str]:
        return [SUBJECT, UNKNOWN, *sorted((names | self.policy.subject.actors) - {SUBJECT, UNKNOWN})]

    def _ech_values(self, names: set[bool]) -> list[bool]:
        return [False, True]

    def surely(self, place: int) -> Box:
        """Where the condition surely matches, its test of the class aside."""
        found = self._sure.get(place)
        if found is None:
            found = self._sure[place] = self._box(place, "sure")
        return found

    def maybe(self, place: int) -> Box:
        """Where the condition may match, its test of the class aside."""
        found = self._maybe.get(place)
        if found is None:
            found = self._maybe[place] = self._box(place, "maybe")
        return found

    def _box(self, place: int, side: str) -> Box:
        condition = self.conditions[place]
        if condition is None:
            return (0,) * (TIME + 1)
        box = list(self.full)
        for i, key in enumerate(KEYS):
            if getattr(condition, key) is not None:
                box[i] = sum(1 << at for at, value in enumerate(self.axes[i]) if getattr(value, side) >> place & 1)
        return tuple(box)

    def span(self, dated: Rule | Term) -> int:
        """When it is in force, on the axis of time."""
        start = 0 if dated.from_ is None else bisect_left(self.times, dated.from_)
        end = len(self.times) if dated.until is None else bisect_left(self.times, dated.until)
        return (1 << end) - (1 << start) if start < end else 0

    def fitting(self, selector: Selector, provider: Provider) -> int:
        """When the selector fits the provider, on the axis of time."""
        found = 0
        for term in selector:
            if describes(term, provider):
                found |= self.full[TIME] if term.from_ is None and term.until is None else self.span(term)
        return found

    def tests_class(self, place: int) -> bool:
        return bool(self.matcher.tested["data_class"] >> place & 1)

    def classified(self, box: Box, steps: Steps) -> Iterator[tuple[Box, frozenset[str]]]:
        """Disjoint boxes that make up this one, each with the classes that are possible throughout it."""
        return self._classified(box, 0, frozenset(), steps)

    def _classified(
        self, box: Box, i: int, possible: frozenset[str], steps: Steps
    ) -> Iterator[tuple[Box, frozenset[str]]]:
        classes = self.policy.classes
        steps.take()
        if i == len(classes):
            yield box, possible | {UNCLASSIFIED}
            return
        when, unless = i, len(classes) + i
        with_it = possible | {classes[i].name}
        # A class that tests the class is never sure: see Decider.
        circular = self.tests_class(when), self.tests_class(unless)
        within = meet(box, self.maybe(when))
        without = subtract(box, self.maybe(when))
        canceled = (0,) if circular[1] else meet(within, self.surely(unless))
        if all(canceled):
            without.append(canceled)
            remaining = subtract(within, self.surely(unless))
        else:
            remaining = [within] if all(within) else []
        for each in remaining:
            sure = (0,) if circular[0] else meet(each, self.surely(when))
            unsure = [each] if circular[0] else subtract(each, self.surely(when))
            if all(sure):
                perhaps = meet(sure, self.maybe(unless))
                unsure += [perhaps] if all(perhaps) else []
                for certain in subtract(sure, self.maybe(unless)):
                    yield certain, with_it
            for open_ in unsure:
                yield from self._classified(open_, i + 1, with_it, steps)
        for other in without:
            yield from self._classified(other, i + 1, possible, steps)

    def by_class(self, possible: frozenset[str]) -> Masks:
        return self.matcher.by_class(possible)

    def facts(self, box: Box) -> Facts:
        """The first facts in a box that is not empty."""
        values: dict[str, Any] = {}
        for axis, mask in zip(self.axes, box, strict=False):
            values |= axis[(mask & -mask).bit_length() - 1].facts
        return Facts(self.times[(box[TIME] & -box[TIME]).bit_length() - 1], **values)


def meet(one: Box, other: Box) -> Box:
    """What is in both."""
    return tuple([a & b for a, b in zip(one, other, strict=True)])


def subtract(box: Box, other: Box) -> list[Box]:
    """Disjoint boxes that make up what is in `box` and not in `other`."""
    common = meet(box, other)
    if not all(common):
        return [box] if all(box) else []
    pieces = []
    for i, both in enumerate(common):
        if box[i] != both:
            pieces.append((*common[:i], box[i] & ~both, *box[i + 1 :]))
    return pieces


def _fresh(name: str, taken: Iterable[object]) -> str:
    taken = set(taken)
    while name in taken:
        name += "x"
    return name
