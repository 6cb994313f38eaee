"""Choosers: shares, fairness, who moves when an endpoint goes, and bounds that hold whatever happens."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.balance import Balance
from proxy.providers.balance import DECAY, UNMEASURED, Load, chooser

KINDS = ("peak_ewma", "round_robin", "least_connections", "weighted", "consistent_hash")
NOW = 1000.0
KEYS = [f"subject-{number}".encode() for number in range(4000)]


def some_loads(*weights):
    return [Load(f"https://e{place}.example:443", weight) for place, weight in enumerate(weights)]


def a_chooser(kind, seed=1, **settings):
    return chooser(Balance(kind, **settings), random.Random(seed).random)


def measured(load, seconds, now=NOW):
    load.begin(now - seconds)
    load.first_byte(seconds, now)
    load.end()


# Every chooser


@pytest.mark.parametrize("kind", KINDS)
@given(
    weights=st.lists(st.floats(0.01, 1000), min_size=1, max_size=8),
    shares=st.lists(st.floats(0.1, 1.0), min_size=8, max_size=8),
    busy=st.lists(st.integers(0, 1000), min_size=8, max_size=8),
    key=st.binary(max_size=40),
)
def test_one_of_those_that_it_was_given(kind, weights, shares, busy, key):
    loads = some_loads(*weights)
    for load, share, count in zip(loads, shares, busy, strict=False):
        load.share = share
        for _ in range(count % 7):
            load.begin(NOW)
    chosen = a_chooser(kind)
    for _ in range(3):
        place = chosen.choose(loads, key, NOW)
        assert isinstance(place, int)
        assert 0 <= place < len(loads)


@pytest.mark.parametrize("kind", KINDS)
def test_slow_start_is_never_more_than_its_part(kind):
    loads = some_loads(1.0, 1.0, 1.0, 1.0)
    loads[2].share = 0.1
    chosen = a_chooser(kind)
    counts = Counter()
    for key in KEYS:
        place = chosen.choose(loads, key, NOW)
        counts[place] += 1
        if kind == "least_connections":
            loads[place].begin(NOW)
    part = 0.1 / 4
    assert counts[2] / len(KEYS) < part * 1.5 + 0.01
    assert counts[2] > 0
    assert min(counts[place] for place in (0, 1, 3)) > 700


# Peak EWMA


def test_latency_rises_at_once_and_falls_slowly():
    (load,) = some_loads(1.0)
    measured(load, 0.1)
    assert load.latency == 0.1
    measured(load, 2.0, NOW + 1)
    assert load.latency == 2.0
    measured(load, 0.1, NOW + 1 + DECAY)
    assert load.latency == pytest.approx(0.1 + 1.9 / math.e)


def test_what_is_expected():
    (load,) = some_loads(1.0)
    assert load.expected(NOW) == 0.0  # to be tried
    load.begin(NOW)
    assert load.expected(NOW) == 2 * UNMEASURED  # but not by everybody before it has answered
    load.first_byte(0.2, NOW + 0.2)
    assert load.expected(NOW + 0.2) == pytest.approx(0.4)
    assert load.expected(NOW + 100) == pytest.approx(0.4)  # a long answer under way is no silence
    load.begin(NOW + 100)
    assert load.expected(NOW + 100.2) == pytest.approx(0.6)
    assert load.expected(NOW + 105) == pytest.approx(15.0)  # one owed for five seconds is
    load.leave()
    load.end()
    assert load.expected(NOW + 100 + DECAY) == pytest.approx(0.2 / math.e)  # idle: forgiven


def test_a_weight_counts_as_so_many_endpoints():
    heavy, light = some_loads(4.0, 1.0)
    for load in (heavy, light):
        measured(load, 0.1)
    for _ in range(3):
        heavy.begin(NOW)
    assert heavy.expected(NOW) == light.expected(NOW) == pytest.approx(0.1)


def test_the_quicker_of_two():
    loads = some_loads(1.0, 1.0)
    measured(loads[0], 0.2)
    measured(loads[1], 0.1)
    chosen = a_chooser("peak_ewma")
    assert chosen.choose(loads, b"", NOW) == 1
    loads[1].begin(NOW)
    loads[1].begin(NOW)
    assert chosen.choose(loads, b"", NOW) == 0


def test_the_slowest_of_many_gets_none_of_the_traffic_and_the_quickest_not_all():
    loads = some_loads(*[1.0] * 5)
    for place, load in enumerate(loads):
        measured(load, 0.1 * (place + 1))
    chosen = a_chooser("peak_ewma")
    counts = Counter(chosen.choose(loads, b"", NOW) for _ in range(4000))
    assert counts[4] == 0
    # Of two drawn from five the quickest is one in 2/5 of the draws, the next in 3/10, and so on.
    assert [round(counts[place] / 4000, 1) for place in range(4)] == [0.4, 0.3, 0.2, 0.1]


def test_a_black_hole_is_left_alone_before_anything_times_out():
    """Two endpoints, a thousand requests a second; from some moment on one of them never answers."""
    loads = some_loads(1.0, 1.0)
    chosen = a_chooser("peak_ewma")
    lost, under_way = [], []
    for tick in range(5000):
        now = NOW + tick / 1000
        for ready in [one for one in under_way if one[0] <= now]:
            ready[1].first_byte(0.005, now)
            ready[1].end()
            under_way.remove(ready)
        load = loads[chosen.choose(loads, b"", now)]
        load.begin(now)
        if load is loads[1] and tick >= 1000:
            lost.append(tick)
        else:
            under_way.append((now + 0.005, load))
    # Some tens until its silence is noticed, and no more for as long as it owes answers.
    assert len(lost) < 50
    assert max(lost) < 1100


# In turns


@pytest.mark.parametrize("count", [2, 3, 8])
def test_round_robin_takes_turns_whatever_the_weights(count):
    loads = some_loads(*range(1, count + 1))
    chosen = a_chooser("round_robin")
    turns = [chosen.choose(loads, b"", NOW) for _ in range(3 * count)]
    assert turns == [*range(count)] * 3


@given(st.lists(st.integers(1, 20), min_size=2, max_size=8))
def test_weights_are_kept_exactly_in_each_round(weights):
    loads = some_loads(*map(float, weights))
    chosen = a_chooser("weighted")
    for _ in range(2):
        counts = Counter(chosen.choose(loads, b"", NOW) for _ in range(sum(weights)))
        assert [counts[place] for place in range(len(weights))] == weights


def test_turns_are_spread_evenly():
    loads = some_loads(5.0, 1.0, 1.0)
    chosen = a_chooser("weighted")
    assert [chosen.choose(loads, b"", NOW) for _ in range(7)] == [0, 0, 1, 0, 2, 0, 0]


def test_who_was_away_makes_up_for_nothing():
    loads = some_loads(1.0, 1.0, 1.0)
    chosen = a_chooser("round_robin")
    for _ in range(5):
        chosen.choose(loads, b"", NOW)
    for _ in range(1000):
        chosen.choose(loads[:2], b"", NOW)
    counts = Counter(chosen.choose(loads, b"", NOW) for _ in range(30))
    assert all(9 <= counts[place] <= 11 for place in range(3))


# Least connections


def test_the_least_busy_for_its_weight():
    loads = some_loads(1.0, 2.0, 1.0)
    chosen = a_chooser("least_connections")
    for place, count in enumerate((1, 2, 2)):
        for _ in range(count):
            loads[place].begin(NOW)
    assert chosen.choose(loads, b"", NOW) == 1
    loads[1].begin(NOW)
    assert {chosen.choose(loads, b"", NOW) for _ in range(6)} == {0, 1}  # 2 of 1, 4 of 2


def test_idle_ones_take_turns():
    loads = some_loads(1.0, 1.0, 1.0)
    chosen = a_chooser("least_connections")
    assert Counter(chosen.choose(loads, b"", NOW) for _ in range(9)) == {0: 3, 1: 3, 2: 3}


@given(st.lists(st.integers(1, 9), min_size=2, max_size=8), st.integers(1, 300))
def test_connections_that_stay_are_as_the_weights(weights, count):
    loads = some_loads(*map(float, weights))
    chosen = a_chooser("least_connections")
    for _ in range(count):
        loads[chosen.choose(loads, b"", NOW)].begin(NOW)
    for load in loads:
        assert abs(load.outstanding - count * load.weight / sum(weights)) <= len(loads)


# Consistent hash


def places_of(loads, keys=KEYS, **settings):
    chosen = a_chooser("consistent_hash", **settings)
    return {key: loads[chosen.choose(loads, key, NOW)].seed for key in keys}


def test_a_key_stays_in_every_process():
    assert places_of(some_loads(1.0, 2.0, 3.0)) == places_of(some_loads(1.0, 2.0, 3.0), seed=2)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 2.0, 3.0), (0.5, 0.25, 0.25), (1.0,) * 8])
def test_keys_are_shared_as_the_weights_say(weights):
    loads = some_loads(*weights)
    counts = Counter(places_of(loads).values())
    for load in loads:
        part = load.weight / sum(weights)
        assert abs(counts[load.seed] / len(KEYS) - part) < 4 * math.sqrt(part * (1 - part) / len(KEYS))


@pytest.mark.parametrize("weights", [(1.0,) * 4, (1.0, 2.0, 3.0, 4.0)])
def test_when_an_endpoint_goes_only_its_keys_move(weights):
    loads = some_loads(*weights)
    before = places_of(loads)
    gone = loads.pop(1)
    after = places_of(loads)
    assert {key for key in KEYS if before[key] != after[key]} == {key for key in KEYS if before[key] == gone.seed}
    moved = Counter(after[key] for key in KEYS if before[key] == gone.seed)
    assert len(moved) == 3  # and not all of them to one


def test_slow_start_moves_keys_only_to_who_comes_back():
    loads = some_loads(1.0, 1.0, 1.0)
    previous = places_of(loads[:2])
    for share in (0.1, 0.4, 0.7, 1.0):
        loads[2].share = share
        present = places_of(loads)
        assert all(present[key] in (previous[key], loads[2].seed) for key in KEYS)
        previous = present


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=8),
    st.sampled_from([1.0, 1.1, 1.25, 2.0]),
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=120),
)
def test_the_bound_is_never_exceeded(weights, bound, steps):
    loads = some_loads(*map(float, weights))
    chosen = a_chooser("consistent_hash", bound=bound)
    for number, begins in steps:
        if begins:
            place = chosen.choose(loads, b"popular-%d" % number, NOW)
            loads[place].begin(NOW)
            under_way = sum(load.outstanding for load in loads)
            part = bound * under_way * loads[place].weight / sum(weights)
            assert loads[place].outstanding <= math.ceil(part + 1e-9)
        elif loads[number % len(loads)].outstanding:
            loads[number % len(loads)].leave()


def test_one_popular_key_overflows_to_the_next_of_its_own_order_and_comes_back():
    loads = some_loads(1.0, 1.0, 1.0)
    chosen = a_chooser("consistent_hash")
    first = chosen.choose(loads, b"popular", NOW)
    second = chosen.choose([load for load in loads if load is not loads[first]], b"popular", NOW)
    second = [place for place in range(3) if place != first][second]
    loads[first].begin(NOW)
    assert chosen.choose(loads, b"popular", NOW) == second
    loads[first].leave()
    assert chosen.choose(loads, b"popular", NOW) == first
