"""Endpoints that fail are left alone, and come back by trials: breakers, as a plane of real sockets turns them."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from tests.http1.border import Border, border, now
from tests.http1.scenes import (
    SWITCHED,
    UPGRADE,
    eventually,
    reset_by_provider,
    thin_client,
)
from tests.http1.staging import (
    BRITAIN,
    Conversation,
    Script,
    answering,
    closing,
    request,
    saying,
)

QUICK = ", health: {kind: none, passive: {samples: 3}, breaker: {open: 60s, trials: 1, slow_start: 0s}}"


@dataclass
class Answers:
    """A provider's script that answers with a status that can be changed."""

    status: int = 200
    heard: list[bytes] = field(default_factory=list)

    async def __call__(self, conversation: Conversation) -> None:
        while True:
            self.heard.append((await conversation.read_head()).split(b" ")[1])
            await conversation.say(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\nfirst" % self.status)


def word(scene: Border) -> str:
    return scene.place("first").health.word(now())


def open_no_longer(scene: Border) -> None:
    """As if the time had passed for which the first is left alone."""
    health = scene.place("first").health
    health.become(replace(health.breaker, until=now()))


async def test_answers_that_say_error_open_the_breaker_and_one_trial_closes_it() -> None:
    first = Answers(500)
    async with border({"first": first, "second": answering(b"second")}, provider=QUICK) as scene:
        # They are passed on: whether they are errors of the request is not for a proxy to say.
        assert [(await scene.ask(f"/{i}")).status for i in range(3)] == [500, 500, 500]
        assert word(scene) == "open"
        assert (await scene.ask("/elsewhere")).body == b"second"
        open_no_longer(scene)
        assert word(scene) == "half-open"
        assert (await scene.ask("/trial")).status == 500
        assert word(scene) == "open"
        assert (await scene.ask("/elsewhere")).body == b"second"
        first.status = 200
        open_no_longer(scene)
        assert word(scene) == "half-open"
        assert (await scene.ask("/trial")).body == b"first"
        assert word(scene) == "closed"
        assert (await scene.ask("/back")).body == b"first"
        assert first.heard == [b"/0", b"/1", b"/2", b"/trial", b"/trial", b"/back"]
        assert scene.idle()


async def test_a_sole_provider_that_is_out_is_a_503_and_hears_nothing() -> None:
    first = Answers(500)
    async with border({"first": first}, provider=QUICK) as scene:
        for _ in range(3):
            assert (await scene.ask()).status == 500
        response = await scene.ask("/out")
        assert (response.status, response.reason) == (503, "unavailable")
        assert response.header("retry-after") is not None
        assert b"/out" not in first.heard
        (record,) = (await scene.log.wait(4))[3:]
        assert (record["provider"], record["attempts"]) == (None, 0)


PROVIDER_FAILS: dict[str, tuple[Script, str]] = {
    "closes": (closing(), "truncation"),
    "in the body": (closing(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"), "truncation"),
    "broken chunks": (saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "truncation"),
    "garbage": (saying(b"\x16\x03\x01 garbage\r\n\r\n"), "truncation"),
    "says nothing": (saying(), "timeout"),
    "says no more": (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"), "timeout"),
    "a 502": (saying(b"HTTP/1.1 502 X\r\nContent-Length: 0\r\n\r\n"), "error"),
    "well": (saying(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"), "success"),
}


@pytest.mark.parametrize("case", PROVIDER_FAILS)
async def test_what_a_provider_does_is_told_of_its_endpoint(case: str) -> None:
    script, told = PROVIDER_FAILS[case]
    short = ", timeouts: {first_byte: 100ms, idle: 100ms}" if told == "timeout" else ""
    async with border({"first": script}, provider=short) as scene:
        client = await scene.stage.client()
        await client.send(request(xff=BRITAIN))
        await client.head()
        await scene.log.wait(1)
        counts = scene.place("first").health.window.counts(now())
        assert {kind: count for kind, count in counts.items() if count} == {told: 1}
        assert scene.idle()


async def test_what_a_client_does_says_nothing_of_a_provider() -> None:
    endless = saying(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"4e20\r\n" + b"x" * 20000 + b"\r\n"] * 400
    )
    short = ", timeouts: {idle: 200ms}"
    async with border(
        {"first": saying(), "second": endless}, more="timeouts: {body_idle: 200ms}\n", provider=short
    ) as scene:
        leaves = await scene.stage.client()
        await leaves.send(request(xff=BRITAIN))
        await eventually(lambda: scene.heard("first") == 1)
        leaves.abort()
        slow = await scene.stage.client()
        await slow.send(request(method="PUT", xff=BRITAIN, headers="Content-Length: 5"))
        assert (await slow.response()).status == 408
        await scene.log.wait(2)
        scene.reload(scene.text(provider=short).replace("{provider: first}, {provider: second}", "{provider: second}"))
        takes_nothing = await thin_client(scene.stage)
        await takes_nothing.send(request(xff=BRITAIN))
        records = await scene.log.wait(3)
        assert {record["reason"] for record in records} == {"client-left", "body-too-slow", "idle"}
        for name in ("first", "second"):
            assert set(scene.place(name).health.window.counts(now()).values()) == {0}
        assert scene.idle()


async def test_clients_who_are_slow_open_no_breaker_by_what_a_provider_does_about_it() -> None:
    """It ends what takes too long, as servers do, or what it will not take: thrice in a row is nothing of its own."""

    async def strict(conversation: Conversation) -> None:
        head = await conversation.read_head()
        if head.startswith(b"GET /whole"):
            await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
        elif head.startswith(b"GET"):
            await conversation.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            (client,) = (each for each in scene.stage.plane._connections if each.exchange is not None)
            while client.writable:
                conversation.writer.write(b"4e20\r\n" + b"x" * 20_000 + b"\r\n")
                await asyncio.sleep(0.001)
            reset_by_provider(conversation)
            cut.set()

    cut = asyncio.Event()
    async with border({"first": strict}) as scene:
        for _ in range(3):
            uploads = await scene.stage.client()
            await uploads.send(request(method="POST", xff=BRITAIN, headers="Content-Length: 5"))
            assert (await uploads.response()).status == 502
        assert word(scene) == "closed"
        downloads = await thin_client(scene.stage)
        await downloads.send(request("/slow", xff=BRITAIN))
        await eventually(cut.is_set)
        await downloads.rest()
        await scene.log.wait(4)
        counts = scene.place("first").health.window.counts(now())
        assert {kind: count for kind, count in counts.items() if count} == {"error": 4}
        assert word(scene) == "closed"
        assert (await scene.ask("/whole")).body == b"first"
        assert scene.idle()


async def test_a_tunnel_is_well_once_it_is_switched() -> None:
    async with border({"first": saying(SWITCHED)}) as scene:
        client = await scene.stage.client()
        await client.send(request(xff=BRITAIN, headers=UPGRADE))
        assert (await client.head()).status == 101
        assert scene.place("first").health.window.counts(now())["success"] == 1
        assert scene.idle()
        client.abort()
