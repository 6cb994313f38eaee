"""Waiting for a full provider: first come, first served, and nobody for too long."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.balance import Queue
from proxy.providers.queue import ProviderQueue


def a_queue(most=3, longest=2.0):
    return ProviderQueue(Queue(most, longest))


def test_first_come_first_served():
    queue = a_queue()
    assert [queue.join(name, 0.0) for name in "abc"] == [True] * 3
    assert [queue.next(1.0) for _ in range(4)] == [("a", []), ("b", []), ("c", []), (None, [])]


def test_no_more_than_the_policy_says():
    queue = a_queue(most=2)
    assert [queue.join(name, 0.0) for name in "abc"] == [True, True, False]
    queue.next(0.0)
    assert queue.join("c", 0.0)
    assert not a_queue(most=0).join("a", 0.0)


@pytest.mark.parametrize(("waited", "late"), [(1.999, []), (2.0, ["a"]), (9.0, ["a"])])
def test_nobody_waits_for_longer_than_the_policy_says(waited, late):
    queue = a_queue()
    queue.join("a", 5.0)
    assert queue.expired(5.0 + waited) == late
    assert len(queue) == 1 - len(late)


def test_who_waited_too_long_is_not_served_but_told():
    queue = a_queue()
    queue.join("a", 0.0)
    queue.join("b", 1.5)
    assert queue.next(2.0) == ("b", ["a"])
    assert len(queue) == 0


def test_who_leaves_is_not_served():
    queue = a_queue()
    for name in "abc":
        queue.join(name, 0.0)
    assert queue.leave("b")
    assert not queue.leave("b")
    assert queue.next(0.0) == ("a", [])
    assert not queue.leave("a")
    assert queue.next(0.0) == ("c", [])


def test_a_place_is_free_again_when_somebody_leaves():
    queue = a_queue(most=1)
    queue.join("a", 0.0)
    queue.leave("a")
    assert queue.join("b", 0.0)


@given(
    st.integers(0, 5),
    st.lists(st.tuples(st.sampled_from(["join", "leave", "next", "expire"]), st.integers(0, 9), st.floats(0, 3))),
)
def test_against_a_plain_model(most, steps):
    queue, model = ProviderQueue(Queue(most, 2.0)), deque()
    now, number = 0.0, 0
    for what, which, passes in steps:
        now += passes
        late = [name for name, until in model if until <= now]
        if what == "join":
            number += 1
            assert queue.join(number, now) is (len(model) < most)
            if len(model) < most:
                model.append((number, now + 2.0))
        elif what == "leave" and model:
            one = model[which % len(model)]
            model.remove(one)
            assert queue.leave(one[0])
        elif what == "next":
            model = deque(entry for entry in model if entry[1] > now)
            expected = model.popleft()[0] if model else None
            assert queue.next(now) == (expected, late)
        elif what == "expire":
            assert queue.expired(now) == late
            model = deque(entry for entry in model if entry[1] > now)
        assert len(queue) == len(model) <= most
