"""Who is slow beside the others of its zone is left alone, where the policy asks for it; never the last."""

import pytest

from proxy.policy.health import Passive
from proxy.providers.fleet import Fleet
from proxy.providers.outliers import leave_out_slow
from tests.policy.samples import a_provider
from tests.providers.peers import a_law, names

NOW = 1000.0
STRICT = Passive(samples=5, latency=3.0)
LENIENT = Passive(samples=5)


def fleet(**zones):
    """Providers by name: zone, passive."""
    return Fleet.open(
        a_law(*(a_provider(name, "Example Inc", zone, passive=passive) for name, (zone, passive) in zones.items())),
        names(),
    )


def answered(fleet, name, seconds, times=5):
    for _ in range(times):
        fleet.states[name].endpoints[0].health.succeeded(NOW - seconds, seconds, NOW)


def out(fleet):
    return {name for name, state in fleet.states.items() if state.endpoints[0].health.word(NOW) == "open"}


@pytest.mark.parametrize(
    ("zones", "latencies", "slow"),
    [
        # All of a zone answer alike.
        ({"a": ("eu", STRICT), "b": ("eu", STRICT)}, {"a": 0.1, "b": 0.12}, set()),
        ({"a": ("eu", STRICT), "b": ("eu", STRICT)}, {"a": 0.1, "b": 1.0}, {"b"}),
        # Only where the policy says so.
        ({"a": ("eu", STRICT), "b": ("eu", LENIENT)}, {"a": 0.1, "b": 1.0}, set()),
        # Beside its own zone alone.
        ({"a": ("eu", STRICT), "b": ("elsewhere", STRICT)}, {"a": 0.1, "b": 1.0}, set()),
        # However slow all are, the fastest stays.
        ({"a": ("eu", STRICT), "b": ("eu", STRICT), "c": ("eu", STRICT)}, {"a": 5.0, "b": 30.0, "c": 6.0}, {"b"}),
        # A sole provider is beside nobody.
        ({"a": ("eu", STRICT)}, {"a": 30.0}, set()),
        # Many times slower than next to nothing is nothing.
        ({"a": ("eu", STRICT), "b": ("eu", STRICT)}, {"a": 0.001, "b": 0.02}, set()),
    ],
)
def test_who_is_slow(zones, latencies, slow):
    providers = fleet(**zones)
    for name, seconds in latencies.items():
        answered(providers, name, seconds)
    leave_out_slow(providers, NOW)
    assert out(providers) == slow
    assert sum(state.endpoints[0].health.trips for state in providers.states.values()) == len(slow)
    leave_out_slow(providers, NOW)
    assert out(providers) == slow, "looking again changes nothing"


def test_a_few_answers_show_nothing():
    providers = fleet(a=("eu", STRICT), b=("eu", STRICT))
    answered(providers, "a", 0.1)
    answered(providers, "b", 9.0, times=4)
    leave_out_slow(providers, NOW)
    assert out(providers) == set()


def test_while_the_fast_one_is_out_the_slow_one_serves():
    """What an open breaker's endpoint did is forgotten, so nobody is compared with it."""
    providers = fleet(a=("eu", STRICT), b=("eu", STRICT))
    answered(providers, "a", 0.1)
    answered(providers, "b", 9.0)
    providers.states["a"].endpoints[0].health.unreached(NOW, NOW)
    for _ in range(3):
        providers.states["a"].endpoints[0].health.failed("timeout", NOW, NOW)
    assert out(providers) == {"a"}
    leave_out_slow(providers, NOW)
    assert out(providers) == {"a"}
