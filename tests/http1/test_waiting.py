"""A request whose source has to ask elsewhere: however that ends, the client is not left waiting."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from proxy.http1.waiting import ROUNDS
from proxy.identity.answers import Answer, Home, Kind, Pending, Silent
from proxy.identity.evidence import Evidence
from proxy.identity.identify import Sources
from proxy.identity.places import Places
from tests.http1.scenes import metric, unforeseen
from tests.http1.staging import Stage, answering, request, staged

PROVIDERS = {"cn": answering(b"cn"), "eu": answering(b"eu")}


class Asking:
    """A source that has to ask so often before it knows; each question ends when it is let go."""

    kind: Kind = "directory"

    def __init__(self, rounds: int, outcome: Callable[[], Answer]) -> None:
        self.rounds = rounds
        self.outcome = outcome
        self.asked = 0
        self.open: list[asyncio.Future[None]] = []
        self.hold = False

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Answer:
        if self.asked == self.rounds:
            return self.outcome()
        self.asked += 1
        ready = asyncio.get_running_loop().create_future()
        self.open.append(ready)
        if not self.hold:
            ready.set_result(None)
        return Pending("directory", ready)

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        return frozenset()


def at_home() -> Answer:
    return Home("eu", "acct", "subject", None)


def ask_by(stage: Stage, source: Asking) -> None:
    """Put a line in force whose only source is this one."""
    line = stage.plane.line
    stage.plane.swap(replace(line, sources=Sources([source], Places(line.policy.zones))))


async def test_it_may_be_asked_again_and_again_but_not_for_ever() -> None:
    async with staged(PROVIDERS) as stage:
        for rounds in (1, 2, ROUNDS):
            ask_by(stage, source := Asking(rounds, at_home))
            assert (await stage.ask(request(f"/{rounds}"))).body == b"eu"
            assert source.asked == rounds
        ask_by(stage, source := Asking(1000, at_home))
        response = await stage.ask(request("/more"))
        assert (response.status, response.reason) == (503, "source-unavailable")
        assert source.asked == ROUNDS + 1
        assert len(await stage.records(4)) == 4
        assert metric(stage, "domicile_requests_total") == 4


async def test_a_mistake_of_ours_leaves_no_client_waiting() -> None:
    def broken() -> Answer:
        raise RuntimeError

    async with staged(PROVIDERS) as stage:
        ask_by(stage, Asking(1, broken))
        with unforeseen() as told:
            client = await stage.client()
            await client.send(request("/"))
            assert await client.closed()
            assert len(await stage.records(1)) == 1
            while not told:
                await asyncio.sleep(0.01)
        assert isinstance(told[0]["exception"], RuntimeError)
        assert all(not each.conversations for each in stage.providers.values())


async def test_what_is_pipelined_behind_waits_its_turn() -> None:
    async with staged(PROVIDERS) as stage:
        ask_by(stage, source := Asking(1, at_home))
        source.hold = True
        client = await stage.client()
        await client.send(request("/1", method="POST", body=b"x" * 50_000) + request("/2") + request("/3", xff=None))
        while not source.open:
            await asyncio.sleep(0.01)
        assert all(not each.conversations for each in stage.providers.values())
        source.open[0].set_result(None)
        assert [(await client.response()).body for _ in range(3)] == [b"eu"] * 3
        (conversation,) = stage.providers["eu"].conversations[:1]
        assert conversation.received.startswith(b"POST /1 ")


async def test_draining_lets_it_finish() -> None:
    async with staged(PROVIDERS) as stage:
        ask_by(stage, source := Asking(1, at_home))
        source.hold = True
        client = await stage.client()
        await client.send(request("/"))
        while not source.open:
            await asyncio.sleep(0.01)
        draining = asyncio.ensure_future(stage.plane.drain(20.0))
        await asyncio.sleep(0)
        source.open[0].set_result(None)
        response = await client.response()
        assert (response.body, response.header("connection")) == (b"eu", "close")
        await draining


async def test_a_reload_does_not_end_the_wait_and_decides_in_its_place() -> None:
    async with staged(PROVIDERS) as stage:
        ask_by(stage, old := Asking(1, at_home))
        old.hold = True
        client = await stage.client()
        await client.send(request("/"))
        while not old.open:
            await asyncio.sleep(0.01)
        ask_by(stage, Asking(0, lambda: Home("CN", "acct", "subject", None)))
        old.open[0].set_result(None)
        assert (await client.response()).body == b"cn"
