"""Decided first: who is denied reaches no provider, who is permitted reaches no other, and each leaves one record."""

import asyncio
import socket

import pytest

from proxy.tcp.parting import ACCESS_DENIED, INTERNAL_ERROR
from tests.tcp.staging import (
    BRITAIN,
    GERMANY,
    MAINLAND,
    PROMISE,
    Conversation,
    Stage,
    client_hello,
    echo,
    eventually,
    not_before,
    staged,
    swallow,
)

NOBODY = "rules: []"


async def reached(stage: Stage, provider: str) -> None:
    """Whether a canary provider can be reached at all is shown before nobody is to reach it."""
    _, writer = await asyncio.open_connection("127.0.0.1", stage.providers[provider].port)
    await stage.conversation(provider)
    writer.close()
    await writer.wait_closed()
    stage.providers[provider].conversations.clear()


@pytest.mark.parametrize(("source", "provider"), [(MAINLAND, "cn"), (GERMANY, "eu"), (BRITAIN, "own")])
@pytest.mark.parametrize("listener", ["raw", "pass"])
async def test_each_goes_to_the_provider_of_their_home(source: str, provider: str, listener: str) -> None:
    async with staged({"cn": echo, "eu": echo, "own": echo}) as stage:
        for name in stage.providers:
            await reached(stage, name)
        client = await stage.client(listener, source=source)
        hello = client_hello()
        await client.send(hello)
        assert await client.exactly(len(hello)) == hello
        assert [name for name, each in stage.providers.items() if each.conversations] == [provider]
        client.end()
        await client.rest()
        (record,) = await stage.records(1)
        assert (record["provider"], record["host"]) == (provider, "storage.example" if listener == "pass" else None)
        assert record["client"] != source


FORBIDDEN = "  - {name: nobody, when: {}, forbid: any}\n"


@pytest.mark.parametrize("listener", ["raw", "pass"])
async def test_who_is_denied_reaches_nobody(listener: str) -> None:
    async with staged({"own": echo}, rules=FORBIDDEN) as stage:
        await reached(stage, "own")
        client = await stage.client(listener)
        await client.send(client_hello())
        if listener == "pass":
            assert await client.rest() == ACCESS_DENIED
        else:
            assert await client.was_reset() or client.received == b""
        assert stage.providers["own"].conversations == []
        (record,) = await stage.records(1)
        assert (record["reason"], record["provider"], record["rules"]) == (
            "forbidden",
            None,
            ["everyone-else", "nobody"],
        )
        assert (record["to_provider"], record["to_client"], record["attempts"]) == (0, 0, 0)
        assert stage.counted("domicile_denials_total", reason="forbidden") == 1
        assert stage.counted("domicile_passed_connections_total", outcome="denied", provider="none") == 1
        client.close()
        await stage.nothing_left()


@pytest.mark.parametrize(
    ("name", "permitted"), [("storage.example", True), ("other.example", False), (None, False)], ids=str
)
async def test_the_name_is_a_fact(name: str | None, permitted: bool) -> None:
    rules = "  - {name: named, when: {}, unless: {host: storage.example}, forbid: any}\n"
    async with staged({"own": echo}, rules=rules) as stage:
        client = await stage.client("pass")
        hello = client_hello(name)
        await client.send(hello)
        assert await client.exactly(7) == (hello[:7] if permitted else ACCESS_DENIED)


async def test_the_alert_outlives_what_the_client_goes_on_to_send() -> None:
    async with staged({"own": echo}, rules=FORBIDDEN) as stage:
        client = await stage.client("pass")
        await client.send(client_hello())
        await eventually(lambda: bool(stage.plane._passages))
        await client.send(b"early data")
        assert await client.rest() == ACCESS_DENIED
        client.end()
        await stage.nothing_left()


async def test_who_lingers_after_an_alert_is_closed() -> None:
    async with staged({"own": echo}, rules=FORBIDDEN) as stage:
        client = await stage.client("pass")
        await client.send(client_hello())
        assert await client.rest() == ACCESS_DENIED
        await stage.nothing_left(within=3.0)


@pytest.mark.parametrize("listener", ["raw", "pass"])
async def test_nobody_listens_there(listener: str) -> None:
    async with staged({"own": echo}) as stage:
        stage.providers["own"].refuse()
        client = await stage.client(listener)
        await client.send(client_hello())
        if listener == "pass":
            assert await client.rest() == INTERNAL_ERROR
        else:
            await client.was_reset()
        (record,) = await stage.records(1)
        assert (record["reason"], record["provider"], record["attempts"]) == ("unreachable", "own", 1)
        assert stage.counted("domicile_attempts_total", provider="own", result="refused") == 1
        # Marked down, it is not even tried for a while.
        client = await stage.client(listener)
        await client.send(client_hello())
        await client.was_reset()
        last = (await stage.records(2))[1]
        assert (last["reason"], last["provider"], last["attempts"]) == ("unavailable", None, 0)
        assert stage.counted("domicile_denials_total", reason="unavailable") == 1


async def test_a_silent_provider_is_given_up_in_time() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        more = ", timeouts: {connect: 500ms}"
        async with staged({"own": echo}, provider=more) as stage:
            text = (stage.folder / "policy.yaml").read_text()
            stage.swap(text.replace(f":{stage.providers['own'].port}", f":{full.getsockname()[1]}"))
            client = await stage.client("pass")
            with not_before(0.5):
                await client.send(client_hello())
                assert await client.rest() == INTERNAL_ERROR
            (record,) = await stage.records(1)
            assert (record["reason"], record["attempts"]) == ("timeout", 1)
            client.end()
            await stage.nothing_left()


async def test_who_leaves_while_a_provider_is_dialled_stops_the_dial() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with staged({"own": echo}, provider=", timeouts: {connect: 30s}") as stage:
            text = (stage.folder / "policy.yaml").read_text()
            stage.swap(text.replace(f":{stage.providers['own'].port}", f":{full.getsockname()[1]}"))
            client = await stage.client()
            await eventually(lambda: stage.open_at("own") == 1)
            client.reset()
            await stage.nothing_left()
            assert [record["reason"] for record in await stage.records(1)] == ["client-left"]


async def test_the_next_endpoint_is_tried_and_only_permitted_ones() -> None:
    async with staged({"own": echo, "second": echo, "cn": swallow}) as stage:
        stage.providers["own"].refuse()
        client = await stage.client()
        await client.send(b"hello")
        assert await client.exactly(5) == b"hello"
        client.end()
        await client.rest()
        (record,) = await stage.records(1)
        assert (record["provider"], record["attempts"]) == ("second", 2)
        assert stage.counted("domicile_retries_total", provider="second") == 1
        assert stage.providers["cn"].conversations == []


async def test_a_provider_that_is_full_takes_no_more() -> None:
    async with staged({"own": echo}, provider=", limits: {connections: 1, queue: none}") as stage:
        first = await stage.client()
        await first.send(b"1")
        await first.exactly(1)
        second = await stage.client("pass")
        await second.send(client_hello())
        assert await second.rest() == INTERNAL_ERROR
        (record,) = await stage.records(1)
        assert (record["reason"], record["attempts"]) == ("unavailable", 1)
        first.end()
        await first.rest()
        await eventually(lambda: stage.open_at("own") == 0)
        third = await stage.client()
        await third.send(b"3")
        assert await third.exactly(1) == b"3"


async def test_a_listener_that_is_full_says_so() -> None:
    async with staged({"own": echo}, more="limits: {connections: 1}") as stage:
        for listener, said in (("raw", b""), ("pass", INTERNAL_ERROR)):
            first = await stage.client(listener)
            await first.send(client_hello())
            await first.some()
            second = await stage.client(listener)
            assert await second.rest() == said


async def test_repeated_connections_share_a_plan_until_another_line_is_in_force() -> None:
    async with staged({"own": echo}) as stage:
        for _ in range(3):
            client = await stage.client("pass")
            await client.send(client_hello())
            await client.some()
        (plan,) = stage.plane.planner._table.values()
        assert plan.trail is not None
        assert plan.trail.count == 0
        planner = stage.plane.planner
        stage.swap((stage.folder / "policy.yaml").read_text())
        assert stage.plane.planner is not planner


async def test_a_directory_keyed_by_the_name_is_asked_and_waited_for() -> None:
    """The source answers from elsewhere; until then nothing is decided, and who leaves is let go."""
    asked = asyncio.Event()
    answer = asyncio.Event()

    async def service(conversation: Conversation) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await conversation.some()
        asked.set()
        await answer.wait()
        body = b'{"home": "cn-mainland"}'
        await conversation.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        await conversation.rest()

    async with staged({"own": echo, "cn": echo, "eu": service}) as stage:
        port = stage.providers["eu"].port
        sources = f'[{{directory: {{http: {{url: "http://127.0.0.1:{port}/{{}}"}}, key: sni}}}}]'
        text = (stage.folder / "policy.yaml").read_text()
        start = text.index("  sources:")
        end = text.index("rules:")
        stage.swap(f"{text[:start]}  sources: {sources}\n{text[end:]}")
        stage.opened.line.sources.begin()
        client = await stage.client("pass")
        hello = client_hello()
        await client.send(hello)
        await asked.wait()
        leaving = await stage.client("pass")
        await leaving.send(hello)
        await eventually(lambda: stage.plane.open_connections == 2)
        leaving.reset()
        await eventually(lambda: stage.plane.open_connections == 1)
        assert not stage.providers["cn"].conversations
        answer.set()
        assert await client.exactly(len(hello)) == hello
        client.end()
        await client.rest()
        records = {record["reason"]: record for record in await stage.records(2)}
        assert records[None]["provider"] == "cn"
        assert records[None]["source"] == "directory"
        assert "client-left" in records
        await stage.nothing_left()


async def test_a_source_that_is_down_denies() -> None:
    async with staged({"own": echo, "eu": echo}) as stage:
        stage.providers["eu"].refuse()
        port = stage.providers["eu"].port
        sources = f'[{{directory: {{http: {{url: "http://127.0.0.1:{port}/{{}}"}}, key: sni}}}}]'
        text = (stage.folder / "policy.yaml").read_text()
        stage.swap(f"{text[: text.index('  sources:')]}  sources: {sources}\n{text[text.index('rules:') :]}")
        client = await stage.client("pass")
        await client.send(client_hello())
        assert await client.rest() == INTERNAL_ERROR
        (record,) = await stage.records(1)
        assert record["reason"] == "source-unavailable"
        assert stage.counted("domicile_passed_connections_total", outcome="unproven") == 1
        client.end()
        await stage.nothing_left(within=PROMISE)
