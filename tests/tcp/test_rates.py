"""Limits of rate: who is over one is closed before any provider hears of them, and once in is not counted again."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.providers.rates import Exceeded
from proxy.tcp.parting import INTERNAL_ERROR
from tests.tcp.staging import BRITAIN, Peer, Stage, client_hello, echo, eventually, staged
from tests.tcp.test_decisions import FORBIDDEN, reached

LIMITED = "rates: {limits: [{name: few, rate: 0.001, burst: 2, by: network}]}"


async def connected(stage: Stage, listener: str = "pass", source: str | None = None) -> Peer:
    client = await stage.client(listener, source=source)
    await client.send(hello := client_hello())
    assert await client.exactly(len(hello)) == hello
    return client


@pytest.mark.parametrize("listener", ["raw", "pass"])
async def test_who_is_over_a_limit_reaches_nobody(listener: str) -> None:
    async with staged({"own": echo}, more=LIMITED) as stage:
        assert {"few"} == {
            sample.labels["limit"]
            for family in stage.metrics.families()
            for sample in family.samples
            if sample.name == "domicile_rate_limited_total" and sample.labels["listener"] == listener
        }
        first, second = [await connected(stage, listener) for _ in range(2)]
        over = await stage.client(listener)
        await over.send(client_hello())
        if listener == "pass":
            assert await over.rest() == INTERNAL_ERROR
        else:
            assert await over.was_reset() or over.received == b""
        (record,) = await stage.records(1)
        assert (record["reason"], record["provider"], record["attempts"]) == ("rate-limited", None, 0)
        assert (record["to_provider"], record["to_client"]) == (0, 0)
        assert stage.counted("domicile_rate_limited_total", listener=listener, limit="few") == 1
        assert stage.counted("domicile_passed_connections_total", outcome="rate-limited") == 1
        assert len(stage.providers["own"].conversations) == 2
        # Another network has tokens of its own, and who is in stays in, whatever is decided again.
        await connected(stage, listener, BRITAIN)
        stage.swap((stage.folder / "policy.yaml").read_text())
        stage.plane.redecide()
        for client in (first, second):
            await client.send(b"more")
            assert await client.exactly(4) == b"more"
        assert stage.counted("domicile_rate_limited_total") == 1


async def test_who_is_denied_takes_no_token() -> None:
    async with staged({"own": echo}, more=LIMITED, rules=FORBIDDEN) as stage:
        await reached(stage, "own")
        for _ in range(4):
            client = await stage.client()
            await client.was_reset()
        assert {record["reason"] for record in await stage.records(4)} == {"forbidden"}
        text = (stage.folder / "policy.yaml").read_text()
        stage.swap(text.replace(FORBIDDEN, ""))
        for _ in range(2):
            await connected(stage)


class Store:
    """Limits that somebody elsewhere keeps, who answers when told to."""

    shared = True

    def __init__(self, answer: Exceeded | None = None) -> None:
        self.answer = answer
        self.asked = 0
        self.ready = asyncio.Event()

    def tokens(self, limits: object, subject: object, client: object) -> "Store":
        return self

    async def ask(self, now: float) -> Exceeded | None:
        self.asked += 1
        await self.ready.wait()
        return self.answer


def put(stage: Stage, store: Any) -> None:
    stage.plane.swap(replace(stage.opened.passing, rates=store))


@pytest.mark.parametrize("answer", [None, Exceeded("shared", 1.0)])
async def test_a_store_is_waited_for(answer: Exceeded | None) -> None:
    async with staged({"own": echo}) as stage:
        await reached(stage, "own")
        put(stage, store := Store(answer))
        client = await stage.client("pass")
        await client.send(hello := client_hello())
        await eventually(lambda: store.asked == 1)
        assert not stage.providers["own"].conversations
        store.ready.set()
        if answer is None:
            assert await client.exactly(len(hello)) == hello
            stage.plane.redecide()
            assert store.asked == 1
            return
        assert await client.rest() == INTERNAL_ERROR
        assert stage.counted("domicile_rate_limited_total", listener="pass", limit="shared") == 1
        assert not stage.providers["own"].conversations


async def test_who_leaves_while_the_store_is_asked_is_let_go() -> None:
    async with staged({"own": echo}) as stage:
        put(stage, store := Store())
        client = await stage.client()
        await eventually(lambda: store.asked == 1)
        client.reset()
        await stage.nothing_left()
        assert [record["reason"] for record in await stage.records(1)] == ["client-left"]


async def test_what_a_reload_decides_while_the_store_is_asked_counts() -> None:
    async with staged({"own": echo}) as stage:
        await reached(stage, "own")
        put(stage, store := Store())
        client = await stage.client("pass")
        await client.send(client_hello())
        await eventually(lambda: store.asked == 1)
        text = (stage.folder / "policy.yaml").read_text()
        stage.swap(text.replace("rules:\n", f"rules:\n{FORBIDDEN}"))
        store.ready.set()
        assert (await client.rest())[:1] == b"\x15"
        assert not stage.providers["own"].conversations
        (record,) = await stage.records(1)
        assert record["reason"] == "withdrawn"


async def test_a_date_that_passes_while_the_store_is_asked_counts() -> None:
    moves = time.time() + 1.0
    until = datetime.fromtimestamp(moves, UTC).isoformat()
    async with staged({"own": echo}) as stage:
        await reached(stage, "own")
        text = (stage.folder / "policy.yaml").read_text()
        stage.swap(text.replace("- {name: everyone-else, ", f'- {{name: everyone-else, until: "{until}", '))
        put(stage, store := Store())
        client = await stage.client("pass")
        await client.send(client_hello())
        await eventually(lambda: store.asked == 1)
        assert time.time() < moves
        await eventually(lambda: time.time() > moves)
        stage.plane.redecide()  # as the worker does then
        store.ready.set()
        assert (await client.rest())[:1] == b"\x15"
        assert not stage.providers["own"].conversations
        (record,) = await stage.records(1)
        assert record["reason"] == "withdrawn"


async def test_a_mistake_while_the_store_is_asked_ends_the_connection() -> None:
    async with staged({"own": echo}) as stage:
        told: list[object] = []
        stage.plane.loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))
        put(stage, store := Store())
        store.ready = None  # type: ignore[assignment]
        client = await stage.client()
        assert await client.was_reset()
        assert [type(each) for each in told] == [AttributeError]
        await stage.nothing_left()
