"""When a request is tried again, in the words of the promises; and a budget that no history exceeds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.balance import Retries
from proxy.providers.retry_budget import WINDOW, RetryBudget, hindrance, may_hedge

RULES = Retries(share=0.2, least=1.0, attempts=3, replay=65536, hedge=0.5)

FRESH = {
    "covered": True,
    "answered": False,
    "idempotent": True,
    "sent": 0,
    "body_read": 0,
    "body_held": 0,
    "attempts": 1,
    "time_left": 10.0,
    "needed": 0.1,
    "budget_left": 5.0,
}
SENT = {"sent": 200}
POST = {"idempotent": False}


@pytest.mark.parametrize(
    ("what", "changes", "expected"),
    [
        ("nothing was sent: again, whatever the method", {}, None),
        ("nothing was sent of a POST", POST, None),
        ("nothing was sent of a POST whose body is being read", POST | {"body_read": 9, "body_held": 9}, None),
        ("an idle connection was closed as it was taken: nothing was sent", POST | {"attempts": 1}, None),
        ("a non-idempotent request fails after sending: never replayed", POST | SENT, "sent"),
        ("even if it was a single byte", POST | {"sent": 1}, "sent"),
        ("and though its body is all held", POST | SENT | {"body_read": 9, "body_held": 9}, "sent"),
        ("idempotent, no body", SENT, None),
        ("idempotent, and the body can be replayed", SENT | {"body_read": 9, "body_held": 9}, None),
        ("idempotent, the body is no longer held", SENT | {"body_read": 9, "body_held": 8}, "body"),
        ("the permit no longer covers the provider", {"covered": False}, "not-permitted"),
        ("the permit comes before everything", {"covered": False, "answered": True, "attempts": 9}, "not-permitted"),
        ("the client has had some of an answer", {"answered": True}, "answered"),
        ("the last attempt", {"attempts": 2}, None),
        ("no attempt left", {"attempts": 3}, "attempts"),
        ("the deadline is over", {"time_left": 0.0}, "time"),
        ("no time for an answer", {"time_left": 0.1}, "time"),
        ("just enough time", {"time_left": 0.11}, None),
        ("the budget is spent", {"budget_left": 0.99}, "budget"),
        ("the budget's last", {"budget_left": 1.0}, None),
    ],
    ids=str,
)
def test_may_it_be_tried_again(what, changes, expected):
    assert hindrance(RULES, **FRESH | changes) == expected, what


def test_never_again_is_a_policy_too():
    assert hindrance(Retries(attempts=1), **FRESH) == "attempts"


@given(
    st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3),
    st.integers(1, 5), st.floats(-1, 5), st.floats(0, 5), st.floats(-5, 5),
)  # fmt: skip
def test_what_holds_for_every_retry(covered, answered, idempotent, sent, read, held, attempts, left, needed, budget):
    found = hindrance(
        RULES, covered=covered, answered=answered, idempotent=idempotent, sent=sent, body_read=read, body_held=held,
        attempts=attempts, time_left=left, needed=needed, budget_left=budget,
    )  # fmt: skip
    if found is None:
        assert covered
        assert not answered
        assert sent == 0 or (idempotent and held >= read)
        assert attempts < 3
        assert left > needed
        assert budget >= 1


LATE = {
    "covered": True,
    "answered": False,
    "reading": True,
    "body": False,
    "waited": 0.5,
    "attempts": 1,
    "time_left": 10.0,
    "needed": 0.1,
    "budget_left": 5.0,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"waited": 0.49}, False),
        ({"reading": False}, False),
        ({"body": True}, False),
        ({"covered": False}, False),
        ({"answered": True}, False),
        ({"attempts": 2}, False),
        ({"time_left": 0.1}, False),
        ({"budget_left": 0.5}, False),
    ],
    ids=str,
)
def test_may_it_be_hedged(changes, expected):
    assert may_hedge(RULES, **LATE | changes) is expected


def test_hedging_is_off_unless_asked_for():
    assert not may_hedge(Retries(), **LATE | {"waited": 1000.0})


# The budget


def spent(budget, now, tries):
    return sum(budget.spend(now) for _ in range(tries))


def test_a_share_of_traffic_on_top_of_a_floor():
    budget = RetryBudget(RULES, 0.0)
    assert budget.left(0.0) == 10.0
    for tick in range(1000):
        budget.request(tick / 1000)
    assert budget.left(1.0) == pytest.approx(210.0)
    assert spent(budget, 1.0, 500) == 210
    assert budget.left(1.0) == 0.0


def test_no_floor_no_traffic_no_retry():
    budget = RetryBudget(Retries(share=0.5, least=0.0), 0.0)
    assert not budget.spend(0.0)
    budget.request(0.0)
    assert not budget.spend(0.0)
    budget.request(0.0)
    assert budget.spend(0.0)


def test_the_window_moves_on():
    budget = RetryBudget(Retries(share=0.1, least=0.0), 0.0)
    for _ in range(100):
        budget.request(0.5)
    assert spent(budget, 0.5, 20) == 10
    for _ in range(100):
        budget.request(6.0)
    assert spent(budget, 6.0, 20) == 10
    assert spent(budget, 10.5, 20) == 0  # the early requests are over, the early retries may not be
    assert budget.left(11.0) == pytest.approx(0.0)
    assert budget.left(1000.0) == 0.0
    for _ in range(10):
        budget.request(1e9)
    assert budget.left(1e9) == pytest.approx(1.0)


@given(
    st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.floats(0, 1e6),
    st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.7, 9.99, 10.0, 25.0]), st.integers(0, 3)), max_size=200),
)
def test_no_window_ever_holds_more_than_the_budget(share, least, start, steps):
    budget = RetryBudget(Retries(share=share, least=least), start)
    now, requests, retries = start, [], []
    for passes, what in steps:
        now += passes
        if what < 2:
            budget.request(now)
            requests.append(now)
        elif budget.spend(now):
            retries.append(now)
            in_window = sum(moment > now - WINDOW for moment in retries)
            allowed = share * sum(moment > now - WINDOW for moment in requests) + least * WINDOW
            assert in_window <= allowed + 1e-6
