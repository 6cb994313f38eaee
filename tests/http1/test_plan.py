"""The table of plans: what is kept in it, and how much."""

import time
from ipaddress import ip_address

import pytest

from proxy.http1 import plan as plans
from proxy.http1.arrival import Arrival
from proxy.http1.plan import LARGEST_KEPT, LEAST_KEPT, MARKS, TABLE_SIZE, Planner
from proxy.wire.refusal import Refusal
from proxy.wire.request_head import HeadLimits, read_request_head
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


async def test_what_is_turned_away_shares_a_plan_of_its_client_method_and_host() -> None:
    async with staged({"cn": answering()}) as stage:
        table, arrival = planner(stage)
        plan = table.undecided(arrival, request("/1"))
        assert table.undecided(arrival, request("/2", headers="Cookie: a=b")) is plan
        assert (plan.head_bytes, plan.head and plan.head.lines) == (b"", ()), "nothing of one is kept for another"
        for like in (request(method="HEAD"), request(host="elsewhere.example")):
            other = table.undecided(arrival, like)
            assert other is not plan
            assert table.undecided(arrival, like) is other


@pytest.mark.parametrize(
    "head",
    [
        request(method="POST", body=b"x"),
        request(headers="Transfer-Encoding: chunked"),
        request(headers="Connection: close"),
        request(version="1.0"),
    ],
)
async def test_what_is_framed_in_another_way_is_read_before_it_is_turned_away(head: bytes) -> None:
    async with staged({"cn": answering()}) as stage:
        table, arrival = planner(stage)
        table.undecided(arrival, request())
        head = head[: head.index(b"\r\n\r\n") + 4]
        assert table.undecided(arrival, head).head == read_request_head(head, HeadLimits(100, 8192))


async def test_what_nobody_would_take_is_refused_though_there_is_no_room() -> None:
    async with staged({"cn": answering()}) as stage:
        table, arrival = planner(stage)
        table.undecided(arrival, request())
        assert table.undecided(arrival, request(headers="Content-Length: x")).verdict == Refusal(
            400, "length-malformed"
        )


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
