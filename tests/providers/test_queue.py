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
    assert [queue.next() for _ in range(4)] == ["a", "b", "c", None]


def test_no_more_than_the_policy_says():
    queue = a_queue(most=2)
    assert [queue.join(name, 0.0) for name in "abc"] == [True, True, False]
    queue.next()
    assert queue.join("c", 0.0)
    assert not a_queue(most=0).join("a", 0.0)


@pytest.mark.parametrize(("waited", "late"), [(1.999, None), (2.0, "a"), (9.0, "a")])
def test_nobody_waits_for_longer_than_the_policy_says(waited, late):
    queue = a_queue()
    queue.join("a", 5.0)
    assert queue.late(5.0 + waited) == late
    assert len(queue) == (late is None)


def test_the_late_are_taken_out_one_by_one():
    queue = a_queue()
    for name, came in (("a", 0.0), ("b", 0.5), ("c", 1.5)):
        queue.join(name, came)
    assert [queue.late(3.0) for _ in range(3)] == ["a", "b", None]
    assert queue.next() == "c"


def test_who_leaves_is_not_served():
    queue = a_queue()
    for name in "abc":
        queue.join(name, 0.0)
    assert queue.leave("b")
    assert not queue.leave("b")
    assert queue.next() == "a"
    assert not queue.leave("a")
    assert queue.next() == "c"


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
            assert queue.next() == (model.popleft()[0] if model else None)
        elif what == "expire":
            late = model.popleft()[0] if model and model[0][1] <= now else None
            assert queue.late(now) == late
        assert len(queue) == len(model) <= most
