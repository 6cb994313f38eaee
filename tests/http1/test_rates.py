"""Limits of rate: who is let in, who has to come again, and that a store is neither waited for nor trusted for long."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from os import urandom
from pathlib import Path

import pytest

from proxy.identity.answers import Answer, Home, Silent
from proxy.identity.evidence import Evidence
from proxy.identity.identify import Sources
from proxy.identity.places import Places
from proxy.providers import rate_store
from tests.http1.scenes import eventually, metric, own_tasks, reset, told
from tests.http1.staging import BRITAIN, HONG_KONG, MAINLAND, Stage, answering, policy_text, request, staged
from tests.identity.directory.servers import valkey

CN = {"cn": answering(b"cn")}
# A rate so low that no test is long enough for another token.
LIMIT = "{name: uploads, rate: 0.001, burst: 2, by: network}"


def rates(*limits: str, store: str = "") -> str:
    return f"rates: {{{store}limits: [{', '.join(limits)}]}}"


def received(stage: Stage, provider: str = "cn") -> int:
    return sum(head.count(b"\r\n\r\n") for head in stage.providers[provider].heads)


async def statuses(stage: Stage, *requests: bytes) -> list[int]:
    """Of requests on one connection."""
    client = await stage.client()
    found = []
    for data in requests:
        await client.send(data)
        found.append((await client.response(data.split(b" ")[0].decode())).status)
    return found


async def test_who_asks_too_often_has_to_come_again() -> None:
    async with staged(CN, more=rates(LIMIT)) as stage:
        client = await stage.client()
        for status in (200, 200, 429, 429):
            await client.send(request("/alike"))
            response = await client.response()
            assert response.status == status
        assert response.reason == "rate-limited"
        assert 990 <= int(response.header("retry-after") or 0) <= 1000
        assert received(stage) == 2
        assert metric(stage, "domicile_rate_limited_total", listener="edge", limit="uploads") == 2
        # Another head, another connection: still the same client. Another client is not held up.
        assert await statuses(stage, request("/other"), request("/other", xff="1.2.4.9")) == [429, 200]
        records = await told(stage, 6)
        assert [record["reason"] for record in records] == [None, None, *["rate-limited"] * 3, None]
        assert records[2]["home"] == "cn-mainland"
        assert records[2]["provider"] is None
        assert stage.plane.admission.limit.under_way == 0


@pytest.mark.parametrize(
    ("data", "stays"),
    [
        (request(method="HEAD"), True),
        (request(method="PUT", body=b"12345"), False),
        (request(headers="Connection: close"), False),
        (request(version="1.0"), False),
    ],
)
async def test_the_connection_stays_if_it_is_known_where_the_next_request_begins(data: bytes, stays: bool) -> None:
    async with staged(CN, more=rates(LIMIT)) as stage:
        assert await statuses(stage, request(), request()) == [200, 200]
        client = await stage.client()
        await client.send(data)
        assert (await client.response(data.split(b" ")[0].decode())).status == 429
        if stays:
            await client.send(request(xff="1.2.4.9"))
            assert (await client.response()).status == 200
        else:
            assert await client.closed()
        assert received(stage) == 2 + stays


async def test_a_limit_is_of_what_matches_it_and_each_that_matches_has_to_be_passed() -> None:
    writes = "{name: writes, rate: 0.001, burst: 1, by: network, when: {method: write}}"
    async with staged(CN, more=rates(LIMIT, writes)) as stage:
        post, read = request(method="POST", body=b"1"), request()
        assert [(await stage.ask(each)).status for each in (post, post, read, read)] == [200, 429, 200, 429]
        assert metric(stage, "domicile_rate_limited_total", limit="writes") == 1
        assert metric(stage, "domicile_rate_limited_total", limit="uploads") == 1


async def test_what_is_denied_anyway_is_denied() -> None:
    async with staged(CN, more=rates(LIMIT)) as stage:
        assert await statuses(stage, *[request(xff=BRITAIN)] * 4) == [451] * 4


class Account:
    """A source that knows everybody: their subject is in a header, their home is Europe."""

    kind = "directory"

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Answer:
        named = dict(evidence.fields).get(b"x-account")
        return Home("eu", named and named.decode(), "subject", None)

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        return frozenset()


async def test_a_subject_has_one_bucket_wherever_it_is() -> None:
    by_subject = LIMIT.replace(", by: network", "")
    async with staged({**CN, "eu": answering(b"eu")}, more=rates(by_subject)) as stage:
        line = stage.plane.line
        stage.plane.swap(replace(line, sources=Sources([Account()], Places(line.policy.zones))))  # type: ignore[list-item]

        def asks(account: str, xff: str) -> bytes:
            return request(xff=xff, headers=f"X-Account: {account}" if account else "X-Nobody: 1")

        one = [asks("alice", MAINLAND), asks("alice", HONG_KONG), asks("alice", BRITAIN), asks("bob", MAINLAND)]
        assert await statuses(stage, *one) == [200, 200, 429, 200]
        # Whom nobody verified counts for the network.
        assert await statuses(stage, *[asks("", MAINLAND)] * 3, asks("", HONG_KONG)) == [200, 200, 429, 200]
        log = (stage.directory / "access.log").read_text()
        assert "alice" not in log


async def test_a_reload_keeps_the_buckets_of_what_it_leaves_as_it_is() -> None:
    other = "{name: other, rate: 0.001, burst: 2, by: network}"
    async with staged(CN, more=rates(LIMIT)) as stage:
        ports = {"cn": stage.providers["cn"].port}
        client = await stage.client()

        async def asks() -> int:
            await client.send(request())
            return (await client.response()).status

        def reload(*limits: str) -> None:
            more = rates(*limits) if limits else ""
            stage.plane.swap(stage.line(policy_text(ports, more=more), stage.plane.line))

        assert [await asks(), await asks(), await asks()] == [200, 200, 429]
        reload(LIMIT, other)
        assert await asks() == 429
        reload(LIMIT.replace("burst: 2", "burst: 3"))
        assert await asks() == 200
        reload()
        assert [await asks() for _ in range(5)] == [200] * 5


# With a store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with valkey(tmp_path_factory.mktemp("valkey")) as port:
        yield port


def at(port: int, folder: Path) -> str:
    """The policy's words for a store. A prefix of its own: a server serves several tests."""
    secret = folder / "secret"
    secret.write_text(urandom(32).hex())
    store = f"{{url: 'valkey://127.0.0.1:{port}', prefix: '{folder.name}:'}}"
    return f"store: {store}, secret: {secret}, "


async def test_instances_share_their_buckets(store: int, tmp_path: Path) -> None:
    more = rates(LIMIT, store=at(store, tmp_path))
    async with staged(CN, more=more) as one, staged(CN, more=more) as other:
        assert await statuses(one, request(), request("/b", xff="1.2.4.9")) == [200, 200]
        assert await statuses(other, request(), request()) == [200, 429]
        response = await one.ask(request())
        assert (response.status, response.reason) == (429, "rate-limited")
        assert 990 <= int(response.header("retry-after") or 0) <= 1000
        assert (received(one), received(other)) == (2, 1)
        assert metric(one, "domicile_rate_limited_total") == metric(other, "domicile_rate_limited_total") == 1
        await told(one, 3)
        for stage in (one, other):
            assert stage.plane.admission.limit.under_way == 0


@asynccontextmanager
async def silent_store() -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A server that takes what it is asked and says nothing; and whether it was asked."""
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            asked.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


async def test_a_store_that_does_not_answer_holds_up_nobody_for_long(tmp_path: Path) -> None:
    async with silent_store() as (port, asked), staged(CN, more=rates(LIMIT, store=at(port, tmp_path))) as stage:
        began = time.monotonic()
        assert await statuses(stage, *[request()] * 4) == [200, 200, 429, 429]
        assert asked.is_set()
        assert time.monotonic() - began < 20 * rate_store.ASKING
        assert stage.plane.line.rates.unanswered.times == 4
        # What was counted stays, whatever store comes next.
        lines = (stage.directory / "policy.yaml").read_text().splitlines()
        text = "\n".join(line for line in lines if not line.startswith("rates:"))
        stage.plane.swap(stage.line(text, stage.plane.line))
        assert stage.plane.line.rates.unanswered.times == 4
        assert received(stage) == 2


@pytest.mark.parametrize("meanwhile", ["left", "forbidden", "shed"])
async def test_what_happens_while_the_store_is_asked(
    meanwhile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_store, "ASKING", 0.5)
    monkeypatch.setattr(rate_store, "TRIP", 0.5)
    more = "overload: {adaptive: false, most: 1}\n" + rates(LIMIT, store=at(0, tmp_path))
    async with silent_store() as (port, asked), staged(CN, more=more.replace(":0'", f":{port}'")) as stage:
        client = await stage.client()
        await client.send(request())
        await asyncio.wait_for(asked.wait(), 10)
        assert stage.plane.admission.limit.under_way == 1
        if meanwhile == "left":
            reset(client)
            await eventually(lambda: stage.plane.open_connections == 0)
            (record,) = await told(stage)
            assert record["reason"] == "client-left"
        elif meanwhile == "shed":
            assert (await stage.ask(request())).reason == "overload"
            assert (await client.response()).status == 200
        else:
            text = (stage.directory / "policy.yaml").read_text()
            forbid = "  - {name: nobody, when: {home: cn-mainland}, forbid: any}\nguarantees:"
            stage.plane.swap(stage.line(text.replace("guarantees:", forbid), stage.plane.line))
            assert (await client.response()).status == 451
        assert received(stage) == (meanwhile == "shed")
        await eventually(lambda: stage.plane.admission.limit.under_way == 0)
        await eventually(lambda: own_tasks() == [])
