"""Homes that a listener is permitted providers for, of which none has an endpoint that serves it.

Which homes a listener's connections can have follows from what is stated for it and from the sources that can speak
there; that a zone is granted nothing there is another matter, and nothing is said of it here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from proxy.policy.facts import UNKNOWN
from proxy.policy.protocols import serves
from proxy.policy.rules import Condition
from proxy.policy.search import Search
from proxy.policy.settings import Listener
from proxy.policy.space import TIME, Exhausted, Steps
from proxy.policy.subject import Directory, Location, ProxyHeaderSource, Source

if TYPE_CHECKING:
    from proxy.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class Unserved:
    """listener: its place in the policy. times: when it is so, on the axis of time."""

    listener: int
    times: int
    homes: tuple[str, ...]


def unserved(search: Search, homes: Sequence[str], steps: int) -> Iterator[Unserved]:
    """All that are found. homes: those of the search's extra conditionals, from the first on. steps: for each."""
    policy = search.space.policy
    for place, listener in enumerate(policy.listeners):
        if all(serves(provider, listener.protocol) for provider in policy.providers):
            continue
        possible = homes_at(policy, listener)
        found: dict[int, list[str]] = {}
        for extra, home in enumerate(homes):
            try:
                times = _times(search, extra, listener, Steps(steps)) if home in possible else 0
            except Exhausted:
                continue
            if times:
                found.setdefault(times, []).append(home)
        for times, named in found.items():
            yield Unserved(place, times, tuple(named))


def homes_at(policy: "Policy", listener: Listener) -> frozenset[str]:
    """The homes that connections of a listener can have, and perhaps more."""
    homes: set[str] = set()
    for stated in policy.subject.stated:
        named = stated.when.listener
        if named is not None and listener.name not in named:
            continue
        homes.add(stated.home)
        if stated.unless is None and replace(stated.when, listener=None) == Condition():
            return frozenset(homes)
    if any(_speaks(source, listener) for source in policy.subject.sources):
        homes |= {zone.name for zone in policy.zones}
    return frozenset(homes | {UNKNOWN})


def _speaks(source: Source, listener: Listener) -> bool:
    """Whether a source can give a connection of the listener a home."""
    if isinstance(source, ProxyHeaderSource):
        return source.home_from is not None and listener.proxy_protocol != "none"
    if isinstance(source, Directory) and listener.protocol == "tls":
        return source.key.kind == "sni"
    return listener.protocol == "http" or isinstance(source, Location)


def _times(search: Search, extra: int, listener: Listener, steps: Steps) -> int:
    """When something is permitted for the home, and nothing that serves the listener."""
    providers = search.space.policy.providers
    roots = [search.space.of_listener(listener)]
    serving = [provider for provider in providers if serves(provider, listener.protocol)]
    others = [provider for provider in providers if provider not in serving]
    always = search.space.full[TIME]
    without = always & ~search.times(extra, serving, always, steps, roots)
    return search.times(extra, others, without, steps, roots)
