"""A mistake of this program, wherever it is met: one request or one connection ends, and the operator is told."""

import asyncio
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from proxy.http1.demands import Demand, Demands
from proxy.http1.plan import Plan, Planner
from proxy.http1.provider import ProviderConnection
from proxy.http1.reading import PROVIDER
from proxy.providers.endpoint import EndpointState
from proxy.wire.server_names import ServerNames
from tests.http1.scenes import PROMISE, eventually, half_close, metric, open_at, reset, told, unforeseen
from tests.http1.staging import answering, policy_text, request, saying, staged


class Mistake(Exception):
    """What this program never raises."""


def mistaken(*args: object, **named: object) -> None:
    raise Mistake


# A dial


@pytest.mark.parametrize(
    ("owner", "name"), [(EndpointState, "connect"), (ProviderConnection, "begin")], ids=["in the dial", "after it"]
)
async def test_around_a_dial_it_is_a_500(owner: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged({"cn": answering(b"served")}) as stage:
        client = await stage.client()
        with unforeseen() as heard, monkeypatch.context() as patched:
            patched.setattr(owner, name, mistaken)
            await client.send(request())
            response = await client.response()
            assert (response.status, response.reason) == (500, "internal")
            await eventually(lambda: bool(heard))
        assert isinstance(heard[0]["exception"], Mistake)
        await eventually(lambda: open_at(stage, "cn") == 0)
        # The connection is as good as before.
        await client.send(request())
        assert (await client.response()).body == b"served"
        assert [record["reason"] for record in await told(stage, 2)] == ["internal", None]


# A connection's end, the sweep, a reload


async def test_a_record_that_cannot_be_made_holds_no_connection_and_no_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged({"cn": saying()}) as stage:
        client = await stage.client()
        await client.send(request())
        await eventually(lambda: any(stage.providers["cn"].heads))
        with unforeseen() as heard:
            monkeypatch.setattr(stage.plane.log, "write", mistaken)
            reset(client)
            async with asyncio.timeout(PROMISE):
                await stage.plane.drain(60.0)
            assert [type(each["exception"]) for each in heard] == [Mistake]
        assert stage.plane.open_connections == 0
        assert metric(stage, "domicile_connections") == 0
        await eventually(lambda: open_at(stage, "cn") == 0)


@pytest.mark.parametrize("step", ["overdue", "end_withdrawn", "hung_up"])
async def test_one_connection_that_cannot_be_swept_ends_and_the_sweep_keeps_all_others(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged({"cn": saying()}, more="timeouts: {first_byte: 1s}") as stage:
        broken, sound = await stage.client(), await stage.client()
        await broken.send(request("/broken"))
        await eventually(lambda: [each.exchange is None for each in stage.plane._connections].count(False) == 1)
        (served,) = [each for each in stage.plane._connections if each.exchange is not None]
        assert served.exchange is not None
        with unforeseen() as heard:
            if step == "end_withdrawn":
                monkeypatch.setattr(type(served.exchange), step, mistaken)
                served.exchange.withdrawn_at = 0.0
            else:
                setattr(served, step, mistaken)
            if step == "overdue":
                served.deadline = 0.0
            elif step == "hung_up":
                served.reading.hold(PROVIDER)
                half_close(broken)
            assert await broken.closed()
            await sound.send(request("/sound"))
            response = await sound.response()
            assert (response.status, response.reason) == (504, "provider-too-slow")
        assert [type(each["exception"]) for each in heard] == [Mistake]
        assert stage.plane.open_connections == 1


@pytest.mark.parametrize("kind", ["reload", "date"])
async def test_one_connection_that_cannot_be_decided_again_ends_and_all_others_are(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged({"cn": saying()}) as stage:
        clients = [await stage.client() for _ in range(3)]
        for client in clients:
            await client.send(request())
        await eventually(lambda: len(stage.providers["cn"].heads) == 3)
        decide, turn = Planner.again, count(1)

        def again(*args: Any) -> Plan:
            if next(turn) == 2:
                raise Mistake
            return decide(*args)

        monkeypatch.setattr(Planner, "again", again)
        with unforeseen() as heard:
            if kind == "reload":
                ports = {"cn": stage.providers["cn"].port}
                stage.plane.swap(stage.line(policy_text(ports), stage.plane.line))
            else:
                stage.plane.redecide()
            await eventually(lambda: stage.plane.open_connections == 2)
        assert [type(each["exception"]) for each in heard] == [Mistake]
        assert next(turn) == 4


async def test_one_connection_whose_demand_cannot_be_compared_ends_and_the_reload_goes_on() -> None:
    async with staged({"cn": answering(b"before")}) as stage:
        clients = [await stage.client() for _ in range(2)]
        for client in clients:
            await client.send(request())
            assert (await client.response()).body == b"before"
        first, second = stage.plane._connections
        first.retire = mistaken  # type: ignore[method-assign]
        line = stage.line(policy_text({"cn": stage.providers["cn"].port}), stage.plane.line)
        demands = {"edge": Demands(ServerNames([frozenset()]), [Demand(mode="optional")])}
        with unforeseen() as heard:
            stage.plane.swap(replace(line, demands=demands))
            assert [type(each["exception"]) for each in heard] == [Mistake]
            await eventually(lambda: first not in stage.plane._connections)
        assert second.last
        assert stage.plane.line.demands is demands


async def test_what_a_connection_that_is_gone_has_not_taken_can_be_asked() -> None:
    async with staged({"cn": answering()}) as stage:
        client = await stage.client()
        await eventually(lambda: stage.plane.open_connections == 1)
        (served,) = stage.plane._connections
        reset(client)
        await eventually(lambda: stage.plane.open_connections == 0)
        assert not served.uptake.progressed()
