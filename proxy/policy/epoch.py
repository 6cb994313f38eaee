"""What follows from the rules that match, between two dates: the permit or the denial.

For each provider there are three masks over the rules: those whose allow fits it, those that leave it out, those
that forbid it; it is permitted if the granting rules touch the first and the narrowing ones neither of the others.

A denial's reason is the first of these that holds:

    no-zone       the home is neither a zone nor `unknown`
    home-unknown  the home is `unknown`, and no rule grants (none that may, matches)
    no-rule       no rule grants
    no-provider   rules grant, and what their allows name is no provider
    conflict      something is granted, but the allows and onlys that narrow leave nothing of it
    forbidden     forbids took all that was left
"""

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from proxy.policy.decision import _MINT, Decision, Denial, Permit, Reason, RuleSay
from proxy.policy.facts import UNKNOWN
from proxy.policy.matcher import bits
from proxy.policy.rules import Selector
from proxy.policy.selectors import fits, in_force

if TYPE_CHECKING:
    from proxy.policy.policy import Policy
    from proxy.policy.routes import Preferred

_OUTCOMES = 4096  # how many are remembered; at that bound all are forgotten


class Matches(NamedTuple):
    """What facts match: the classes they may have, the rules that surely match, and that may; the first route."""

    possible: frozenset[str]
    grants: int
    narrows: int
    route: int | None


Look = tuple[Decision, int | None]


class Epoch:
    """The rules between two dates: which are in force, and what each says of each provider."""

    def __init__(self, policy: "Policy", zones: frozenset[str], start: float, end: float) -> None:
        self.policy = policy
        self.start = start
        self.end = end
        self.looks: dict[object, Look] = {}
        self.preferred: dict[tuple[Permit, int], Preferred] = {}
        self._outcomes: dict[object, Decision] = {}
        self._zones = zones
        self._in_force = self._allows = self._of_unknown = 0
        providers = policy.providers
        self._allowing = [0] * len(providers)  # for each provider the rules whose allow fits it
        self._leaving_out = [0] * len(providers)  # whose allow or only does not
        self._forbidding = [0] * len(providers)  # whose forbid does
        by_selector: tuple[dict[Selector, int], ...] = ({}, {}, {})
        for i, rule in enumerate(policy.rules):
            bit = 1 << i
            if in_force(rule, start):
                self._in_force |= bit
            if rule.allow is not None:
                self._allows |= bit
            if rule.when.home is not None and UNKNOWN in rule.when.home:
                self._of_unknown |= bit
            for rules, selector in zip(by_selector, (rule.allow, rule.only, rule.forbid), strict=True):
                if selector is not None:
                    rules[selector] = rules.get(selector, 0) | bit
        allow, only, forbid = by_selector
        for i, provider in enumerate(providers):
            for selector, mask in allow.items():
                side = self._allowing if fits(selector, provider, start) else self._leaving_out
                side[i] |= mask
            for selector, mask in only.items():
                if not fits(selector, provider, start):
                    self._leaving_out[i] |= mask
            for selector, mask in forbid.items():
                if fits(selector, provider, start):
                    self._forbidding[i] |= mask

    def outcome(self, home: str, matches: Matches) -> Decision:
        """The decision for these matches; the same object for the same outcome, while it is remembered."""
        key = (home, matches.possible, matches.grants, matches.narrows)
        found = self._outcomes.get(key)
        if found is None:
            if len(self._outcomes) >= _OUTCOMES:
                self._outcomes.clear()
            found = self._outcomes[key] = self._decide(home, matches)
        return found

    def _decide(self, home: str, matches: Matches) -> Decision:
        narrows = matches.narrows & self._in_force
        grants = self.granting(home, matches.grants)
        granted = [i for i, rules in enumerate(self._allowing) if rules & grants]
        left = [i for i in granted if not self._leaving_out[i] & narrows]
        permitted = [i for i in left if not self._forbidding[i] & narrows]
        (data_class,) = matches.possible if len(matches.possible) == 1 else (UNKNOWN,)
        until = None if self.end == inf else self.end

        def says() -> tuple[RuleSay, ...]:
            return self.says(grants, narrows)

        if permitted:
            providers = tuple(self.policy.providers[i] for i in permitted)
            return Permit(
                self.policy.digest, home, data_class, providers, self._names(narrows), until, says, _MINT
            )  # fmt: skip
        reason: Reason
        laws = 0
        if home != UNKNOWN and home not in self._zones:
            reason = "no-zone"
        elif not grants:
            reason = "home-unknown" if home == UNKNOWN else "no-rule"
        elif not granted:
            reason, laws = "no-provider", grants
        elif not left:
            reason = "conflict"
            for i in granted:
                laws |= self._allowing[i] & grants | self._leaving_out[i] & narrows
        else:
            reason = "forbidden"
            for i in left:
                laws |= self._forbidding[i] & narrows
        authorities = (self.policy.rules[i].authority for i in bits(laws))
        authority = next((named for named in authorities if named is not None), None)
        return Denial(
            self.policy.digest,
            home,
            data_class,
            reason,
            self._names(narrows),
            self._names(laws),
            authority,
            until,
            says,
            _MINT,
        )

    def granting(self, home: str, grants: int) -> int:
        """Of the rules that surely match, those whose allow grants something to this home."""
        if home == UNKNOWN:
            return grants & self._in_force & self._allows & self._of_unknown
        return grants & self._in_force & self._allows if home in self._zones else 0

    def says(self, grants: int, narrows: int) -> tuple[RuleSay, ...]:
        """Every rule's say, where these rules grant and these narrow."""
        return tuple(
            RuleSay(
                rule.name,
                applies=bool(narrows >> i & 1),
                granted=self._providers(self._allowing, grants & 1 << i),
                narrowed=self._providers(self._leaving_out, narrows & 1 << i),
                forbade=self._providers(self._forbidding, narrows & 1 << i),
                because=rule.because,
                authority=rule.authority,
                why_not=None,
            )
            for i, rule in enumerate(self.policy.rules)
        )

    def _providers(self, rules_of: list[int], rules: int) -> tuple[str, ...]:
        return tuple(p.name for p, mask in zip(self.policy.providers, rules_of, strict=True) if mask & rules)

    def _names(self, rules: int) -> tuple[str, ...]:
        return tuple(self.policy.rules[i].name for i in bits(rules))
