"""Endpoints that are slow beside the other providers of their zone, where the policy has them left alone for that.

Looked for now and then, not at each request: what counts are medians.
"""

from collections import defaultdict
from typing import Any

from proxy.providers.fleet import Fleet, ProviderState
from proxy.providers.window import slow


def leave_out_slow(fleet: Fleet[Any], now: float) -> None:
    """Open the breakers of those that are slow. now: monotonic seconds."""
    zones: dict[str, list[ProviderState[Any]]] = defaultdict(list)
    for state in fleet.states.values():
        zones[state.definition.zone].append(state)
    for states in zones.values():
        if len(states) > 1 and any(state.definition.passive.latency is not None for state in states):
            _compare(states, now)


def _compare(states: list[ProviderState[Any]], now: float) -> None:
    medians = {
        state: {
            place: median
            for place in (*state.endpoints, *state.passing)
            if (median := place.health.window.median(now)) is not None
        }
        for state in states
    }
    for state, own in medians.items():
        factor = state.definition.passive.latency
        others = [min(of.values()) for other, of in medians.items() if other is not state and of]
        if factor is None:
            continue
        for place, median in own.items():
            if place.health.steady and slow(median, others, factor):
                place.health.outlier(now)
