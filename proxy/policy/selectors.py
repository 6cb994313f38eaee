"""Which providers a selector fits, at a moment."""

from collections.abc import Iterable, Iterator

from proxy.policy.rules import Rule, Selector, Term
from proxy.policy.settings import Provider

Dated = Rule | Term
"""What a from and an until may bound."""


def in_force(dated: Dated, time: float) -> bool:
    """Whether from <= time < until; an end that is not stated is open."""
    return (dated.from_ is None or dated.from_ <= time) and (dated.until is None or time < dated.until)


def describes(term: Term, provider: Provider) -> bool:
    """Whether every set that the term states holds the provider's value, whatever the date."""
    return (
        (term.zones is None or provider.zone in term.zones)
        and (term.operators is None or provider.operator in term.operators)
        and (term.providers is None or provider.name in term.providers)
    )


def fits(selector: Selector, provider: Provider, time: float) -> bool:
    """Whether any of the selector's terms that are in force describes the provider."""
    return any(in_force(term, time) and describes(term, provider) for term in selector)


def dates(*dated: Dated) -> Iterator[float]:
    """Every from and until among these."""
    for each in dated:
        if each.from_ is not None:
            yield each.from_
        if each.until is not None:
            yield each.until


def selector_dates(selectors: Iterable[Selector | None]) -> Iterator[float]:
    """Every from and until of these selectors' terms."""
    for selector in selectors:
        yield from dates(*(selector or ()))
