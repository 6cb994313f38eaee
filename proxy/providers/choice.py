"""Which endpoints to try, in what order, among what a permit and a route leave.

- An endpoint that could not be reached is not in the order while its mark lasts. An empty order is `unavailable`.
- Listed with weights: each subject's own order, by weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted
  distributed hash tables", 2005): shares are as the weights among what is permitted and healthy, one subject stays,
  and when a provider goes, its subjects alone move. Weight 0 comes after all others.
- Listed without: as listed.
- The rest: the fastest to the first byte first, by `pace`. One that was never measured, or not for REMEASURE seconds,
  is tried first by one request each TRIAL seconds and is otherwise last, so that a silent one costs few requests.
  Equal ones are in the policy's order.
- Endpoints of one provider take turns.

Pure: it reads the states and changes nothing; `EndpointState.take` is what moves turns and trials on.
"""

import math
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from proxy.policy.settings import Provider
from proxy.providers.fleet import REMEASURE, TRIAL, EndpointState, Fleet, ProviderState
from proxy.providers.pool import C

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
        return _endpoints(states[(listed or rest)[0].name], now, passing)
    found: list[EndpointState[C]] = []
    if preferred.weights is not None and len(listed) > 1:
        for state in by_weight([states[p.name] for p in listed], preferred.weights, key):
            found += _endpoints(state, now, passing)
    else:
        for provider in listed:
            found += _endpoints(states[provider.name], now, passing)
    for state in _fastest(rest, fleet, now):
        found += _endpoints(state, now, passing)
    return found


def by_weight(states: Sequence[ProviderState[C]], weights: Sequence[float], key: bytes) -> Iterable[ProviderState[C]]:
    """The states in the order of this key."""
    key_bits = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
    ranked = [
        # 52 bits, so that the half keeps the number off 0 and 1 exactly: its logarithm is finite and negative.
        (weight / math.log(((_mixed(key_bits ^ state.seed) >> 12) + 0.5) / 2**52), place)
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


def _endpoints(state: ProviderState[C], now: float, passing: bool) -> Sequence[EndpointState[C]]:
    endpoints = state.passing if passing else state.endpoints
    if len(endpoints) == 1:
        return endpoints if now >= endpoints[0].down_until else ()
    up = [endpoint for endpoint in endpoints if now >= endpoint.down_until]
    if not up:
        return up
    turn = state.turn % len(up)
    return up[turn:] + up[:turn]
