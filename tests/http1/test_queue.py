"""Requests that wait for a provider at its connection cap: who is served, who is late, and who leaves."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from proxy.http1.attempts import Attempts
from tests.http1.border import Border, border
from tests.http1.recording import Recorder, turns
from tests.http1.scenes import eventually, metric, not_before
from tests.http1.staging import BRITAIN, Client, Conversation, answering, closing, request
from tests.providers.peers import take_out

ONE = ", limits: {connections: 1}"


@dataclass
class Gate:
    """A provider's script that answers each request once it may, and closes after it if it is told to."""

    closes: bool = False
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    heard: list[bytes] = field(default_factory=list)

    async def __call__(self, conversation: Conversation) -> None:
        while True:
            head = await conversation.read_head()
            body = await conversation.read(3) if b"PUT" in head else b""
            self.heard.append(head.split(b" ")[1] + body)
            await self.opened.wait()
            await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            if self.closes:
                return


async def sent(scene: Border, target: str, method: str = "GET", body: bytes | None = None) -> Client:
    client = await scene.stage.client()
    await client.send(request(target, method=method, xff=BRITAIN, body=body))
    return client


def waiting(scene: Border, name: str = "first") -> int:
    return len(scene.place(name).state.waiting or ())


def ended(scene: Border, name: str = "first") -> dict[str, int]:
    """How waits ended, as far as any did."""
    queue = scene.place(name).state.waiting
    assert queue is not None
    return {word: count for word, count in queue.ended.items() if count}


@asynccontextmanager
async def crowded(
    gate: Gate, targets: tuple[str, ...] = ("/a",), provider: str = ONE
) -> AsyncIterator[tuple[Border, Client, list[Client]]]:
    """One request has the only connection, and these wait for it."""
    async with border({"first": gate}, provider=provider) as scene:
        holder = await sent(scene, "/holder")
        await eventually(lambda: len(gate.heard) == 1)
        queue = []
        for count, target in enumerate(targets, 1):
            queue.append(await sent(scene, target))
            await eventually(lambda count=count: waiting(scene) == count)
        yield scene, holder, queue
        await eventually(scene.idle)


@pytest.mark.parametrize("closes", [False, True], ids=["kept", "closed"])
async def test_who_waits_is_served_in_turn_over_the_same_few_connections(closes: bool) -> None:
    gate = Gate(closes)
    async with crowded(gate, ("/a", "/b")) as (scene, holder, queue):
        queue.append(await sent(scene, "/put", "PUT", b"xyz"))
        await eventually(lambda: waiting(scene) == 3)
        gate.opened.set()
        for client in (holder, *queue):
            assert (await client.response()).body == b"ok"
        assert gate.heard == [b"/holder", b"/a", b"/b", b"/putxyz"]
        assert scene.heard("first") == (4 if closes else 1)
        assert ended(scene) == {"served": 3}
        assert {(r["status"], r["attempts"]) for r in await scene.log.wait(4)} == {(200, 1)}
        assert metric(scene.stage, "domicile_retries_total") == 0


async def test_who_waits_for_too_long_or_finds_no_place_gets_a_503() -> None:
    gate = Gate()
    few = ", limits: {connections: 1, queue: {most: 1, longest: 1s}}"
    async with border({"first": gate}, provider=few) as scene:
        holder = await sent(scene, "/holder")
        await eventually(lambda: len(gate.heard) == 1)
        with not_before(1.0):
            late = await sent(scene, "/late")
            await eventually(lambda: waiting(scene) == 1)
            refused = await scene.ask("/refused")
            assert waiting(scene) == 1
            response = await late.response()
        for each in (refused, response):
            assert (each.status, each.reason) == (503, "provider-full")
            assert each.header("retry-after") is not None
        assert ended(scene) == {"late": 1, "refused": 1}
        # Full is not failed.
        assert scene.place("first").health.steady
        gate.opened.set()
        assert (await holder.response()).body == b"ok"
        await late.send(request(xff=BRITAIN))
        assert (await late.response()).body == b"ok"
        records = await scene.log.wait(4)
        assert [(r["provider"], r["reason"], r["attempts"]) for r in records[:2]] == [("first", "provider-full", 0)] * 2
        assert scene.heard("first") == 1


async def test_another_permitted_provider_comes_before_waiting() -> None:
    gates = {"first": Gate(), "second": Gate()}
    async with border(gates, provider=ONE) as scene:
        clients = [await sent(scene, "/1")]
        await eventually(lambda: len(gates["first"].heard) == 1)
        clients.append(await sent(scene, "/2"))
        await eventually(lambda: len(gates["second"].heard) == 1)
        # Both are full: the third waits for the one that is preferred.
        clients.append(await sent(scene, "/3"))
        await eventually(lambda: waiting(scene, "first") == 1)
        assert waiting(scene, "second") == 0
        for gate in gates.values():
            gate.opened.set()
        for client in clients:
            assert (await client.response()).body == b"ok"
        assert gates["first"].heard == [b"/1", b"/3"]


async def test_who_is_full_is_waited_for_where_the_others_fail() -> None:
    gate = Gate()
    async with border({"first": gate, "second": closing()}, provider=ONE) as scene:
        holder = await sent(scene, "/holder")
        await eventually(lambda: len(gate.heard) == 1)
        # One that was sent to the second, which broke it; and, with nobody listening there, one that was not.
        clients = [await sent(scene, "/broken")]
        await eventually(lambda: waiting(scene) == 1)
        scene.stage.providers["second"].refuse()
        clients.append(await sent(scene, "/refused"))
        await eventually(lambda: waiting(scene) == 2)
        gate.opened.set()
        for client in (holder, *clients):
            assert (await client.response()).body == b"ok"
        assert gate.heard == [b"/holder", b"/broken", b"/refused"]
        assert [record["attempts"] for record in await scene.log.wait(3)] == [1, 2, 2]


Ending = Callable[[Border, Client], Awaitable[None]]


async def client_leaves(scene: Border, client: Client) -> None:
    client.abort()


async def all_is_forbidden(scene: Border, client: Client) -> None:
    scene.reload(scene.text(rules="  - {name: no, forbid: {providers: [first]}}", provider=ONE))
    response = await client.response()
    assert (response.status, response.reason) == (503, "permit-withdrawn")


async def the_proxy_drains(scene: Border, client: Client) -> None:
    await scene.stage.plane.drain(0.1)
    assert await client.closed()


@pytest.mark.parametrize("ends", [client_leaves, all_is_forbidden, the_proxy_drains])
async def test_who_waits_can_be_called_away(ends: Ending) -> None:
    gate = Gate()
    async with crowded(gate) as (scene, holder, queue):
        place = scene.place("first")
        await ends(scene, queue[0])
        await eventually(lambda: place.state.waiting is not None and not place.state.waiting)
        assert place.state.waiting is not None
        assert place.state.waiting.ended["left"] == 1
        gate.opened.set()
        if ends is not the_proxy_drains:
            assert (await holder.response()).body == b"ok"
        await turns()
        assert gate.heard == [b"/holder"]
        assert place.state.open <= 1


async def test_a_reload_that_permits_as_before_keeps_its_place_in_the_queue() -> None:
    gate = Gate()
    async with crowded(gate, ("/a", "/b")) as (scene, holder, queue):
        scene.reload(scene.text(rules="  - {name: more, allow: {zones: [eu]}, when: {home: eu}}", provider=ONE))
        gate.opened.set()
        for client in (holder, *queue):
            assert (await client.response()).body == b"ok"
        assert gate.heard == [b"/holder", b"/a", b"/b"]
        assert ended(scene) == {"served": 2}


async def test_a_turn_that_comes_after_a_reload_goes_by_the_decision_in_force() -> None:
    gate = Gate()
    async with crowded(gate) as (scene, holder, queue):
        # As if a reload had not come to this request yet.
        (waiter,) = scene.place("first").state.waiting._places  # type: ignore[union-attr]
        client = next(
            each for each in scene.stage.plane._connections if getattr(each.exchange, "_attempts", None) is waiter
        )
        exchange, client.exchange = client.exchange, None
        scene.reload(scene.text(rules="  - {name: no, forbid: {providers: [first]}}", provider=ONE))
        client.exchange = exchange
        gate.opened.set()
        assert (await holder.response()).body == b"ok"
        assert (await queue[0].response()).reason == "permit-withdrawn"
        assert gate.heard == [b"/holder"]
        await eventually(lambda: waiter.place.state.open == 0)  # type: ignore[union-attr]


async def test_an_endpoint_that_goes_out_of_service_meanwhile_is_not_sent_to() -> None:
    gate = Gate(closes=True)
    async with crowded(gate) as (scene, holder, queue):
        now = time.monotonic()
        take_out(scene.place("first"), now, now + 3600)
        gate.opened.set()
        assert (await holder.response()).body == b"ok"
        response = await queue[0].response()
        assert (response.status, response.reason) == (503, "unavailable")
        await eventually(lambda: scene.place("first").state.open == 0)
        assert gate.heard == [b"/holder"]


async def test_a_place_under_the_cap_is_given_back_by_a_dial_that_never_began() -> None:
    async with border({"first": answering()}, provider=ONE) as scene:
        client = await sent(scene, "/")
        await client.response()
        place = scene.place("first")
        for idle in place.state.pool.drop("first"):
            idle.close()
        await eventually(lambda: place.state.open == 0)
        gate = Gate()
        scene.stage.providers["first"].script = gate
        await client.send(request("/again", xff=BRITAIN))
        await eventually(lambda: len(gate.heard) == 1)
        late = await sent(scene, "/late")
        await eventually(lambda: waiting(scene) == 1)
        queue = place.state.waiting
        assert queue is not None
        ((waiter, _),) = queue._places.items()
        assert isinstance(waiter, Attempts)
        queue.served()
        place.state.open += 1
        waiter.served(place, None)
        assert place.state.open == 2
        waiter.stop()
        assert place.state.open == 1
        late.abort()
        gate.opened.set()
        assert (await client.response()).body == b"ok"


async def test_two_endpoints_share_the_cap_and_who_waits_takes_what_comes() -> None:
    gate, other = Gate(), Recorder()
    async with border({"first": gate, "second": other}, provider=ONE) as scene:
        one, two = (scene.stage.providers[name].port for name in ("first", "second"))
        text = scene.text(provider=", limits: {connections: 1}, balance: round-robin")
        ours = f'endpoints: ["http://127.0.0.1:{one}", "http://127.0.0.1:{two}"]'
        scene.reload(text.replace(f'endpoints: ["http://127.0.0.1:{one}"]', ours))
        clients = [await sent(scene, "/1"), await sent(scene, "/2"), await sent(scene, "/3")]
        gate.opened.set()
        for client in clients:
            assert (await client.response()).status == 200
        assert len(gate.heard) + len(other.whole) == 3
