"""What becomes of an endpoint by what becomes of the tries at it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.health import Breaker, HealthCheck, Passive
from proxy.providers.health import Company, Health

NOW = 1000.0
CHECK = HealthCheck(kind="tcp")


def a_health(**passive):
    return Health("storage.example:443", 1.0, Passive(**passive), Breaker())


def begun(health, now=NOW):
    tried = health.begin(now)
    assert tried is not None
    return tried


def answered(health, now=NOW, status=200, seconds=0.01):
    tried = begun(health, now)
    tried.answered(seconds, now + seconds)
    tried.completed(status, now + seconds)


def test_what_is_well_stays_steady():
    health = a_health()
    for second in range(100):
        answered(health, NOW + second)
    assert (health.steady, health.word(NOW), health.share(NOW), health.trips) == (True, "closed", 1.0, 0)
    assert (health.load.outstanding, health.load.awaited) == (0, 0)


def test_who_cannot_be_reached_is_left_alone_at_once():
    health = a_health()
    answered(health, NOW - 10)
    health.unreached(NOW, NOW + 0.001)
    assert (health.word(NOW + 1), health.share(NOW + 1), health.trips) == ("open", 0.0, 1)
    assert health.begin(NOW + 1) is None
    assert not health.in_service(NOW + 1)


def test_who_answered_somebody_meanwhile_is_not_left_alone_for_one_connection():
    health = a_health()
    for strike in (1, 2):
        answered(health, NOW + strike + 0.5)
        health.unreached(NOW + strike, NOW + strike + 1)
        assert health.steady
    health.unreached(NOW + 4, NOW + 5)
    assert not health.steady


def test_many_connections_that_fail_together_are_one_trip():
    health = a_health()
    for late in range(50):
        health.unreached(NOW, NOW + late / 100)
    assert (health.trips, health.breaker.trips) == (1, 1)


def test_failures_in_a_row_open_it_and_what_began_before_is_not_heard():
    health = a_health()
    tries = [begun(health) for _ in range(8)]
    for tried in tries[:2]:
        tried.failed("truncation", NOW + 1)
    assert health.steady
    tries[2].failed("timeout", NOW + 1)
    assert health.word(NOW + 1) == "open"
    tries[3].completed(200, NOW + 2)
    tries[4].failed("truncation", NOW + 2)
    assert sum(health.window.counts(NOW + 2).values()) == 0
    assert health.trips == 1
    # Nor once it may be tried again: those are no trials.
    tries[5].failed("truncation", NOW + 7)
    tries[6].completed(200, NOW + 7)
    assert health.word(NOW + 7) == "half-open"
    tries[7].left()
    assert (health.load.outstanding, health.load.awaited) == (0, 0)


def poisoned(healths, now=NOW, failure="truncation"):
    """One request that fails at each of these in turn."""
    before = None
    for health in healths:
        tried = begun(health, now)
        tried.failed(failure, now, before)
        before = tried


@pytest.mark.parametrize("failure", ["truncation", "timeout"])
def test_a_request_that_failed_elsewhere_too_is_none_of_the_failures_in_a_row(failure):
    first, second, third = healths = [a_health() for _ in range(3)]
    for _ in range(3):
        poisoned(healths, failure=failure)
    assert [health.word(NOW) for health in healths] == ["open", "closed", "closed"]
    for health in (second, third):
        assert (health.window.counts(NOW)[failure], health.window.in_a_row) == (3, 0)
    for _ in range(3):
        poisoned([second, third], failure=failure)
    assert [health.word(NOW) for health in healths] == ["open", "open", "closed"]
    assert first.trips == second.trips == 1


def test_what_fails_at_one_endpoint_twice_is_two_failures_in_a_row():
    health = a_health()
    poisoned([health, health])
    assert health.window.in_a_row == 2


def test_requests_that_failed_elsewhere_too_count_towards_the_share():
    first, second = a_health(consecutive=None, share=None), a_health(samples=10)
    for _ in range(10):
        assert second.steady
        poisoned([first, second])
    assert second.word(NOW) == "open"


def test_a_trial_that_failed_elsewhere_too_opens_it_at_once():
    first, second = a_health(), a_health()
    second.unreached(NOW, NOW)
    poisoned([first, second], NOW + 5)
    assert (second.word(NOW + 5), second.trips) == ("open", 2)


def test_answers_that_are_failures_are_counted_by_their_status():
    health = a_health(samples=10, share=0.5, consecutive=None)
    for _ in range(5):
        answered(health, status=404)
    for _ in range(5):
        assert health.steady
        answered(health, status=503)
    assert health.word(NOW + 1) == "open"
    asked_for = a_health(samples=1, share=0.1)
    answered(asked_for, status=501)
    assert asked_for.steady


def test_it_comes_back_by_trials_and_slowly():
    health = a_health()
    health.unreached(NOW, NOW)
    later = NOW + 5
    trials = [begun(health, later) for _ in range(3)]
    assert health.begin(later) is None
    assert not health.trial(later)
    for tried in trials:
        tried.completed(200, later + 0.1)
    assert health.word(later + 0.1) == "slow-start"
    assert health.share(later + 0.1) == pytest.approx(0.1)
    answered(health, later + 5)
    assert not health.steady
    answered(health, later + 11)
    assert health.steady


def test_a_trial_that_fails_opens_it_for_longer():
    health = a_health()
    health.unreached(NOW, NOW)
    begun(health, NOW + 5).left()  # a client that left: nothing is learnt
    health.unreached(NOW + 5, NOW + 6)
    assert health.word(NOW + 6 + 9.9) == "open"
    assert health.word(NOW + 6 + 10) == "half-open"
    assert health.trips == 2


def test_a_trial_that_is_answered_with_an_error_is_one_of_those_that_decide():
    for statuses, word in (((500, 200, 200), "slow-start"), ((200, 500, 503), "open"), ((501, 200, 500), "slow-start")):
        health = a_health()
        health.unreached(NOW, NOW)
        for status in statuses:
            assert health.word(NOW + 5) == "half-open"
            begun(health, NOW + 5).completed(status, NOW + 5)
        assert health.word(NOW + 5) == word


@pytest.mark.parametrize("failure", ["timeout", "truncation"])
def test_a_trial_that_is_cut_off_opens_it_at_once(failure):
    health = a_health()
    health.unreached(NOW, NOW)
    begun(health, NOW + 5).failed(failure, NOW + 5)
    assert health.word(NOW + 5) == "open"


def test_a_share_of_errors_among_trials_does_not_overrule_them():
    health = Health("storage.example:443", 1.0, Passive(samples=1, share=0.1), Breaker(trials=2))
    health.unreached(NOW, NOW)
    begun(health, NOW + 5).completed(200, NOW + 5)
    begun(health, NOW + 5).completed(500, NOW + 5)
    assert (health.word(NOW + 5), health.trips) == ("slow-start", 1)
    answered(health, NOW + 6, status=500)
    assert health.word(NOW + 7) == "open", "by then it is for the window to say"


def test_a_trial_of_which_nothing_is_learnt_is_given_out_again():
    health = a_health()
    health.unreached(NOW, NOW)
    trials = [begun(health, NOW + 5) for _ in range(3)]
    assert health.begin(NOW + 5) is None
    for _ in range(50):
        trials.pop().left()
        trials.append(begun(health, NOW + 5))
        assert health.begin(NOW + 5) is None
    trials[0].completed(200, NOW + 5)
    trials[1].connected(0.01, NOW + 5)
    for told in trials[:2]:
        told.left()  # that they ended well is known: they are not given out again
    assert health.breaker.tried == 3
    trials[2].left()
    begun(health, NOW + 6).completed(200, NOW + 6)
    assert health.word(NOW + 6) == "slow-start"
    assert health.load.outstanding == 0


def test_a_trial_that_is_left_late_makes_no_more_of_them():
    health = a_health()
    health.unreached(NOW, NOW)
    early = [begun(health, NOW + 5) for _ in range(3)]
    later = [begun(health, NOW + 10) for _ in range(3)]  # as many anew
    for tried in early:
        tried.left()
    assert health.begin(NOW + 11) is None
    later[0].failed("timeout", NOW + 11)
    for tried in later:
        tried.left()
    assert (health.word(NOW + 12), health.breaker.tried) == ("open", 0)


def test_what_is_connected_after_its_end_is_not_heard():
    health = a_health()
    tried = begun(health)
    tried.left()
    tried.connected(0.01, NOW)
    assert (health.load.outstanding, health.load.awaited, health.answered) == (0, 0, float("-inf"))


def test_a_slow_start_ends_without_anybody_noticing():
    health = a_health()
    health.unreached(NOW, NOW)
    for _ in range(3):
        begun(health, NOW + 5).completed(200, NOW + 5)
    assert health.begin(NOW + 60) is not None
    assert health.steady


def test_a_client_that_leaves_and_a_second_end_say_nothing():
    health = a_health()
    for end in range(50):
        tried = begun(health)
        if end % 2:
            tried.answered(0.1, NOW)
        tried.left()
        tried.failed("timeout", NOW)
        tried.completed(200, NOW)
        tried.left()
    assert health.steady
    assert sum(health.window.counts(NOW).values()) == 0
    assert (health.load.outstanding, health.load.awaited) == (0, 0)


def test_what_is_passed_on_succeeds_by_being_connected_and_counts_until_it_ends():
    health = a_health()
    health.unreached(NOW, NOW)
    tries = [begun(health, NOW + 5) for _ in range(3)]
    for tried in tries:
        tried.connected(0.01, NOW + 5)
    assert health.word(NOW + 5) == "slow-start"
    assert health.load.outstanding == 3
    for tried in tries:
        tried.left()
    assert health.load.outstanding == 0


def test_checks_take_it_out_and_bring_it_back():
    health = a_health()
    for _ in range(CHECK.unhealthy):
        assert health.in_service(NOW)
        health.checked(CHECK, False, NOW)
    assert health.word(NOW) == "open"
    assert health.trips == 1
    # While they say so no request is a trial, whatever time it is.
    assert health.begin(NOW + 3600) is None
    assert not health.in_service(NOW + 3600)
    assert health.word(NOW + 3600) == "open", "not half-open, for nothing is tried"
    for _ in range(CHECK.healthy):
        assert health.begin(NOW + 3600) is None
        health.checked(CHECK, True, NOW + 3600)
    assert health.word(NOW + 3600) == "slow-start"


def test_what_is_held_gets_nothing_whatever_is_well_with_it():
    health = a_health()
    tried = begun(health)
    health.hold(True)
    assert (health.word(NOW), health.share(NOW), health.trial(NOW)) == ("open", 0.0, False)
    assert health.begin(NOW) is None
    tried.completed(200, NOW + 1)
    health.checked(CHECK, True, NOW + 1)
    assert health.begin(NOW + 1) is None
    assert not health.steady
    assert health.trips == 0
    health.hold(False)
    assert health.steady
    assert health.begin(NOW + 1) is not None


def test_an_outlier_is_taken_out_like_any_other():
    health = a_health()
    health.outlier(NOW)
    assert health.word(NOW) == "open"


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "answer", "err", "fail", "leave", "unreached", "good", "bad", "hold", "release"]),
        st.floats(0, 8),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens_its_figures_agree(events):
    health, now, tries = a_health(), NOW, []
    health.join(company := Company())
    for event, later, which in events:
        now += later
        tried = tries.pop(which % len(tries)) if tries and event in ("answer", "err", "fail", "leave") else None
        if event == "begin":
            allowed = health.share(now) > 0 or health.trial(now)
            fresh = health.begin(now)
            assert (fresh is not None) is allowed
            if fresh:
                tries.append(fresh)
        elif tried and event == "answer":
            tried.completed(200, now)
        elif tried and event == "err":
            tried.completed(500, now)
        elif tried and event == "fail":
            tried.failed("timeout", now)
        elif tried:
            tried.left()
        elif event == "unreached":
            health.unreached(now, now)
        elif event in ("good", "bad"):
            health.checked(CHECK, event == "good", now)
        elif event in ("hold", "release"):
            health.hold(event == "hold")
        assert health.steady is (health.breaker.kind == "closed" and not health.held)
        assert company.unsteady == (not health.steady)
        assert health.load.outstanding == len(tries)
        if health.word(now) == "open":
            assert health.begin(now) is None
