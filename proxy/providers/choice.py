"""Which endpoints to try, in what order, among what a permit and a route leave.

- An endpoint that its health leaves nothing is not in the order. Where that is so of all, the order is empty, which is
  `unavailable`: there is no threshold from which the sick are tried after all.
- Listed with weights: each subject's own order, by weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted
  distributed hash tables", 2005): shares are as the weights among what is permitted and healthy, one subject stays,
  and when a provider goes, its subjects alone move. Weight 0 comes after all others.
- Listed without: as listed.
- The rest: the fastest to the first byte first, by `pace`. One that was never measured, or not for REMEASURE seconds,
  is tried first by one request each TRIAL seconds and is otherwise last, so that a silent one costs few requests.
  Equal ones are in the policy's order.
- A provider all of which starts slowly has its share: of its weight; else of the requests that would come to it first.
  It takes all where nobody else is there to.
- Among the endpoints of one provider those that want a trial come first, then the one that its balance chooses, then
  the others in turn.

It reads the states and changes nothing but whose turn it is within a provider. Whoever tries an endpoint calls its
`begin`, which says no where something happened meanwhile.
"""

import math
import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from proxy.policy.settings import Provider
from proxy.providers.endpoint import EndpointState
from proxy.providers.fleet import REMEASURE, TRIAL, Fleet, ProviderState
from proxy.providers.pool import C
from proxy.providers.row import turned

if TYPE_CHECKING:
    from proxy.policy.routes import Preferred

_LAST = math.inf


def order(
    preferred: "Preferred", fleet: Fleet[C], key: bytes, now: float, *, passing: bool = False
) -> Sequence[EndpointState[C]]:
    """The endpoints to try, best first; empty when none of the permitted providers is healthy.

    key: what stays together under weights: the subject, else the client's address. now: the loop's seconds. passing:
    those that take bytes as they are, and not those that are spoken to in HTTP.
    """
    listed, rest = preferred.listed, preferred.rest
    states = fleet.states
    if len(listed) + len(rest) == 1:
        return _endpoints(states[(listed or rest)[0].name], key, now, passing)
    found: list[EndpointState[C]] = []
    if preferred.weights is not None and len(listed) > 1:
        inclined = by_weight([states[p.name] for p in listed], preferred.weights, key, now, passing)
    else:
        inclined = _by_share([states[provider.name] for provider in listed], now, passing)
    for state in inclined:
        found += _endpoints(state, key, now, passing)
    for state in _by_share(_fastest(rest, fleet, now), now, passing):
        found += _endpoints(state, key, now, passing)
    return found


def by_weight(
    states: Sequence[ProviderState[C]], weights: Sequence[float], key: bytes, now: float, passing: bool
) -> Sequence[ProviderState[C]]:
    """The states in the order of this key."""
    key_bits = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
    ranked = [
        # 52 bits, so that the half keeps the number off 0 and 1 exactly: its logarithm is finite and negative.
        (
            weight * _share(state, now, passing) / math.log(((_mixed(key_bits ^ state.seed) >> 12) + 0.5) / 2**52),
            place,
        )
        for place, (state, weight) in enumerate(zip(states, weights, strict=True))
    ]
    ranked.sort()
    return [states[place] for _, place in ranked]


def _mixed(number: int) -> int:
    """Spreads 64 bits: the finaliser of MurmurHash3. A hash function for each provider would cost as much again."""
    number = ((number ^ number >> 33) * 0xFF51AFD7ED558CCD) & 0xFFFFFFFFFFFFFFFF
    number = ((number ^ number >> 33) * 0xC4CEB9FE1A85EC53) & 0xFFFFFFFFFFFFFFFF
    return number ^ number >> 33


def _fastest(rest: Sequence[Provider], fleet: Fleet[C], now: float) -> Sequence[ProviderState[C]]:
    states = [fleet.states[provider.name] for provider in rest]
    if len(states) > 1:
        states.sort(key=lambda state: _rank(state, now))
    return states


def _rank(state: ProviderState[C], now: float) -> float:
    if state.latency is not None and now - state.measured < REMEASURE:
        return state.pace
    return -1.0 if now - state.asked >= TRIAL else _LAST


def _share(state: ProviderState[C], now: float, passing: bool) -> float:
    """What slow start leaves of a provider; 1 where it leaves it all, or where nothing is left to share."""
    row = state.passing_row if passing else state.row
    if row.unsteady < len(row.endpoints):
        return 1.0
    return max((endpoint.health.share(now) for endpoint in row.endpoints), default=0.0) or 1.0


def _by_share(states: Sequence[ProviderState[C]], now: float, passing: bool) -> Sequence[ProviderState[C]]:
    """The states as they are, those behind whose share does not reach so far this time."""
    behind = [
        state
        for state in states
        if (share := _share(state, now, passing)) < 1.0 and random.random() >= share  # noqa: S311 - no secret
    ]
    return [*(state for state in states if state not in behind), *behind] if behind else states


def _endpoints(state: ProviderState[C], key: bytes, now: float, passing: bool) -> Sequence[EndpointState[C]]:
    row = state.passing_row if passing else state.row
    endpoints = row.endpoints
    if len(endpoints) == 1:
        return endpoints if endpoints[0].health.admits(now) else ()
    if row.unsteady:
        return _of_unsteady(state, endpoints, key, now)
    if not endpoints:
        return ()
    place = state.chooser.choose(row.loads, key, now)
    return row.orders[place] if row.orders else turned(endpoints, place)


def _of_unsteady(
    state: ProviderState[C], endpoints: Sequence[EndpointState[C]], key: bytes, now: float
) -> Sequence[EndpointState[C]]:
    trials: list[EndpointState[C]] = []
    up: list[EndpointState[C]] = []
    for endpoint in endpoints:
        health = endpoint.health
        if health.trial(now):
            trials.append(endpoint)
        elif (share := health.share(now)) > 0.0:
            health.load.share = share
            up.append(endpoint)
    if len(up) < 2:
        return [*trials, *up]
    place = state.chooser.choose([endpoint.health.load for endpoint in up], key, now)
    return [*trials, *turned(up, place)]
