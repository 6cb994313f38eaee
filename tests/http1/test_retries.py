"""When a request is tried again, and where; and that nobody is tried who is not permitted."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.http1.recording import Recorder, keep_log, one_record
from tests.http1.scenes import black_hole, metric
from tests.http1.staging import (
    BRITAIN,
    PATIENCE,
    Conversation,
    Script,
    Stage,
    answering,
    policy_text,
    request,
    staged,
)
from tests.http1.test_lying_providers import reset
from tests.providers.peers import take_out

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
IN_ORDER = "routes:\n  - {when: {}, prefer: [{provider: first}, {provider: second}]}\n"


def stale(*later: bytes, resets: bool = False) -> Script:
    """On its first connection, answers once, reads the next head, says `later` and ends; answers on all others."""
    met = 0

    async def script(conversation: Conversation) -> None:
        nonlocal met
        met += 1
        if met > 1:
            await answering(b"again")(conversation)
        await conversation.read_head()
        await conversation.say(ANSWER)
        await conversation.read_head()
        for piece in later:
            await conversation.say(piece)
        if resets:
            reset(conversation)

    return script


@contextmanager
def dead_port() -> Iterator[int]:
    """A port where everybody is refused: bound, and nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def move(stage: Stage, ports: dict[str, int], **options: str) -> None:
    """Put the stage's providers elsewhere: nothing of the old ones' state stays."""
    stage.plane.swap(stage.line(policy_text(ports, **options), stage.plane.line))


def ports(stage: Stage) -> dict[str, int]:
    return {name: provider.port for name, provider in stage.providers.items()}


async def test_an_idle_connection_that_ended_is_noticed_when_it_is_taken() -> None:
    async def once(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(ANSWER)

    async with staged({"cn": once}) as stage:
        log = keep_log(stage)
        client = await stage.client()
        for count in range(1, 6):
            # Nobody may say later that it was not sent: what is not idempotent does not go into a stale connection.
            await client.send(request(method="POST", body=b""))
            assert (await client.response()).body == b"ok"
            async with asyncio.timeout(PATIENCE):
                await stage.providers["cn"].conversations[-1].ended.wait()
            assert len(stage.providers["cn"].conversations) == count
        await one_record(stage, log, 5)
        assert {record["attempts"] for record in log.records} == {1}
        assert metric(stage, "domicile_retries_total") == 0


@pytest.mark.parametrize("resets", [False, True], ids=["fin", "reset"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PROPFIND"])
async def test_an_idempotent_request_without_a_body_is_sent_once_more(method: str, resets: bool) -> None:
    async with staged({"cn": stale(resets=resets)}) as stage:
        log = keep_log(stage)
        client = await stage.client()
        await client.send(request())
        assert (await client.response()).body == b"ok"
        await client.send(request("/retried", method=method))
        response = await client.response(method)
        assert (response.status, response.body) == (200, b"" if method == "HEAD" else b"again")
        first, second = stage.providers["cn"].heads
        assert first.count(b"/retried") == second.count(b"/retried") == 1
        assert first.endswith(second)
        record = await one_record(stage, log, 2)
        assert (record["status"], record["attempts"], record["reason"]) == (200, 2, None)
        assert metric(stage, "domicile_retries_total", provider="cn") == 1
        assert metric(stage, "domicile_attempts_total", result="broken") == 1
        assert metric(stage, "domicile_attempts_total", result="answered") == 2


@pytest.mark.parametrize("resets", [False, True], ids=["fin", "reset"])
@pytest.mark.parametrize(
    "again",
    [
        request("/once", method="POST"),
        request("/once", method="POST", body=b""),
        request("/once", method="POST", body=b"x"),
        request("/once", method="PATCH", body=b"x"),
        request("/once", method="LOCK"),
        request("/once", method="MOVE"),
        request("/once", headers="Connection: upgrade\r\nUpgrade: websocket"),
    ],
    ids=lambda data: data.split(b" ")[0].decode() + ("" if data.endswith(b"\r\n\r\n") else " with a body"),
)
async def test_nothing_else_is_ever_sent_twice(again: bytes, resets: bool) -> None:
    async with staged({"cn": stale(resets=resets)}) as stage:
        log = keep_log(stage)
        client = await stage.client()
        await client.send(request())
        assert (await client.response()).body == b"ok"
        await client.send(again)
        response = await client.response()
        assert (response.status, response.reason) == (502, "provider-closed")
        assert len(stage.providers["cn"].conversations) == 1
        record = await one_record(stage, log, 2)
        assert (record["status"], record["attempts"], record["reason"]) == (502, 1, "provider-closed")
        assert metric(stage, "domicile_retries_total") == 0


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"\r", b"garbage"])
async def test_a_request_of_which_something_was_answered_is_not_sent_again(said: bytes) -> None:
    async with staged({"cn": stale(said)}) as stage:
        log = keep_log(stage)
        client = await stage.client()
        await client.send(request())
        assert (await client.response()).body == b"ok"
        await client.send(request("/once"))
        response = await client.response()
        if response.status == 103:
            response = await client.response()
        assert response.status == 502
        assert len(stage.providers["cn"].conversations) == 1
        assert (await one_record(stage, log, 2))["attempts"] == 1


async def test_it_is_sent_once_more_and_not_twice() -> None:
    heads = 0

    async def script(conversation: Conversation) -> None:
        nonlocal heads
        await conversation.read_head()
        heads += 1
        if heads == 1:
            await conversation.say(ANSWER)
            await conversation.read_head()
            heads += 1

    async with staged({"cn": script}) as stage:
        log = keep_log(stage)
        client = await stage.client()
        await client.send(request())
        assert (await client.response()).body == b"ok"
        await client.send(request())
        assert (await client.response()).status == 502
        assert (heads, len(stage.providers["cn"].conversations)) == (3, 2)
        assert (await one_record(stage, log, 2))["attempts"] == 2


async def test_a_new_connection_that_ends_without_an_answer_is_not_made_again() -> None:
    async def silent(conversation: Conversation) -> None:
        await conversation.read_head()

    async with staged({"cn": answering(), "first": silent, "second": silent}, more=IN_ORDER) as stage:
        log = keep_log(stage)
        response = await stage.ask(request(xff=BRITAIN))
        assert (response.status, response.reason) == (502, "provider-closed")
        assert len(stage.providers["first"].conversations) == 1
        assert len(stage.providers["second"].conversations) == 1
        assert (await one_record(stage, log))["attempts"] == 2


async def test_a_provider_that_refuses_is_left_alone_for_a_while_and_the_next_permitted_one_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    telecom = Recorder()
    async with staged(
        {"cn": telecom, "first": answering(b"first"), "second": answering(b"second")}, more=IN_ORDER
    ) as stage:
        log = keep_log(stage)
        assert (await stage.ask(request())).body == b"recorded"
        assert (await stage.ask(request(xff=BRITAIN))).body == b"first"
        with dead_port() as dead:
            move(stage, ports(stage) | {"first": dead}, more=IN_ORDER)
            endpoint = stage.plane.line.fleet.states["first"].endpoints[0]
            began = time.monotonic()
            assert (await stage.ask(request(xff=BRITAIN))).body == b"second"
            record = await one_record(stage, log, 3)
            assert (record["provider"], record["attempts"], record["status"]) == ("second", 2, 200)
            assert metric(stage, "domicile_attempts_total", provider="first", result="refused") == 1
            assert metric(stage, "domicile_retries_total", provider="second") == 1
            taken_out = endpoint.health.breaker
            assert taken_out.kind == "open"
            assert began + taken_out.breaker.open <= taken_out.until <= time.monotonic() + taken_out.breaker.open

            # While that lasts it is not tried, whatever the wall clock does.
            wall = time.time
            for jump in (-86_400.0, 0.0, 86_400.0):
                monkeypatch.setattr(time, "time", lambda jump=jump: wall() + jump)
                assert (await stage.ask(request(xff=BRITAIN))).body == b"second"
            monkeypatch.undo()
            records = await log.wait(6)
            assert [record["attempts"] for record in records[3:]] == [1, 1, 1]

            # Once it is over it is tried again, and left alone again, for longer.
            take_out(endpoint, time.monotonic() - 5, time.monotonic())
            assert (await stage.ask(request(xff=BRITAIN))).body == b"second"
            assert (await one_record(stage, log, 7))["attempts"] == 2
            assert endpoint.health.breaker.until > time.monotonic() + taken_out.breaker.open
        # Nor was anybody asked who is not permitted.
        assert len(telecom.whole) == len(stage.providers["cn"].conversations) == 1


async def test_a_provider_that_is_back_serves_again() -> None:
    async with staged(
        {"cn": answering(), "first": answering(b"first"), "second": answering(b"second")}, more=IN_ORDER
    ) as stage:
        endpoint = stage.plane.line.fleet.states["first"].endpoints[0]
        take_out(endpoint, time.monotonic(), time.monotonic() + 3600)
        assert (await stage.ask(request(xff=BRITAIN))).body == b"second"
        assert stage.providers["first"].conversations == []
        take_out(endpoint, time.monotonic() - 5, time.monotonic())
        assert (await stage.ask(request(xff=BRITAIN))).body == b"first"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_where_no_permitted_provider_is_left_the_others_hear_nothing(method: str) -> None:
    other = Recorder()
    async with staged({"cn": answering(), "own": other}) as stage:
        log = keep_log(stage)
        assert (await stage.ask(request("/good", xff=BRITAIN))).body == b"recorded"
        with dead_port() as dead:
            move(stage, ports(stage) | {"cn": dead})
            body = b"data" if method == "POST" else None
            response = await stage.ask(request(method=method, body=body))
            assert (response.status, response.reason) == (502, "provider-refused")
            record = await one_record(stage, log, 2)
            assert (record["provider"], record["attempts"], record["reason"]) == ("cn", 1, "provider-refused")
            for count in (3, 4):
                response = await stage.ask(request(method=method, body=body))
                assert (response.status, response.reason) == (503, "unavailable")
                assert int(response.header("retry-after") or 0) > 0
                record = await one_record(stage, log, count)
                assert (record["provider"], record["attempts"], record["reason"]) == (None, 0, "unavailable")
                assert record["rules"] == ["mainland"]
                assert metric(stage, "domicile_denials_total", reason="unavailable") == count - 2
        assert other.whole == [(b"GET", b"/good", b"")]
        assert len(stage.providers["own"].conversations) == 1


async def test_a_provider_that_lets_nobody_in_is_a_504_and_then_left_alone() -> None:
    quick = ", timeouts: {connect: 200ms}"
    other = Recorder()
    async with staged({"cn": answering(), "own": other}) as stage, black_hole() as hole:
        log = keep_log(stage)
        assert (await stage.ask(request("/good", xff=BRITAIN))).body == b"recorded"
        move(stage, ports(stage) | {"cn": hole.port}, provider=quick)
        began = time.monotonic()
        response = await stage.ask(request())
        assert (response.status, response.reason) == (504, "provider-connect-timeout")
        assert time.monotonic() - began >= 0.2
        record = await one_record(stage, log, 2)
        assert (record["provider"], record["attempts"]) == ("cn", 1)
        assert metric(stage, "domicile_attempts_total", provider="cn", result="timeout") == 1
        response = await stage.ask(request())
        assert (response.status, response.reason) == (503, "unavailable")
        await one_record(stage, log, 3)
        assert other.whole == [(b"GET", b"/good", b"")]


async def test_a_body_goes_to_the_next_permitted_provider_where_the_first_took_nothing() -> None:
    body = bytes(range(256)) * 4000
    provider = Recorder()
    quick = ", timeouts: {connect: 200ms}"
    async with staged({"cn": answering(), "second": provider}, provider=quick) as stage, black_hole() as hole:
        log = keep_log(stage)
        move(stage, {"first": hole.port, **ports(stage)}, more=IN_ORDER, provider=quick)
        response = await stage.ask(request("/up", method="POST", xff=BRITAIN, body=body))
        assert (response.status, response.body) == (200, b"recorded")
        assert provider.whole == [(b"POST", b"/up", body)]
        record = await one_record(stage, log)
        assert (record["provider"], record["attempts"], record["to_provider"]) == ("second", 2, len(body))


async def test_a_retry_whose_provider_is_gone_goes_to_the_next_permitted_one() -> None:
    listening = asyncio.Event()

    async def first(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(ANSWER)
        await conversation.read_head()
        await listening.wait()

    telecom = Recorder()
    async with staged({"cn": telecom, "first": first, "second": answering(b"second")}, more=IN_ORDER) as stage:
        log = keep_log(stage)
        assert (await stage.ask(request())).body == b"recorded"
        client = await stage.client()
        await client.send(request(xff=BRITAIN))
        assert (await client.response()).body == b"ok"
        await client.send(request("/retried", xff=BRITAIN))
        conversation = stage.providers["first"].conversations[0]
        async with asyncio.timeout(PATIENCE):
            while b"/retried" not in conversation.received:
                await asyncio.sleep(0)
        # Its listener closes, then the connection that has the request.
        stage.providers["first"].refuse()
        listening.set()
        assert (await client.response()).body == b"second"
        record = await one_record(stage, log, 3)
        assert (record["provider"], record["attempts"], record["status"]) == ("second", 3, 200)
        assert metric(stage, "domicile_retries_total") == 2
        assert len(telecom.whole) == 1


async def test_a_deadline_of_a_connection_that_broke_is_none_of_the_next() -> None:
    listening = asyncio.Event()

    async def first(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(ANSWER)
        await conversation.read_head()
        await listening.wait()

    # The dial that the repeat begins takes longer than an answer may.
    slow = ", timeouts: {connect: 1s, first_byte: 400ms}"
    providers = {"cn": answering(), "first": first, "second": answering(b"second")}
    async with staged(providers, more=IN_ORDER, provider=slow) as stage:
        log = keep_log(stage)
        client = await stage.client()
        await client.send(request(xff=BRITAIN))
        assert (await client.response()).body == b"ok"
        await client.send(request("/repeated", xff=BRITAIN))
        conversation = stage.providers["first"].conversations[0]
        async with asyncio.timeout(PATIENCE):
            while b"/repeated" not in conversation.received:
                await asyncio.sleep(0)
        stage.providers["first"].refuse()
        async with black_hole(stage.providers["first"].port):
            listening.set()
            response = await client.response()
        assert (response.status, response.body) == (200, b"second")
        record = await one_record(stage, log, 2)
        assert (record["provider"], record["attempts"], record["status"]) == ("second", 3, 200)


@pytest.mark.parametrize("chunks", [False, True])
async def test_a_reset_in_mid_upload_is_a_502_where_its_beginning_is_kept_no_more(chunks: bool) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.read(66_000)
        reset(conversation)

    async with staged({"cn": answering(), "first": script, "second": answering()}, more=IN_ORDER) as stage:
        log = keep_log(stage)
        client = await stage.client()
        framing = "Transfer-Encoding: chunked" if chunks else "Content-Length: 1000000"
        await client.send(request(method="PUT", xff=BRITAIN, headers=framing))
        await client.send(b"%x\r\n" % 1_000_000 + b"x" * 66_000 if chunks else b"x" * 66_000)
        response = await client.response()
        assert (response.status, response.reason) == (502, "provider-closed")
        assert stage.providers["second"].conversations == []
        assert (await one_record(stage, log))["attempts"] == 1
