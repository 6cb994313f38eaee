"""The table of plans: what is kept in it, and how much."""

import time
from ipaddress import ip_address

import pytest

from proxy.http1 import plan as plans
from proxy.http1.arrival import Arrival
from proxy.http1.plan import LARGEST_KEPT, LEAST_KEPT, MARKS, TABLE_SIZE, Planner
from tests.http1.staging import Stage, answering, request, staged


def planner(stage: Stage) -> tuple[Planner, Arrival]:
    line = stage.plane.line
    return Planner(line, stage.metrics), Arrival(line.policy.listeners[0], ip_address("127.0.0.1"))


@pytest.mark.parametrize("size", [0, LEAST_KEPT + 200, LARGEST_KEPT])
async def test_what_is_kept_is_bounded_by_the_bytes_of_heads(size: int) -> None:
    async with staged({"cn": answering()}) as stage:
        table, arrival = planner(stage)
        now, first = time.time(), None
        plain = len(request("/00000000", headers="X-Filling: "))
        weight = max(size, LEAST_KEPT)
        room = TABLE_SIZE // weight
        for number in range(room + 2):
            head = request(f"/{number:08}", headers="X-Filling: " + "x" * (size - plain))
            table.plan(arrival, head, now)
            plan = table.plan(arrival, head, now)
            assert table.plan(arrival, head, now) is plan, "not kept"
            first = first or (head, plan)
            assert sum(max(len(each), LEAST_KEPT) for each, _ in table._table) == min(number + 1, room) * weight
            assert first is not None
            assert (first[1] in table._table.values()) is (number < room), "the first makes room, and no other"


async def test_what_comes_once_leaves_nothing() -> None:
    """Plans that live for seconds, and then end, would stop the loop when they are made and when they go."""
    async with staged({"cn": answering()}) as stage:
        table, arrival = planner(stage)
        for number in range(3 * MARKS):
            table.plan(arrival, request(f"/{number}"), 0.0)
        assert not table._table


async def test_a_head_past_what_is_kept_is_planned_each_time() -> None:
    async with staged({"cn": answering()}) as stage:
        table, arrival = planner(stage)
        head = request(headers="X-Filling: " + "x" * LARGEST_KEPT)
        table.plan(arrival, head, 0.0)
        assert table.plan(arrival, head, 0.0) is not table.plan(arrival, head, 0.0)
        assert not table._table


async def test_a_head_that_is_planned_again_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "TABLE_SIZE", 3 * LEAST_KEPT)
    async with staged({"cn": answering()}) as stage:
        table, arrival = planner(stage)
        table.plan(arrival, request("/kept"), 0.0)
        kept = table.plan(arrival, request("/kept"), 0.0)
        for minute in range(10):
            table.plan(arrival, request("/again"), minute * plans.KEPT)
        assert table.plan(arrival, request("/kept"), 1.0) is kept
