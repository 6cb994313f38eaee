"""Reads whose answer is late are asked of a second permitted endpoint; one answer comes, and one head wins."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.http1.border import Border, border, now
from tests.http1.recording import turns
from tests.http1.scenes import UPGRADE, black_hole, eventually, metric
from tests.http1.staging import (
    BRITAIN,
    Client,
    Conversation,
    Script,
    answering,
    closing,
    policy_text,
    request,
    saying,
)

SOON = "retries: {hedge: 30ms}\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


@dataclass
class Held:
    """A provider's script that answers each request when it is told to."""

    body: bytes
    goes: asyncio.Event = field(default_factory=asyncio.Event)
    says_first: bytes = b""
    breaks: bool = False

    async def __call__(self, conversation: Conversation) -> None:
        while True:
            await conversation.read_head()
            if self.says_first:
                await conversation.say(self.says_first)
            waiting = asyncio.ensure_future(self.goes.wait())
            ending = asyncio.ensure_future(conversation.wait_end())
            await asyncio.wait((waiting, ending), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done() or self.breaks:
                waiting.cancel()
                ending.cancel()
                return
            ending.cancel()
            await asyncio.wait((ending,))
            await conversation.say(OK % (len(self.body), self.body))


async def asked(scene: Border, **options: str) -> Client:
    """A client that has sent one read from Britain."""
    client = await scene.stage.client()
    await client.send(request("/late", xff=BRITAIN, **options))
    return client


async def both_asked(scene: Border) -> None:
    await eventually(lambda: all(b"/late" in each.received for each in last_of(scene, "first", "second")))


def last_of(scene: Border, *names: str) -> list[Conversation]:
    """The last conversation of each; fails where there was none."""
    conversations = [scene.stage.providers[name].conversations for name in names]
    return [each[-1] if each else Conversation(None, None) for each in conversations]  # type: ignore[arg-type]


def hedges(scene: Border) -> float:
    return metric(scene.stage, "domicile_hedges_total")


async def test_the_second_answers_first_and_the_first_is_aborted() -> None:
    first = Held(b"first")
    async with border({"first": first, "second": answering(b"second")}, more=SOON) as scene:
        client = await asked(scene)
        assert (await client.response()).body == b"second"
        await last_of(scene, "first")[0].ended.wait()
        (record,) = await scene.log.wait(1)
        assert (record["provider"], record["attempts"], record["status"]) == ("second", 2, 200)
        assert metric(scene.stage, "domicile_hedges_total", provider="second") == hedges(scene) == 1
        # Nobody knows how long it would have taken.
        assert set(scene.place("first").health.window.counts(now()).values()) == {0}
        assert scene.place("second").health.window.counts(now())["success"] == 1
        assert scene.idle()
        # The connection that answered serves again.
        await client.send(request(xff=BRITAIN))
        assert (await client.response()).body == b"second"
        assert scene.heard("second") == 1


async def test_the_first_answers_first_and_the_second_is_aborted() -> None:
    first, second = Held(b"first"), Held(b"second")
    async with border({"first": first, "second": second}, more=SOON) as scene:
        client = await asked(scene)
        await both_asked(scene)
        first.goes.set()
        assert (await client.response()).body == b"first"
        await last_of(scene, "second")[0].ended.wait()
        (record,) = await scene.log.wait(1)
        assert (record["provider"], record["attempts"]) == ("first", 2)
        assert scene.place("first").health.window.counts(now())["success"] == 1
        assert set(scene.place("second").health.window.counts(now()).values()) == {0}
        assert scene.idle()


async def test_an_answer_in_time_asks_nobody_else() -> None:
    more = "retries: {hedge: 5s}\n"
    async with border({"first": answering(b"first"), "second": answering()}, more=more) as scene:
        for _ in range(3):
            assert (await scene.ask()).body == b"first"
        assert (scene.heard("second"), hedges(scene)) == (0, 0)
        assert len(scene.stage.plane.hedges._waiting) == 0


NOT_ASKED = {
    "POST": request("/late", method="POST", xff=BRITAIN, body=b""),
    "PUT": request("/late", method="PUT", xff=BRITAIN, body=b"x"),
    "DELETE": request("/late", method="DELETE", xff=BRITAIN),
    "a GET with a body": request("/late", xff=BRITAIN, body=b"x"),
    "an upgrade": request("/late", xff=BRITAIN, headers=UPGRADE),
}


async def test_what_is_no_read_is_not_asked_elsewhere() -> None:
    first = Held(b"first")
    async with border({"first": first, "second": answering(b"second")}, more=SOON) as scene:
        clients = [await scene.stage.client() for _ in NOT_ASKED]
        for client, data in zip(clients, NOT_ASKED.values(), strict=True):
            await client.send(data)
        await eventually(lambda: scene.heard("first") == len(NOT_ASKED))
        # Those that began to wait before this one would have been late before it.
        assert (await (await asked(scene)).response()).body == b"second"
        assert (scene.heard("second"), hedges(scene)) == (1, 1)
        first.goes.set()
        for client in clients:
            assert (await client.response()).body == b"first"


async def test_what_the_budget_has_no_room_for_is_not_asked_elsewhere() -> None:
    first = Held(b"first")
    more = "retries: {hedge: 30ms, share: 0%, least: 0.1}\n"
    async with border({"first": first, "second": answering(b"second")}, more=more) as scene:
        assert (await (await asked(scene)).response()).body == b"second"
        client = await asked(scene)
        await eventually(lambda: scene.heard("first") == 2)
        await eventually(lambda: not scene.stage.plane.hedges._waiting)
        first.goes.set()
        assert (await client.response()).body == b"first"
        assert (scene.heard("second"), hedges(scene)) == (1, 1)


async def test_where_the_first_fails_meanwhile_the_second_is_waited_for() -> None:
    first, second = Held(b"first", breaks=True), Held(b"second")
    async with border({"first": first, "second": second}, more=SOON) as scene:
        client = await asked(scene)
        await both_asked(scene)
        first.goes.set()
        await eventually(lambda: metric(scene.stage, "domicile_attempts_total", result="broken") == 1)
        second.goes.set()
        assert (await client.response()).body == b"second"
        (record,) = await scene.log.wait(1)
        assert (record["provider"], record["attempts"]) == ("second", 2)
        assert scene.place("first").health.window.counts(now())["truncation"] == 1
        assert scene.idle()


async def test_a_reload_once_a_kept_first_has_ended_leaves_no_try_behind() -> None:
    first, second = Held(b"first", breaks=True), Held(b"second")

    async def once(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(OK % (5, b"first"))
        await first(conversation)

    async with border({"first": once, "second": second}, more=SOON) as scene:
        assert (await scene.ask()).body == b"first"
        client = await asked(scene)
        await both_asked(scene)
        first.goes.set()
        await eventually(lambda: metric(scene.stage, "domicile_attempts_total", result="broken") == 1)
        scene.reload(scene.text().replace("{provider: first}, ", ""))
        second.goes.set()
        assert (await client.response()).body == b"second"
        await scene.log.wait(2)
        assert scene.idle()


@pytest.mark.parametrize("script", [closing(), closing(b"garbage\r\n\r\n"), saying(b"HTTP/1.1 101 No\r\n\r\n")])
async def test_where_the_second_fails_the_first_is_waited_for(script: Script) -> None:
    first = Held(b"first")
    async with border({"first": first, "second": script}, more=SOON) as scene:
        client = await asked(scene)
        await eventually(lambda: metric(scene.stage, "domicile_attempts_total", result="broken") == 1)
        first.goes.set()
        assert (await client.response()).body == b"first"
        assert scene.place("second").health.window.counts(now())["truncation"] == 1
        assert scene.idle()


async def test_where_both_fail_the_first_failure_is_the_answer() -> None:
    first, second = Held(b"first", breaks=True), Held(b"second", breaks=True)
    async with border({"first": first, "second": second, "third": answering()}, more=SOON) as scene:
        client = await asked(scene)
        await both_asked(scene)
        first.goes.set()
        await eventually(lambda: metric(scene.stage, "domicile_attempts_total", result="broken") == 1)
        second.goes.set()
        response = await client.response()
        assert (response.status, response.reason) == (502, "provider-closed")
        assert scene.heard("third") == 0
        # It says more of the request than of who was asked second.
        assert [scene.place(name).health.window.in_a_row for name in ("first", "second")] == [1, 0]
        assert scene.idle()


@pytest.mark.parametrize(("attempts", "status"), [(2, 502), (3, 200)])
async def test_a_second_counts_among_the_tries(attempts: int, status: int) -> None:
    first = Held(b"first", breaks=True)
    more = f"retries: {{hedge: 30ms, attempts: {attempts}}}\n"
    async with border({"first": first, "second": closing(), "third": answering()}, more=more) as scene:
        client = await asked(scene)
        await eventually(lambda: metric(scene.stage, "domicile_attempts_total", result="broken") == 1)
        first.goes.set()
        assert (await client.response()).status == status
        assert scene.heard("third") == attempts - 2
        # Here the second failed first.
        assert [scene.place(name).health.window.in_a_row for name in ("first", "second")] == [0, 1]
        assert (await scene.log.wait(1))[0]["attempts"] == attempts


async def test_a_second_that_cannot_be_connected_changes_nothing() -> None:
    first = Held(b"first")
    async with border({"first": first, "second": answering()}, more=SOON) as scene, black_hole() as hole:
        ports = {name: provider.port for name, provider in scene.stage.providers.items()} | {"second": hole.port}
        route = "routes:\n  - {when: {}, prefer: [{provider: first}, {provider: second}]}\n"
        scene.reload(policy_text(ports, more=route + SOON, provider=", timeouts: {connect: 200ms}"))
        client = await asked(scene)
        await eventually(lambda: metric(scene.stage, "domicile_attempts_total", result="timeout") == 1)
        first.goes.set()
        assert (await client.response()).body == b"first"
        assert scene.idle()
        await eventually(lambda: scene.stage.plane.line.fleet.states["second"].open == 0)


async def test_a_hint_of_the_first_is_passed_on_and_ends_the_second() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    first = Held(b"first", says_first=hint)
    more = "retries: {hedge: 2s}\n"
    async with border({"first": first, "second": answering(b"second")}, more=more) as scene:
        client = await asked(scene)
        assert (await client.response()).status == 103
        assert not scene.stage.plane.hedges._waiting
        first.goes.set()
        assert (await client.response()).body == b"first"
        assert hedges(scene) == scene.heard("second") == 0


Ending = Callable[[Border, Client], None]


def leaves(scene: Border, client: Client) -> None:
    client.abort()


def is_withdrawn(scene: Border, client: Client) -> None:
    forbids = "  - {name: no-more, forbid: {providers: [first, second]}}"
    scene.reload(scene.text(rules=forbids, more="timeouts: {withdrawn: 100ms}\n"))


@pytest.mark.parametrize("ends", [leaves, is_withdrawn])
async def test_whatever_ends_the_request_ends_both(ends: Ending) -> None:
    first, second = Held(b"first"), Held(b"second")
    async with border({"first": first, "second": second}, more=SOON) as scene:
        places = [scene.place(name) for name in ("first", "second")]
        client = await asked(scene)
        await both_asked(scene)
        ends(scene, client)
        for conversation in last_of(scene, "first", "second"):
            await conversation.ended.wait()
        await scene.log.wait(1)
        await turns()
        for place in places:
            assert (place.health.load.outstanding, place.state.open) == (0, 0)
            assert set(place.health.window.counts(now()).values()) == {0}


async def test_after_a_reload_that_forbids_the_second_only_the_first_is_waited_for() -> None:
    first, second = Held(b"first"), Held(b"second")
    async with border({"first": first, "second": second}, more=SOON) as scene:
        client = await asked(scene)
        await both_asked(scene)
        scene.reload(scene.text(rules="  - {name: no-more, forbid: {providers: [second]}}", more=SOON))
        await last_of(scene, "second")[0].ended.wait()
        second.goes.set()
        first.goes.set()
        assert (await client.response()).body == b"first"
