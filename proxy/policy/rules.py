"""The law and the preferences of a policy, as values: conditions, selectors, rules, routes, guarantees."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Condition:
    """The tests of a `when` or an `unless`: every key must match, any value of a key will do.

    None means that the key is not tested; an empty Condition matches everything. Values are canonical:
    `country` holds expanded ISO codes and perhaps `unknown`; `home` zone names and perhaps `unknown`;
    `host` exact names or `*.suffix`; `path` exact paths or `/p/*`; `method` names, `read` or `write`.
    """

    home: frozenset[str] | None = None
    country: frozenset[str] | None = None
    data_class: frozenset[str] | None = None
    host: frozenset[str] | None = None
    path: frozenset[str] | None = None
    method: frozenset[str] | None = None
    listener: frozenset[str] | None = None
    client: frozenset[Network] | None = None
    source: frozenset[str] | None = None
    actor: frozenset[str] | None = None
    ech: bool | None = None


@dataclass(frozen=True, slots=True)
class Term:
    """One alternative of a selector: every stated set must hold the provider's value. All None is `any`.

    In force while from_ <= time < until; seconds since the epoch.
    """

    zones: frozenset[str] | None = None
    operators: frozenset[str] | None = None
    providers: frozenset[str] | None = None
    from_: float | None = None
    until: float | None = None


Selector = tuple[Term, ...]
"""Providers, described: any of the terms will do. Never empty."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One law. `when` None is `when: {}`; `unless` None never cancels (an empty `unless` always does)."""

    name: str
    when: Condition
    unless: Condition | None = None
    allow: Selector | None = None
    only: Selector | None = None
    forbid: Selector | None = None
    because: str | None = None
    authority: str | None = None
    from_: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """One provider of a route's `prefer`; weight is its share, or None where the route is in order."""

    provider: str
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The operator's preference among what the rules permit. strict: providers not listed are left out."""

    when: Condition
    unless: Condition | None = None
    only: Selector | None = None
    prefer: tuple[Preference, ...] = ()
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What must hold whatever rules and routes say: exactly one of `only` and `never`."""

    when: Condition
    unless: Condition | None = None
    only: Selector | None = None
    never: Selector | None = None


@dataclass(frozen=True, slots=True)
class DataClass:
    """A kind of data, and what belongs to it; the first that matches."""

    name: str
    when: Condition
    unless: Condition | None = None


@dataclass(frozen=True, slots=True)
class StatedHome:
    """A home that the operator states for what matches; looked at before any source."""

    home: str
    when: Condition
    unless: Condition | None = None
