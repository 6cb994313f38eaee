"""Facts that reach a provider: found, or shown not to exist.

A provider is reached where some rule grants it and no rule takes it away. For each granting rule the facts that it
surely matches are a box, less the box of its `unless`. What is left to find is a point of it at which every
rule that would take the provider away (leave it out, or forbid it, at that time) either cannot match, or is surely
cancelled by its own `unless`: a clause for each rule, each a choice between leaving the rule's box along one
axis and entering the box of its `unless`. The search is DPLL over boxes: a rule that takes the provider away throughout
the box ends a branch; a rule with one way out is taken at once; else the box is cut along the ways of one rule
into disjoint boxes. All rules are looked at together, as bits.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proxy.policy.facts import UNKNOWN
from proxy.policy.matcher import KEYS, bits
from proxy.policy.settings import Provider
from proxy.policy.space import TIME, Box, Space, Steps, meet, subtract

_HOME = KEYS.index("home")


@dataclass(frozen=True, slots=True)
class _Sayings:
    """What the rules say of one provider, over time: who grants it when, and who takes it away when."""

    grants: dict[int, int]  # rule -> times
    takes: dict[int, int]  # times -> rules that take it away at exactly these
    takes_of: dict[int, int]  # rule -> times


@dataclass(frozen=True, slots=True)
class _Slice:
    """What some values of one axis mean for all rules, as bits.

    may, does: the rules whose `when` may match for some, for all of the values;
    cancels, canceled: the rules whose `unless` surely matches for some, for all of them. This axis alone.
    """

    may: int
    does: int
    cancels: int
    canceled: int


class Search:
    """Looks for facts in a space."""

    def __init__(self, space: Space) -> None:
        self.space = space
        rules = space.policy.rules
        self._rules = (1 << len(rules)) - 1
        self._unless_at = space.rules_at + len(rules)
        self._slices: dict[tuple[int, int], _Slice] = {}
        self._sayings: dict[str, _Sayings] = {}
        tested = space.matcher.tested["data_class"]
        self._class_tests = (tested >> space.rules_at | tested >> self._unless_at) & self._rules
        self._unknown = sum(1 << i for i, value in enumerate(space.axes[_HOME]) if value.facts["home"] == UNKNOWN)

    def times(
        self,
        extra: int,
        providers: Sequence[Provider],
        during: int,
        steps: Steps,
        roots: Sequence[Box] | None = None,
    ) -> int:
        """When any of the providers is reached, as by `reached`, on the axis of time."""
        left = during
        for provider in providers:
            found = True
            while left and found:
                box = next(self.reached(extra, provider, left, steps, roots), None)
                found = box is not None
                left &= ~(box[TIME] if box else 0)
        return during & ~left

    def reached(
        self, extra: int, provider: Provider, during: int, steps: Steps, roots: Sequence[Box] | None = None
    ) -> Iterator[Box]:
        """Boxes in which the provider is reached while the extra conditional of this place may match.

        `during`: at which times, on the axis of time. `roots`: in which boxes; None is the whole space. Yields nothing
        if there is nothing to find; raises Exhausted.
        """
        space = self.space
        when, unless = space.extra_at + extra, space.extra_at + len(space.extra) + extra
        sayings = self._of(provider)
        for root in space.roots() if roots is None else roots:
            scope = meet(root, space.maybe(when))
            for rule, times in sayings.grants.items():
                base = meet(scope, self.granting(rule))
                base = (*base[:TIME], base[TIME] & during & times)
                if all(base):
                    yield from self._reached(base, rule, (when, unless), sayings, steps)

    def granting(self, rule: int) -> Box:
        """Where a rule's `when` surely matches, the class aside, and is of a home that the rule can grant."""
        box = self.space.surely(self.space.rules_at + rule)
        home = self.space.policy.rules[rule].when.home
        if home is None or UNKNOWN not in home:
            return (*box[:_HOME], box[_HOME] & ~self._unknown, *box[_HOME + 1 :])
        return box

    def touching(self, box: Box) -> int:
        """The rules whose `when` may match somewhere in the box, the class and the date aside."""
        may = self._rules
        for axis in range(TIME):
            may &= self._slice(axis, box[axis]).may
        return may

    def _reached(self, base: Box, rule: int, of: tuple[int, int], sayings: _Sayings, steps: Steps) -> Iterator[Box]:
        space = self.space
        when, unless = of
        own = space.rules_at + rule, self._unless_at + rule
        if any(map(space.tests_class, (*own, *of))) or self._meeting(base, sayings) & self._class_tests:
            parts = space.classified(base, steps)
        else:
            parts = iter([(base, frozenset())])
        for part, possible in parts:
            sure, maybe = space.by_class(possible)
            if not (sure >> own[0] & 1 and maybe >> when & 1):
                continue
            pieces = subtract(part, space.maybe(own[1])) if maybe >> own[1] & 1 else [part]
            if sure >> unless & 1:
                pieces = [left for piece in pieces for left in subtract(piece, space.surely(unless))]
            for piece in pieces:
                found = self._free(piece, self._by_class(sure, maybe), sayings, steps)
                if found is not None:
                    yield found

    def _by_class(self, sure: int, maybe: int) -> _Slice:
        when = maybe >> self.space.rules_at & self._rules
        unless = sure >> self._unless_at & self._rules
        return _Slice(when, when, unless, unless)

    def _meeting(self, box: Box, sayings: _Sayings) -> int:
        """The rules that may take the provider away somewhere in the box, the class aside."""
        may = self._rules
        for each in self._slices_of(box, sayings):
            may &= each.may
        return may

    def _slices_of(self, box: Box, sayings: _Sayings) -> list[_Slice]:
        slices = [self._slice(axis, box[axis]) for axis in range(TIME)]
        may = does = 0
        for times, rules in sayings.takes.items():
            if times & box[TIME]:
                may |= rules
            if not box[TIME] & ~times:
                does |= rules
        slices.append(_Slice(may, does, self._rules, self._rules))
        return slices

    def _slice(self, axis: int, mask: int) -> _Slice:
        found = self._slices.get((axis, mask))
        if found is None:
            may = cancels = 0
            does = canceled = self._rules
            for value in bits(mask):
                one = self.space.axes[axis][value]
                when = one.maybe >> self.space.rules_at & self._rules
                unless = one.sure >> self._unless_at & self._rules
                may |= when
                does &= when
                cancels |= unless
                canceled &= unless
            found = self._slices[axis, mask] = _Slice(may, does, cancels, canceled)
        return found

    def _free(self, box: Box, by_class: _Slice, sayings: _Sayings, steps: Steps) -> Box | None:
        """A box inside this one throughout which no rule takes the provider away; None if there is none."""
        stack = [box]
        while stack:
            box = stack.pop()
            steps.take()
            if not all(box):
                continue
            slices = self._slices_of(box, sayings)
            may, does, cancels, canceled = by_class.may, by_class.does, by_class.cancels, by_class.canceled
            for each in slices:
                may &= each.may
                does &= each.does
                cancels &= each.cancels
                canceled &= each.canceled
            live = may & ~canceled
            if not live:
                return box
            if live & does & ~cancels:
                continue
            # How many ways out each live rule has: one or more, two or more, three or more.
            one = two = three = 0
            for ways in (*(live & ~each.does for each in slices), live & cancels):
                three |= two & ways
                two |= one & ways
                one |= ways
            # A single way is forced; of the others the fewest ways cut the box into the fewest pieces.
            choice = one & ~two or two & ~three or live
            stack += self._ways((choice & -choice).bit_length() - 1, box, bool(cancels & choice & -choice), sayings)
        return None

    def _ways(self, rule: int, box: Box, cancels: bool, sayings: _Sayings) -> list[Box]:
        """Disjoint boxes in which the rule cannot match, and one in which it is surely cancelled."""
        reach = self.space.maybe(self.space.rules_at + rule)
        reach = (*reach[:TIME], sayings.takes_of[rule])
        ways = subtract(box, reach)
        if cancels:
            ways.append(meet(meet(box, reach), self.space.surely(self._unless_at + rule)))
        return ways

    def _of(self, provider: Provider) -> _Sayings:
        found = self._sayings.get(provider.name)
        if found is None:
            grants: dict[int, int] = {}
            takes: dict[int, int] = defaultdict(int)
            takes_of: dict[int, int] = {}
            always = self.space.full[TIME]
            for i, rule in enumerate(self.space.policy.rules):
                span = self.space.span(rule)
                taken = 0
                if rule.allow is not None:
                    fitting = self.space.fitting(rule.allow, provider)
                    taken |= always & ~fitting
                    if fitting & span:
                        grants[i] = fitting & span
                if rule.only is not None:
                    taken |= always & ~self.space.fitting(rule.only, provider)
                if rule.forbid is not None:
                    taken |= self.space.fitting(rule.forbid, provider)
                if taken & span:
                    takes[taken & span] |= 1 << i
                    takes_of[i] = taken & span
            found = self._sayings[provider.name] = _Sayings(grants, dict(takes), takes_of)
        return found
