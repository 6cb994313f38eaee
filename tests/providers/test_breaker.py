"""The breaker: what each event makes of each state, and what holds whatever happens."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.policy.health import Breaker
from proxy.providers.breaker import LEAST_SHARE, BreakerState, open_for

B = Breaker(open=5.0, longest=60.0, trials=3, slow_start=10.0)

CLOSED = BreakerState(B)
OPEN = CLOSED.tripped(100.0)  # until 105
OPEN_DOWN = CLOSED.checked(False, 100.0)
HALF = OPEN.at(105.0)
HALF_DOWN = OPEN_DOWN.at(105.0)
ONE_ILL = HALF.erred(105.0, 105.0)
ONE_EACH = ONE_ILL.succeeded(105.0, 105.0)
TWO_ILL = ONE_ILL.erred(105.0, 105.0)
SLOW = HALF.succeeded(105.0, 106.0).succeeded(105.0, 106.0).succeeded(105.0, 106.0)  # until 116
BACK = SLOW.at(116.0)

STATES = {
    "closed": CLOSED,
    "open": OPEN,
    "open-down": OPEN_DOWN,
    "half-open": HALF,
    "half-open-down": HALF_DOWN,
    "one ill": ONE_ILL,
    "one each": ONE_EACH,
    "two ill": TWO_ILL,
    "slow-start": SLOW,
    "back": BACK,
}

EVENTS = {
    "tripped": lambda state, now: state.tripped(now),
    "trying": lambda state, now: state.trying(now),
    "success": lambda state, now: state.succeeded(now, now),
    "late success": lambda state, now: state.succeeded(99.0, now),
    "error": lambda state, now: state.erred(now, now),
    "late error": lambda state, now: state.erred(99.0, now),
    "failure": lambda state, now: state.failed(now, now),
    "late failure": lambda state, now: state.failed(99.0, now),
    "up": lambda state, now: state.checked(True, now),
    "down": lambda state, now: state.checked(False, now),
    "time": lambda state, now: state.at(now),
}


def said(state):
    return state.kind + ("-down" if state.down else "")


@pytest.mark.parametrize(
    ("before", "event", "now", "after", "until"),
    [
        # Closed: only a trip or the checks open it; a failure alone says nothing.
        ("closed", "success", 100.0, "closed", inf),
        ("closed", "failure", 100.0, "closed", inf),
        ("closed", "error", 100.0, "closed", inf),
        ("closed", "trying", 100.0, "closed", inf),
        ("closed", "up", 100.0, "closed", inf),
        ("closed", "time", 1e9, "closed", inf),
        ("closed", "tripped", 100.0, "open", 105.0),
        ("closed", "down", 100.0, "open-down", 105.0),
        # Open: nothing but time ends it, and nothing makes it longer.
        ("open", "tripped", 104.0, "open", 105.0),
        ("open", "trying", 104.0, "open", 105.0),
        ("open", "success", 104.0, "open", 105.0),
        ("open", "failure", 104.0, "open", 105.0),
        ("open", "error", 104.0, "open", 105.0),
        ("open", "up", 104.0, "open", 105.0),
        ("open", "down", 104.0, "open-down", 105.0),
        ("open", "time", 104.999, "open", 105.0),
        ("open", "time", 105.0, "half-open", inf),
        ("open", "time", 1e9, "half-open", inf),
        # Opened by the checks: they end it.
        ("open-down", "up", 102.0, "slow-start", 112.0),
        ("open-down", "success", 102.0, "open-down", 105.0),
        ("open-down", "down", 102.0, "open-down", 105.0),
        ("open-down", "time", 105.0, "half-open-down", inf),
        # Half-open: a failure opens it, for twice as long; one that began before says nothing.
        ("half-open", "trying", 106.0, "half-open", 111.0),
        ("half-open", "success", 106.0, "half-open", inf),
        ("half-open", "late success", 106.0, "half-open", inf),
        ("half-open", "failure", 106.0, "open", 116.0),
        ("half-open", "late failure", 106.0, "half-open", inf),
        ("half-open", "tripped", 106.0, "half-open", inf),
        ("half-open", "up", 106.0, "half-open", inf),
        ("half-open", "down", 106.0, "open-down", 116.0),
        ("half-open", "time", 1e9, "half-open", inf),
        # An error is a trial that ended ill: when three have ended, most of them decide. All else is as it was.
        ("half-open", "error", 106.0, "half-open", inf),
        ("half-open", "late error", 106.0, "half-open", inf),
        ("one ill", "error", 106.0, "half-open", inf),
        ("one ill", "success", 106.0, "half-open", inf),
        ("one ill", "failure", 106.0, "open", 116.0),
        ("one each", "success", 106.0, "slow-start", 116.0),
        ("one each", "up", 106.0, "slow-start", 116.0),
        ("one each", "error", 106.0, "open", 116.0),
        ("one each", "failure", 106.0, "open", 116.0),
        ("one each", "late error", 106.0, "half-open", inf),
        ("one each", "down", 106.0, "open-down", 116.0),
        ("one each", "time", 1e9, "half-open", inf),
        ("two ill", "error", 106.0, "open", 116.0),
        ("two ill", "success", 106.0, "open", 116.0),
        ("two ill", "up", 106.0, "open", 116.0),
        # While the checks say that it is down, they alone are the trials.
        ("half-open-down", "success", 106.0, "half-open-down", inf),
        ("half-open-down", "failure", 106.0, "half-open-down", inf),
        ("half-open-down", "error", 106.0, "half-open-down", inf),
        ("half-open-down", "down", 106.0, "half-open-down", inf),
        ("half-open-down", "up", 106.0, "slow-start", 116.0),
        # Slow start: like closed, and a trip opens it for twice as long.
        ("slow-start", "success", 110.0, "slow-start", 116.0),
        ("slow-start", "failure", 110.0, "slow-start", 116.0),
        ("slow-start", "error", 110.0, "slow-start", 116.0),
        ("slow-start", "up", 110.0, "slow-start", 116.0),
        ("slow-start", "tripped", 110.0, "open", 120.0),
        ("slow-start", "down", 110.0, "open-down", 120.0),
        ("slow-start", "time", 116.0, "closed", inf),
        # Closed again: the trips are remembered for `longest`.
        ("back", "tripped", 120.0, "open", 130.0),
        ("back", "tripped", 175.999, "open", 185.999),
        ("back", "tripped", 176.0, "open", 181.0),
        # An event that comes after the state's own end meets what followed.
        ("open", "failure", 106.0, "open", 116.0),
        ("open", "trying", 106.0, "half-open", 111.0),
        ("slow-start", "tripped", 200.0, "open", 205.0),
        ("open-down", "up", 1000.0, "slow-start", 1010.0),
    ],
)
def test_the_table(before, event, now, after, until):
    state = EVENTS[event](STATES[before], now)
    assert said(state) == after
    assert state.until == until


@pytest.mark.parametrize(
    ("name", "now", "share", "trial"),
    [
        ("closed", 100.0, 1.0, False),
        ("open", 100.0, 0.0, False),
        ("open", 104.999, 0.0, False),
        ("open", 105.0, 0.0, True),
        ("open-down", 104.0, 0.0, False),
        ("open-down", 105.0, 0.0, False),
        ("half-open", 106.0, 0.0, True),
        ("half-open-down", 106.0, 0.0, False),
        ("slow-start", 106.0, LEAST_SHARE, False),
        ("slow-start", 111.0, LEAST_SHARE + (1 - LEAST_SHARE) / 2, False),
        ("slow-start", 116.0, 1.0, False),
        ("back", 116.0, 1.0, False),
    ],
)
def test_what_it_lets_through(name, now, share, trial):
    assert STATES[name].share(now) == pytest.approx(share)
    assert STATES[name].trial(now) is trial


def test_when_all_are_open_nothing_is_tried_but_trials():
    # There is no panic threshold: the last one opens like the first, and no state knows of another.
    fleet = [CLOSED.tripped(100.0 + place / 10) for place in range(50)]
    for now in (104.9, 104.99):
        assert sum(state.share(now) for state in fleet) == 0
        assert not any(state.trial(now) for state in fleet)
    assert [state.trial(107.0) for state in fleet] == [True] * 21 + [False] * 29
    assert sum(state.share(1e9) for state in fleet) == 0
    given_out = 0
    for state in fleet:
        while state.trial(1e9):
            state = state.trying(1e9)
            given_out += 1
    assert given_out == 50 * B.trials


def test_trials_are_few_and_come_anew():
    state = HALF
    for _ in range(B.trials):
        assert state.trial(106.0)
        state = state.trying(106.0)
    assert not state.trial(110.999)
    # None of them was ever heard of again.
    assert state.trial(111.0)
    assert state.trying(111.0).tried == 1


def test_successes_of_two_rounds_add_up():
    state = HALF.trying(106.0).succeeded(106.0, 107.0).trying(120.0).succeeded(120.0, 121.0)
    assert said(state) == "half-open"
    assert said(state.trying(121.0).succeeded(121.0, 122.0)) == "slow-start"


@pytest.mark.parametrize(
    ("trials", "ends", "kind"),
    [
        (1, [False], "open"),
        (1, [True], "slow-start"),
        (2, [False, True], "slow-start"),
        (2, [False, False], "open"),
        (4, [False, True, True, False], "slow-start"),
        (4, [False, False, True], "half-open"),
        (4, [False, False, True, False], "open"),
    ],
)
def test_the_majority_of_trials_decides_and_a_draw_is_for_the_endpoint(trials, ends, kind):
    state = BreakerState(replace(B, trials=trials)).tripped(100.0).at(105.0)
    for good in ends:
        assert state.kind == "half-open"
        state = state.succeeded(105.0, 106.0) if good else state.erred(105.0, 106.0)
    assert state.kind == kind


def test_who_knows_a_path_that_errs_does_not_keep_out_whoever_answers_all_others():
    state = HALF.trying(106.0).erred(106.0, 106.0)
    for _ in range(2):
        state = state.trying(107.0).succeeded(107.0, 107.0)
    assert said(state) == "slow-start"


def test_errors_of_two_rounds_add_up():
    state = HALF.trying(106.0).erred(106.0, 107.0).trying(120.0).erred(120.0, 121.0)
    assert (said(state), state.passed, state.ill) == ("half-open", 0, 2)
    again = state.trying(121.0).erred(121.0, 122.0)
    assert (said(again), again.until, again.ill) == ("open", 132.0, 0)


@given(st.integers(1, 7), st.lists(st.booleans(), min_size=7, max_size=7))
def test_no_trial_after_the_last_is_asked(trials, ends):
    state = BreakerState(replace(B, trials=trials)).tripped(100.0).at(105.0)
    for good in ends[:trials]:
        assert state.kind == "half-open"
        state = state.succeeded(105.0, 106.0) if good else state.erred(105.0, 106.0)
    assert state.kind == ("slow-start" if 2 * sum(ends[:trials]) >= trials else "open")
    assert state.trips == (1 if state.kind == "slow-start" else 2)


def test_what_a_dead_provider_left_behind_closes_nothing():
    state = HALF
    for _ in range(2 * B.trials):
        state = state.succeeded(99.0, 106.0).erred(99.0, 106.0)
    assert state == HALF


def test_checks_that_never_saw_it_down_are_trials():
    # Quiet providers come back too.
    assert said(HALF.checked(True, 106.0).checked(True, 111.0).checked(True, 116.0)) == "slow-start"


def test_an_outcome_from_before_it_opened_counts_for_nothing():
    assert not OPEN.counts(99.9)
    assert not SLOW.counts(99.9)
    assert BACK.counts(100.0)
    assert CLOSED.counts(-1e9)


def test_without_a_slow_start_it_closes_at_once():
    state = BreakerState(replace(B, slow_start=0.0, trials=1)).tripped(100.0).succeeded(105.0, 106.0)
    assert said(state) == "closed"
    assert state.share(106.0) == 1.0


@pytest.mark.parametrize(("trips", "seconds"), [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60), (10_000, 60)])
def test_it_opens_for_twice_as_long_up_to_a_bound(trips, seconds):
    assert open_for(B, trips) == seconds


def test_a_bound_below_the_first_time_does_not_shorten_it():
    assert open_for(replace(B, longest=1.0), 7) == 5.0


def test_a_success_costs_a_closed_one_no_new_state():
    assert CLOSED.succeeded(1.0, 2.0) is CLOSED


@given(st.sampled_from(list(STATES.values())), st.lists(st.floats(100.0, 1e6), min_size=2, max_size=2).map(sorted))
def test_time_passes_the_same_in_one_step_or_two(state, times):
    first, second = times
    assert state.at(first).at(second) == state.at(second)


@given(st.floats(0.001, 3600.0), st.lists(st.floats(0.0, 1.0), min_size=2, max_size=2).map(sorted))
def test_a_slow_start_never_falls(seconds, parts):
    state = BreakerState(replace(B, slow_start=seconds, trials=1)).tripped(0.0).succeeded(5.0, 5.0)
    early, late = (state.share(5.0 + seconds * part) for part in parts)
    assert LEAST_SHARE <= early <= late <= 1.0
    assert state.share(5.0 + seconds) == 1.0


class Life(RuleBasedStateMachine):
    """Any events at any times. Kept beside the state: when it last opened, and what was let through since."""

    def __init__(self):
        super().__init__()
        self.state = BreakerState(B)
        self.now = 1000.0
        self.opened = None
        self.down = False
        self.running = []
        self.trials = []

    def become(self, state):
        opens = state.kind == "open" and (self.state.kind != "open" or state.since != self.state.since)
        if opens:
            assert self.state.kind != "open" or self.now >= self.state.until
            self.opened = self.now
            self.trials = []
        self.state = state

    @rule(seconds=st.one_of(st.floats(0.0, 3.0), st.floats(0.0, 100.0), st.just(5.0)))
    def pass_time(self, seconds):
        self.now += seconds

    @rule()
    def look(self):
        self.become(self.state.at(self.now))

    @rule()
    def begin(self):
        """A request begins where one may."""
        if self.state.trial(self.now):
            assert not self.down
            self.become(self.state.trying(self.now))
            self.trials.append(self.now)
        elif self.state.share(self.now) == 0.0:
            return
        self.running.append(self.now)

    @rule(data=st.data(), end=st.sampled_from(["succeeded", "erred", "failed"]))
    def finish(self, data, end):
        if self.running:
            began = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
            heard = getattr(self.state, end)
            stale = self.opened is not None and began < self.opened
            after = heard(began, self.now)
            before = self.state.at(self.now)
            if stale or before.down:
                assert after == before
            elif before.kind == "half-open" and end != "failed":
                passed, ill = before.passed + (end == "succeeded"), before.ill + (end == "erred")
                decides = passed + ill == B.trials
                assert after.at(self.now).kind == (
                    "half-open" if not decides else "open" if ill > passed else "slow-start"
                )
            self.become(after)

    @rule()
    def trip(self):
        self.become(self.state.tripped(self.now))

    @rule(up=st.booleans())
    def check(self, up):
        self.down = not up
        self.become(self.state.checked(up, self.now))
        assert self.state.down is self.down
        if self.down:
            assert self.state.share(self.now) == 0.0

    @invariant()
    def nothing_while_open(self):
        if self.state.kind == "open" and self.now < self.state.until:
            assert self.state.share(self.now) == 0.0
            assert not self.state.trial(self.now)

    @invariant()
    def half_open_in_bounded_time(self):
        if self.state.kind == "open":
            assert B.open <= self.state.until - self.state.since <= B.longest
            assert self.state.at(self.state.until).kind == "half-open"
            assert self.state.at(self.opened + B.longest).kind == "half-open"

    @invariant()
    def few_trials(self):
        recent = [began for began in self.trials if began > self.now - B.open]
        assert len(recent) < 2 * B.trials

    @invariant()
    def no_verdict_is_put_off(self):
        if self.state.kind in ("open", "half-open"):
            assert self.state.passed + self.state.ill < B.trials

    @invariant()
    def a_share_is_a_share(self):
        assert 0.0 <= self.state.share(self.now) <= 1.0
        assert self.state.share(self.now) == self.state.at(self.now).share(self.now)
        assert self.state.trial(self.now) == self.state.at(self.now).trial(self.now)

    @invariant()
    def no_wedge(self):
        """From anywhere, a provider that answers is back within a bounded time, by requests or by checks."""
        state, now = self.state, self.now
        for _ in range(200):
            if state.at(now).kind == "closed":
                return
            if state.trial(now):
                state = state.trying(now).succeeded(now, now)
            elif state.down:
                state = state.checked(True, now)
            now += 1.0
        raise AssertionError("it never came back")


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
