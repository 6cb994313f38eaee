"""The window against a recomputation from everything that ever happened, and what it makes of failures."""

import math
import random
import sys
from dataclasses import replace
from itertools import chain, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.health import Passive
from proxy.providers.window import EDGES, FAILURES, SLICES, SLOWER_BY, Window, failure_of, slow

NEVER = Passive(window=10.0, samples=1, share=None, consecutive=None)


def answered(window, count, now=0.0, latency=0.01):
    for _ in range(count):
        window.succeeded(latency, now)


def test_the_defaults_say_what_they_say():
    passive = Passive()
    assert (passive.window, passive.samples, passive.share, passive.consecutive, passive.latency) == (
        30.0,
        20,
        0.5,
        3,
        None,
    )


@pytest.mark.parametrize(
    ("events", "sick"),
    [
        (["connect"], None),
        (["connect", "connect"], None),
        (["connect", "timeout", "truncation"], "failures-in-a-row"),
        (["connect", "connect", "success", "connect"], None),
        # A 5xx is an answer: it ends a row, and is none of it.
        (["connect", "connect", "error", "connect"], None),
        (["error"] * 19, None),
        (["error"] * 20, "failure-share"),
        (["success"] * 11 + ["error"] * 10, None),
        (["success"] * 11 + ["error"] * 11, "failure-share"),
        (["error"] * 10 + ["success"] * 9 + ["error"], "failure-share"),
        (["connect", "success"] * 10 + ["connect"], "failure-share"),
        # The sooner word for both.
        (["error"] * 19 + ["timeout"] * 3, "failures-in-a-row"),
        # What failed elsewhere too is none of a row, and ends none; an answer ends it all the same.
        (["timeout again", "truncation again"] * 9 + ["timeout again"], None),
        (["timeout again", "truncation again"] * 10, "failure-share"),
        (["connect", "truncation again", "connect", "timeout again"], None),
        (["connect", "truncation again", "connect", "timeout again", "truncation"], "failures-in-a-row"),
        (["connect", "connect", "error again", "connect"], None),
    ],
)
def test_what_failures_show(events, sick):
    window = Window(Passive())
    for event in events:
        kind, _, again = event.partition(" ")
        shown = window.succeeded(0.01, 5.0) if kind == "success" else window.failed(kind, 5.0, again=bool(again))
    assert shown == sick


@pytest.mark.parametrize(("share", "consecutive"), [(None, None), (None, 5), (0.9, None)])
def test_what_is_left_out_never_shows(share, consecutive):
    window = Window(Passive(share=share, consecutive=consecutive))
    answered(window, 4)
    shown = {window.failed("connect", 1.0) for _ in range(40)}
    assert ("failures-in-a-row" in shown) is (consecutive is not None)
    assert ("failure-share" in shown) is (share is not None)


def test_a_row_is_not_ended_by_time():
    window = Window(Passive())
    assert window.failed("connect", 0.0) is None
    assert window.failed("connect", 1e6) is None
    assert window.failed("connect", 2e6) == "failures-in-a-row"


@pytest.mark.parametrize(("later", "counted"), [(0.0, 5), (9.0, 5), (9.999, 5), (10.0, 0), (11.0, 0), (1e9, 0)])
def test_what_is_too_old_is_forgotten(later, counted):
    window = Window(NEVER)
    answered(window, 5, now=1000.0)
    assert window.counts(1000.0 + later)["success"] == counted
    assert (window.median(1000.0 + later) is None) is (counted == 0)


def test_cleared_it_knows_nothing():
    window = Window(Passive())
    for _ in range(19):
        window.failed("error", 50.0)
    window.failed("connect", 50.0)
    window.clear()
    assert set(window.counts(50.0).values()) == {0}
    assert window.in_a_row == 0
    assert window.failed("error", 50.0) is None
    assert window.counts(50.0)["error"] == 1


def test_a_median_needs_samples():
    window = Window(replace(NEVER, samples=3))
    answered(window, 2)
    assert window.median(0.0) is None
    answered(window, 1)
    assert window.median(0.0) is not None
    assert Window(replace(NEVER, samples=0)).median(0.0) is None


def test_one_long_answer_does_not_make_a_provider_slow():
    window = Window(NEVER)
    answered(window, 20, latency=0.01)
    answered(window, 19, latency=60.0)
    assert window.median(0.0) == pytest.approx(0.01, rel=1 / 8)


@pytest.mark.parametrize("latency", [-1.0, 0.0, 1e-9, 1e-4, 64.0, 70.0, 1e9])
def test_no_latency_is_out_of_range(latency):
    window = Window(NEVER)
    window.succeeded(latency, 0.0)
    assert EDGES[0] <= window.median(0.0) <= EDGES[-1]


def test_bins_are_a_quarter_wide():
    assert all(high / low == pytest.approx(1.25) for low, high in pairwise(EDGES))
    assert EDGES[0] == 1e-4
    assert EDGES[-1] > 60.0


@pytest.mark.parametrize(
    ("status", "failure"),
    [(200, None), (301, None), (404, None), (429, None), (499, None), (500, "error"), (501, None), (502, "error"),
     (503, "error"), (504, "error"), (505, None), (507, "error"), (599, "error")],
)  # fmt: skip
def test_what_a_status_says(status, failure):
    assert failure_of(status) == failure


def test_memory_is_constant():
    window = Window(Passive())

    def size():
        lists = {id(one): one for one in chain(window._ring, [window._past, window._present])}
        return len(window._ring), sum(map(len, lists.values())), sum(map(sys.getsizeof, lists.values()))

    for moment in range(100):
        answered(window, 10, now=float(moment))
    full = size()
    for moment in range(100, 2000):
        window.succeeded(moment % 7 / 10, moment / 3)
        window.failed(FAILURES[moment % 4], moment / 3)
        assert size() <= full


class Recomputed:
    """Everything that ever happened, counted anew each time. Slices of a second."""

    PASSIVE = Passive(window=10.0, samples=6, share=0.4, consecutive=4)

    def __init__(self):
        self.window = Window(self.PASSIVE)
        self.now = 0.0
        self.happened = []  # (slice, outcome, latency)
        self.row = 0

    def recent(self):
        return [(outcome, latency) for at, outcome, latency in self.happened if at > math.floor(self.now) - SLICES]

    def happens(self, seconds, outcome, latency, again=False):
        self.now += seconds
        self.happened.append((math.floor(self.now), outcome, latency))
        if outcome == "success":
            self.row = 0
            self.window.succeeded(latency, self.now)
        else:
            self.row = 0 if outcome == "error" else self.row + (not again)
            assert self.window.failed(outcome, self.now, again=again) == self.shown()

    def shown(self):
        outcomes = [outcome for outcome, _ in self.recent()]
        failures = len(outcomes) - outcomes.count("success")
        if self.row >= 4:
            return "failures-in-a-row"
        return "failure-share" if len(outcomes) >= 6 and failures >= 0.4 * len(outcomes) else None

    def agrees(self):
        outcomes = [outcome for outcome, _ in self.recent()]
        expected = {outcome: outcomes.count(outcome) for outcome in ("success", *FAILURES)}
        assert self.window.counts(self.now) == expected
        assert self.window.in_a_row == self.row
        latencies = sorted(latency for outcome, latency in self.recent() if outcome == "success")
        median = self.window.median(self.now)
        if len(latencies) < 6:
            assert median is None
        else:
            exact = latencies[(len(latencies) - 1) // 2]
            assert median == pytest.approx(min(max(exact, EDGES[0]), EDGES[-1]), rel=1 / 8)


GAPS = [0.0, 0.0, 0.0, 0.1, 0.25, 0.5, 1.0, 1.0, 2.5, 9.0, 9.5, 10.0, 11.0]
OUTCOMES = ["success"] * 6 + list(FAILURES)


@pytest.mark.parametrize("seed", range(12))
def test_it_equals_a_recomputation(seed):
    chance = random.Random(seed)
    # Looked at always, or now and then: looking moves the window on too.
    looks = 1.0 if seed % 3 == 0 else 0.1
    both = Recomputed()
    for _ in range(600):
        # Times that a slice's edge can meet, in runs that a window can hold, and latencies over all bins and beyond.
        gap = chance.choice(GAPS[: 9 if seed % 2 else None])
        both.happens(gap, chance.choice(OUTCOMES), 10 ** chance.uniform(-5, 2.5), chance.random() < 0.3)
        if chance.random() < looks:
            both.agrees()
        if chance.random() < 0.005:
            both.window.clear()
            both.happened, both.row = [], 0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.0, 12.0), st.sampled_from(OUTCOMES), st.floats(0.0, 100.0), st.booleans()), max_size=60
    )
)
def test_it_equals_a_recomputation_at_any_times(events):
    both = Recomputed()
    for event in events:
        both.happens(*event)
    both.agrees()


@pytest.mark.parametrize(
    ("median", "others", "factor", "is_slow"),
    [
        (9.0, [], 3.0, False),
        (0.4, [0.1], 3.0, True),
        (0.3, [0.1], 3.0, False),
        (0.4, [0.1, 0.1, 5.0], 3.0, True),
        (0.4, [0.1, 0.2], 3.0, False),
        (0.5, [0.1, 0.2], 3.0, True),
        # A factor alone does not make a fast one slow.
        (0.004, [0.001], 3.0, False),
        (0.001 + SLOWER_BY, [0.001], 3.0, True),
        (0.3, [0.2], 0.5, True),
        (0.1, [0.2], 0.1, False),
    ],
)
def test_who_is_slow(median, others, factor, is_slow):
    assert slow(median, others, factor) is is_slow


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=8), st.floats(0.0, 10.0))
def test_the_fastest_is_never_slow(medians, factor):
    fastest = min(range(len(medians)), key=medians.__getitem__)
    others = medians[:fastest] + medians[fastest + 1 :]
    assert not slow(medians[fastest], others, factor)
