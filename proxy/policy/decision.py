"""The two outcomes of a decision. Only `decide` makes them; whatever reaches a provider takes a Permit."""

from dataclasses import dataclass
from typing import Literal

from proxy.policy.settings import Provider

Reason = Literal["no-zone", "home-unknown", "no-rule", "no-provider", "conflict", "forbidden"]
"""Why the law denies. (`unavailable` is no denial: something is permitted, nothing of it is healthy.)"""


@dataclass(frozen=True, slots=True)
class RuleSay:
    """What one rule said.

    applies: whether it matched (for the narrowing, which is the wider match). granted, narrowed and
    forbade name providers: those its `allow` granted, those its `allow` or `only` leaves out, those its
    `forbid` takes. why_not: for a rule that did not apply, the first thing that did not match.
    """

    rule: str
    applies: bool
    granted: tuple[str, ...]
    narrowed: tuple[str, ...]
    forbade: tuple[str, ...]
    because: str | None
    authority: str | None
    why_not: str | None


@dataclass(frozen=True, eq=False, slots=True)
class Permit:
    """These providers may receive this request. Made by `decide` alone.

    providers: what the law permits, in the policy's order. rules: the names of the rules that applied.
    until: when the policy's dates may change the answer (seconds since the epoch), None for never.
    """

    digest: str
    home: str
    data_class: str
    providers: tuple[Provider, ...]
    rules: tuple[str, ...]
    until: float | None

    def covers(self, provider: Provider) -> bool:
        """Whether this very provider, as this policy defines it, is permitted."""
        return any(permitted is provider for permitted in self.providers)


@dataclass(frozen=True, eq=False, slots=True)
class Denial:
    """No provider may receive it. laws: the rules that made it so; authority: the first that they name."""

    digest: str
    home: str
    data_class: str
    reason: Reason
    rules: tuple[str, ...]
    laws: tuple[str, ...]
    authority: str | None
    until: float | None


Decision = Permit | Denial
