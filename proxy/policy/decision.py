"""What may reach a provider, and what may not. Only this floor makes any of it; whatever reaches a provider takes one.

Permit       traffic, by a decision: `decide` alone makes it
Denial       the other outcome of a decision
ProbePermit  checks, which carry nothing of any client: `probe_permits` alone makes it, of a policy
"""

from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Literal, NoReturn

from proxy.policy.settings import Provider

if TYPE_CHECKING:
    from proxy.policy.policy import Policy

Reason = Literal["no-zone", "home-unknown", "no-rule", "no-provider", "conflict", "forbidden"]
"""Why the law denies. (`unavailable` is no denial: something is permitted, nothing of it is healthy.)"""

_MINT = object()  # shown by who may make one, when it does; a test looks for other uses


@dataclass(frozen=True, slots=True)
class RuleSay:
    """What one rule said.

    applies: whether it matched (for the narrowing, which is the wider match). granted, narrowed and
    forbade name providers: those its `allow` granted, those its `allow` or `only` leaves out, those its
    `forbid` takes. why_not: for a rule that did not apply, the first thing that did not match; only
    `explain` words it, for an outcome is shared by all facts that lead to it.
    """

    rule: str
    applies: bool
    granted: tuple[str, ...]
    narrowed: tuple[str, ...]
    forbade: tuple[str, ...]
    because: str | None
    authority: str | None
    why_not: str | None


class _Minted:
    """Cannot be made, copied or unpickled elsewhere."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is made by the policy alone")


@dataclass(frozen=True, eq=False, slots=True)
class Permit(_Minted):
    """These providers may receive this request. Made by `decide` alone.

    providers: what the law permits, in the policy's order. rules: the names of the rules that applied.
    data_class: the class, `unknown` where the facts leave several possible.
    until: when the policy's dates may change the answer (seconds since the epoch), None for never.
    says: computes what every rule of the policy said, in the policy's order.
    Equal outcomes are one object while it is remembered.
    """

    digest: str
    home: str
    data_class: str
    providers: tuple[Provider, ...]
    rules: tuple[str, ...]
    until: float | None
    says: Callable[[], tuple[RuleSay, ...]] = field(repr=False)
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a Permit is made by decide alone")

    def names(self, provider: Provider) -> bool:
        """Whether a recipient of that name, operator and zone is permitted, however else it is defined by now."""
        recipient = (provider.name, provider.operator, provider.zone)
        return any((other.name, other.operator, other.zone) == recipient for other in self.providers)

    def covers(self, provider: Provider) -> bool:
        """Whether this provider, as defined here, is permitted: one equal in name and in every setting is the same."""
        return provider in self.providers


@dataclass(frozen=True, eq=False, slots=True)
class Denial(_Minted):
    """No provider may receive it. Made by `decide` alone.

    laws: the rules that made it so, in the policy's order: for `no-provider` those whose allow matched; for
    `conflict` those that granted, and those that left out something granted; for `forbidden` those that
    forbade what was left; else none.
    authority: the first that the laws name. The rest as in Permit.
    """

    digest: str
    home: str
    data_class: str
    reason: Reason
    rules: tuple[str, ...]
    laws: tuple[str, ...]
    authority: str | None
    until: float | None
    says: Callable[[], tuple[RuleSay, ...]] = field(repr=False)
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a Denial is made by decide alone")


Decision = Permit | Denial


@dataclass(frozen=True, eq=False, slots=True)
class ProbePermit(_Minted):
    """This provider may be checked. Made by `probe_permits` alone.

    It is good for a connection of its own, never for one of a pool, on which nothing of any client is sent.
    """

    provider: Provider
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a ProbePermit is made by probe_permits alone")

    def covers(self, provider: Provider) -> bool:
        """Whether this provider, as defined here, may be checked: as Permit's."""
        return provider == self.provider


def probe_permits(policy: "Policy") -> tuple[ProbePermit, ...]:
    """A permit for each provider that the policy has checked, in its order, whatever the rules say of it now."""
    return tuple(ProbePermit(provider, _MINT) for provider in policy.providers if provider.health is not None)
