"""The order in which endpoints are tried."""

import dataclasses
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.balance import Balance
from proxy.policy.routes import Preferred
from proxy.policy.settings import Endpoint
from proxy.providers.breaker import BreakerState
from proxy.providers.choice import order
from proxy.providers.fleet import REMEASURE, TRIAL, Fleet
from tests.providers.peers import a_law, a_place, bring_back, names, permit_for, take_out

NOW = 1000.0


def places(count, endpoints=1):
    return tuple(
        a_place(
            "127.0.0.1",
            1,
            name=f"p{number}",
            endpoints=tuple(Endpoint("http", "127.0.0.1", 1000 * number + n + 1) for n in range(endpoints)),
        )
        for number in range(count)
    )


def a_fleet(providers):
    return Fleet.open(a_law(*providers), names())


def named(chosen):
    return [endpoint.state.definition.name for endpoint in chosen]


def ports(chosen):
    return [endpoint.endpoint.port for endpoint in chosen]


def mark(fleet, name, until=NOW + 5):
    for endpoint in fleet.states[name].endpoints:
        take_out(endpoint, NOW - 1, until)


def test_one_provider_one_endpoint_is_never_a_new_list():
    (one,) = places(1)
    fleet = a_fleet([one])
    for preferred in (Preferred((), None, (one,)), Preferred((one,), None, ()), Preferred((one,), (1.0,), ())):
        assert order(preferred, fleet, b"x", NOW) is fleet.states["p0"].endpoints


@pytest.mark.parametrize(("until", "up"), [(NOW, True), (NOW + 0.001, False), (0.0, True)])
def test_an_endpoint_is_not_tried_while_its_breaker_is_open(until, up):
    (one,) = places(1)
    fleet = a_fleet([one])
    mark(fleet, "p0", until)
    assert bool(order(Preferred((), None, (one,)), fleet, b"x", NOW)) is up


def test_nothing_permitted_is_healthy():
    providers = places(3)
    fleet = a_fleet(providers)
    for provider in providers[:2]:
        mark(fleet, provider.name)
    for preferred in (
        Preferred(providers[:2], (1.0, 1.0), ()),
        Preferred(providers[:2], None, ()),
        Preferred((), None, providers[:2]),
        Preferred((), None, ()),
    ):
        assert not order(preferred, fleet, b"x", NOW)


def test_listed_without_weights_is_in_order_and_the_rest_comes_last():
    providers = places(4)
    fleet = a_fleet(providers)
    fleet.states["p0"].first_byte(0.001, NOW)
    fleet.states["p1"].first_byte(0.002, NOW)
    preferred = Preferred((providers[3], providers[2]), None, providers[:2])
    assert named(order(preferred, fleet, b"x", NOW)) == ["p3", "p2", "p0", "p1"]
    mark(fleet, "p3")
    assert named(order(preferred, fleet, b"x", NOW)) == ["p2", "p0", "p1"]


KEYS = [f"subject-{number}".encode() for number in range(4000)]


@pytest.mark.parametrize("weights", [(95.0, 5.0), (1.0, 1.0), (0.5, 0.25, 0.25), (3.0, 2.0, 1.0, 10.0)])
def test_shares_are_as_the_weights(weights):
    providers = places(len(weights))
    fleet = a_fleet(providers)
    preferred = Preferred(providers, weights, ())
    counts = Counter(named(order(preferred, fleet, key, NOW))[0] for key in KEYS)
    for provider, weight in zip(providers, weights, strict=True):
        share = weight / sum(weights)
        deviation = math.sqrt(share * (1 - share) / len(KEYS))
        assert abs(counts[provider.name] / len(KEYS) - share) < 4 * deviation


def test_one_subject_stays():
    providers = places(3)
    preferred = Preferred(providers, (1.0, 2.0, 3.0), ())
    first, second = a_fleet(providers), a_fleet(providers)  # as after a restart, or on another instance
    for key in KEYS[:200]:
        assert named(order(preferred, first, key, NOW)) == named(order(preferred, second, key, NOW))


def test_when_a_provider_goes_only_its_subjects_move():
    providers = places(3)
    fleet = a_fleet(providers)
    preferred = Preferred(providers, (1.0, 2.0, 3.0), ())
    before = {key: named(order(preferred, fleet, key, NOW)) for key in KEYS}
    mark(fleet, "p2")
    moved = Counter()
    for key in KEYS:
        after = named(order(preferred, fleet, key, NOW))
        assert after == [name for name in before[key] if name != "p2"]
        if before[key][0] == "p2":
            moved[after[0]] += 1
    assert abs(moved["p1"] / moved.total() - 2 / 3) < 0.05  # shared as the weights of those who stay
    # The same where it is no longer permitted, or no longer there.
    for key in KEYS[:200]:
        fewer = order(Preferred(providers[:2], (1.0, 2.0), ()), fleet, key, NOW)
        assert named(fewer) == [name for name in before[key] if name != "p2"]


def test_a_change_of_weight_moves_only_what_it_must():
    providers = places(2)
    fleet = a_fleet(providers)
    before = {key: named(order(Preferred(providers, (95.0, 5.0), ()), fleet, key, NOW))[0] for key in KEYS}
    for key in KEYS:
        after = named(order(Preferred(providers, (80.0, 20.0), ()), fleet, key, NOW))[0]
        assert after == before[key] or (before[key], after) == ("p0", "p1")


def test_weight_nought_serves_when_nothing_else_does():
    providers = places(2)
    fleet = a_fleet(providers)
    preferred = Preferred(providers, (0.0, 1.0), ())
    assert {tuple(named(order(preferred, fleet, key, NOW))) for key in KEYS[:500]} == {("p1", "p0")}
    mark(fleet, "p1")
    assert named(order(preferred, fleet, b"x", NOW)) == ["p0"]


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=5),
    st.binary(max_size=200),
    st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_every_healthy_provider_is_there_once(weights, key, up):
    providers = places(len(weights))
    fleet = a_fleet(providers)
    for provider, is_up in zip(providers, up, strict=False):
        if not is_up:
            mark(fleet, provider.name)
    expected = [p.name for p, is_up in zip(providers, up, strict=False) if is_up]
    for preferred in (Preferred(providers, tuple(weights), ()), Preferred((), None, providers)):
        assert sorted(named(order(preferred, fleet, key, NOW))) == expected


def test_the_fastest_first():
    providers = places(3)
    fleet = a_fleet(providers)
    for name, seconds in (("p0", 0.3), ("p1", 0.1), ("p2", 0.2)):
        fleet.states[name].first_byte(seconds, NOW)
    preferred = Preferred((), None, providers)
    assert named(order(preferred, fleet, b"x", NOW)) == ["p1", "p2", "p0"]


def test_nearly_as_fast_does_not_make_them_change_places():
    providers = places(2)
    fleet = a_fleet(providers)
    preferred = Preferred((), None, providers)
    first, second = fleet.states["p0"], fleet.states["p1"]
    first.first_byte(0.100, NOW)
    second.first_byte(0.101, NOW)
    for step in range(50):
        first.first_byte(0.090 + 0.02 * (step % 2), NOW)
        second.first_byte(0.110 - 0.02 * (step % 2), NOW)
        assert named(order(preferred, fleet, b"x", NOW)) == ["p0", "p1"]


def test_the_unmeasured_are_tried_by_one_request_at_a_time():
    providers = places(2)
    fleet = a_fleet(providers)
    preferred = Preferred((), None, providers)
    permit = permit_for(*providers)
    known, new = fleet.states["p0"], fleet.states["p1"]
    known.first_byte(0.1, NOW)
    first = order(preferred, fleet, b"x", NOW)
    assert named(first) == ["p1", "p0"]
    first[0].take(permit, NOW)
    assert named(order(preferred, fleet, b"x", NOW)) == ["p0", "p1"]  # while that one is under way
    assert named(order(preferred, fleet, b"x", NOW + TRIAL - 0.01)) == ["p0", "p1"]
    assert named(order(preferred, fleet, b"x", NOW + TRIAL)) == ["p1", "p0"]  # it never answered: once more
    new.first_byte(0.05, NOW + 1)
    assert named(order(preferred, fleet, b"x", NOW + TRIAL)) == ["p1", "p0"]
    for _ in range(50):
        new.first_byte(0.5, NOW + 2)
    assert named(order(preferred, fleet, b"x", NOW + TRIAL)) == ["p0", "p1"]


def test_an_old_measurement_is_made_again():
    providers = places(2)
    fleet = a_fleet(providers)
    preferred = Preferred((), None, providers)
    slow, fast = fleet.states["p0"], fleet.states["p1"]
    slow.first_byte(0.5, NOW)
    fast.first_byte(0.1, NOW)
    late = NOW + REMEASURE
    fast.first_byte(0.1, late - 1)
    assert named(order(preferred, fleet, b"x", late - 0.001)) == ["p1", "p0"]
    assert named(order(preferred, fleet, b"x", late)) == ["p0", "p1"]
    slow.endpoints[0].take(permit_for(*providers), late)
    assert named(order(preferred, fleet, b"x", late)) == ["p1", "p0"]


def test_none_measured_is_the_policys_order():
    providers = places(3)
    assert named(order(Preferred((), None, providers), a_fleet(providers), b"x", NOW)) == ["p0", "p1", "p2"]


def balanced(kind, endpoints=3, **more):
    (one,) = places(1, endpoints=endpoints)
    one = dataclasses.replace(one, balance=Balance(kind, **more))
    return a_fleet([one]), Preferred((), None, (one,))


def test_endpoints_take_turns_where_the_policy_says_so():
    fleet, preferred = balanced("round_robin")
    firsts = []
    for _ in range(6):
        chosen = order(preferred, fleet, b"x", NOW)
        assert sorted(ports(chosen)) == [1, 2, 3]
        firsts.append(ports(chosen)[0])
    assert firsts == [1, 2, 3, 1, 2, 3]
    take_out(fleet.states["p0"].endpoints[1], NOW, NOW + 1)
    assert {tuple(sorted(ports(order(preferred, fleet, b"x", NOW)))) for _ in range(6)} == {(1, 3)}


def test_weights_of_endpoints():
    fleet, preferred = balanced("weighted", weights=(3.0, 1.0), endpoints=2)
    firsts = Counter(ports(order(preferred, fleet, b"x", NOW))[0] for _ in range(40))
    assert firsts == {1: 30, 2: 10}


def test_a_subject_stays_with_its_endpoint_and_comes_back_to_it():
    fleet, preferred = balanced("consistent_hash")
    before = {key: ports(order(preferred, fleet, key, NOW))[0] for key in KEYS[:300]}
    assert set(before.values()) == {1, 2, 3}
    take_out(fleet.states["p0"].endpoints[1], NOW, NOW + 1)
    for key, port in before.items():
        assert (ports(order(preferred, fleet, key, NOW))[0] == port) is (port != 2)
    bring_back(fleet.states["p0"].endpoints[1])
    assert before == {key: ports(order(preferred, fleet, key, NOW))[0] for key in KEYS[:300]}


def test_the_endpoint_that_owes_answers_is_left_alone_by_default():
    fleet, preferred = balanced("peak_ewma", endpoints=2)
    silent, _ = fleet.states["p0"].endpoints
    for _ in range(10):
        assert silent.begin(NOW)
    assert {ports(order(preferred, fleet, b"x", NOW + 1))[0] for _ in range(50)} == {2}


# Trials and slow starts


def test_a_trial_comes_first_and_no_more_of_them_than_are_allowed():
    fleet, preferred = balanced("round_robin")
    sick = fleet.states["p0"].endpoints[2]
    take_out(sick, NOW - 6, NOW - 1)
    allowed = sick.health.breaker.breaker.trials
    for _ in range(allowed):
        first = order(preferred, fleet, b"x", NOW)[0]
        assert first is sick
        assert first.begin(NOW)
    late = order(preferred, fleet, b"x", NOW)
    assert sorted(ports(late)) == [1, 2]
    # One that was chosen as a trial, and comes to it when they are all given out, is told so.
    assert sick.begin(NOW) is None
    assert sick.begin(NOW + sick.health.breaker.breaker.open) is not None  # as many anew


def test_a_sole_endpoint_is_not_there_while_its_trials_are_under_way():
    (one,) = places(1)
    fleet = a_fleet([one])
    (sick,) = fleet.states["p0"].endpoints
    take_out(sick, NOW - 6, NOW - 1)
    preferred = Preferred((), None, (one,))
    for _ in range(sick.health.breaker.breaker.trials):
        assert order(preferred, fleet, b"x", NOW)[0].begin(NOW)
    assert not order(preferred, fleet, b"x", NOW)


def slowly(place, since):
    """It began a slow start then."""
    policy = place.health.breaker.breaker
    place.health.become(BreakerState(policy, "slow-start", since=since, until=since + policy.slow_start))


@pytest.mark.parametrize("kind", ["peak_ewma", "round_robin", "least_connections", "weighted"])
def test_an_endpoint_that_starts_slowly_has_its_share(kind):
    fleet, preferred = balanced(kind, endpoints=2)
    steady, slow = fleet.states["p0"].endpoints
    steady.begin(NOW).answered(0.1, NOW)  # the other one would be expected to answer first
    slowly(slow, NOW)
    firsts = Counter()
    for _ in range(2000):
        chosen = order(preferred, fleet, b"x", NOW + 0.01)
        firsts[ports(chosen)[0]] += 1
        if kind == "least_connections":
            chosen[0].begin(NOW)
    assert 0 < firsts[2] < 300
    # All of it once that is over; and the place of one that is steady again says so.
    late = Counter(ports(order(preferred, fleet, b"x", NOW + 60))[0] for _ in range(2000))
    assert kind == "least_connections" or late[2] > 800


@pytest.mark.parametrize("listed", [True, False])
def test_a_provider_that_starts_slowly_has_its_share_of_what_would_come_to_it_first(listed):
    providers = places(2)
    fleet = a_fleet(providers)
    fleet.states["p0"].first_byte(0.001, NOW)
    fleet.states["p1"].first_byte(0.002, NOW)
    slowly(fleet.states["p0"].endpoints[0], NOW)
    preferred = Preferred(providers, None, ()) if listed else Preferred((), None, providers)
    orders = Counter(tuple(named(order(preferred, fleet, b"x", NOW + 0.01))) for _ in range(2000))
    assert set(orders) == {("p0", "p1"), ("p1", "p0")}
    assert 100 < orders["p0", "p1"] < 320
    take_out(fleet.states["p1"].endpoints[0], NOW, NOW + 5)
    assert {tuple(named(order(preferred, fleet, b"x", NOW + 0.01))) for _ in range(50)} == {("p0",)}


def test_a_weighted_provider_that_starts_slowly_has_its_share_of_its_weight_and_subjects_come_back_one_by_one():
    providers = places(2)
    fleet = a_fleet(providers)
    preferred = Preferred(providers, (1.0, 1.0), ())
    final = {key for key in KEYS if named(order(preferred, fleet, key, NOW))[0] == "p1"}
    slowly(fleet.states["p1"].endpoints[0], NOW)
    before = set()
    for seconds in (0.01, 2.0, 5.0, 8.0, 10.0):
        back = {key for key in KEYS if named(order(preferred, fleet, key, NOW + seconds))[0] == "p1"}
        assert before <= back <= final
        before = back
    assert before == final


@given(st.lists(st.sampled_from(["closed", "open", "trial", "spent", "slow", "held"]), min_size=1, max_size=6))
def test_no_panic_threshold_and_nothing_twice(states):
    fleet, preferred = balanced("peak_ewma", endpoints=len(states))
    endpoints = fleet.states["p0"].endpoints
    for place, state in zip(endpoints, states, strict=True):
        if state == "open":
            take_out(place, NOW, NOW + 5)
        elif state in ("trial", "spent"):
            take_out(place, NOW - 6, NOW - 1)
            while state == "spent" and place.begin(NOW):
                pass
        elif state == "slow":
            slowly(place, NOW)
        elif state == "held":
            place.health.hold(True)
    chosen = order(preferred, fleet, b"x", NOW)
    there = [place for place, state in zip(endpoints, states, strict=True) if state in ("closed", "trial", "slow")]
    assert sorted(map(id, chosen)) == sorted(map(id, there))
    trials = [place for place, state in zip(endpoints, states, strict=True) if state == "trial"]
    assert list(chosen[: len(trials)]) == trials


def test_deciding_changes_nothing_between_providers():
    providers = places(3)
    fleet = a_fleet(providers)
    preferred = Preferred(providers[:2], (1.0, 1.0), providers[2:])
    assert ports(order(preferred, fleet, b"x", NOW)) == ports(order(preferred, fleet, b"x", NOW))
