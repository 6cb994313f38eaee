"""Providers that are down, or full: who is tried instead, who waits, and that one not permitted hears nothing."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.policy.decision import Permit
from proxy.providers.breaker import BreakerState
from proxy.tcp.parting import INTERNAL_ERROR
from proxy.tcp.plan import Place
from tests.tcp.staging import (
    Conversation,
    Peer,
    Script,
    Stage,
    client_hello,
    echo,
    eventually,
    staged,
)
from tests.tcp.test_decisions import FORBIDDEN, reached

PATIENT = ", limits: {connections: 1, queue: {most: 2, longest: 10s}}"
IMPATIENT = ", limits: {connections: 1, queue: {most: 2, longest: 300ms}}"


@asynccontextmanager
async def guarded(scripts: dict[str, Script], provider: str = "", **options: str) -> AsyncIterator[Stage]:
    """A stage with a provider that nobody here is permitted to: it can be reached, and hears nothing."""
    async with staged({**scripts, "cn": echo}, provider=provider, **options) as stage:
        await reached(stage, "cn")
        yield stage
        assert stage.providers["cn"].conversations == []


def place_of(stage: Stage, provider: str) -> Place:
    (place,) = stage.plane.line.fleet.states[provider].passing
    return place


def open_breaker(place: Place, since: float = 0.0) -> None:
    """Nothing goes there for `open` seconds since that many seconds ago."""
    policy, now = place.health.breaker.breaker, asyncio.get_running_loop().time() - since
    place.health.become(BreakerState(policy, "open", since=now, until=now + policy.open, counts_from=now, trips=1))


async def connected(stage: Stage, listener: str = "raw") -> Peer:
    client = await stage.client(listener)
    await said_back(client)
    return client


async def said_back(client: Peer) -> None:
    hello = client_hello()
    await client.send(hello)
    assert await client.exactly(len(hello)) == hello


async def waiting(stage: Stage, provider: str, count: int = 1, listener: str = "raw") -> Peer:
    """One more client, once so many wait."""
    client = await stage.client(listener)
    if listener == "pass":
        await client.send(client_hello())
    state = stage.plane.line.fleet.states[provider]
    await eventually(lambda: state.waiting is not None and len(state.waiting) == count)
    return client


def ended(stage: Stage, provider: str) -> dict[str, int]:
    queue = stage.plane.line.fleet.states[provider].waiting
    assert queue is not None
    return {outcome: times for outcome, times in queue.ended.items() if times}


async def finished(client: Peer) -> None:
    client.end()
    assert await client.rest() == b""


# Health


async def test_who_is_down_is_left_alone() -> None:
    async with guarded({"own": echo, "second": echo}) as stage:
        place = place_of(stage, "own")
        open_breaker(place)
        for _ in range(3):
            await finished(await connected(stage))
        assert stage.providers["own"].conversations == []
        assert len(stage.providers["second"].conversations) == 3
        assert [record["provider"] for record in await stage.records(3)] == ["second"] * 3


async def test_connections_are_trials_and_count_until_they_end() -> None:
    async with guarded({"own": echo}) as stage:
        place = place_of(stage, "own")
        open_breaker(place, since=5.0)
        clients = [await connected(stage) for _ in range(place.health.breaker.breaker.trials)]
        assert len(stage.providers["own"].conversations) == len(clients)
        assert place.health.word(asyncio.get_running_loop().time()) == "slow-start"
        assert place.health.load.outstanding == len(clients)
        for client in clients:
            await finished(client)
        await stage.nothing_left()
        assert place.health.load.outstanding == place.health.load.awaited == 0


async def test_a_trial_whose_client_leaves_is_given_to_another() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with guarded({"own": echo}, ", timeouts: {connect: 30s}") as stage:
            text = (stage.folder / "policy.yaml").read_text()
            stage.swap(text.replace(f":{stage.providers['own'].port}", f":{full.getsockname()[1]}"))
            place = place_of(stage, "own")
            open_breaker(place, since=5.0)
            trials = place.health.breaker.breaker.trials
            clients = [await stage.client() for _ in range(trials)]
            await eventually(lambda: place.health.breaker.tried == trials)
            late = await stage.client("pass")
            await late.send(client_hello())
            assert await late.rest() == INTERNAL_ERROR
            for client in clients:
                client.reset()
            await eventually(lambda: place.health.breaker.tried == 0)
            assert place.health.word(asyncio.get_running_loop().time()) == "half-open"
            assert place.health.load.outstanding == 0


async def test_nobody_is_left() -> None:
    async with guarded({"own": echo, "second": echo}) as stage:
        for name in ("own", "second"):
            await reached(stage, name)
            open_breaker(place_of(stage, name))
        client = await stage.client("pass")
        await client.send(client_hello())
        assert await client.rest() == INTERNAL_ERROR
        (record,) = await stage.records(1)
        assert (record["reason"], record["provider"], record["attempts"]) == ("unavailable", None, 0)
        assert stage.counted("domicile_denials_total", reason="unavailable") == 1
        assert not stage.providers["own"].conversations
        assert not stage.providers["second"].conversations


# Full


async def test_another_that_is_permitted_takes_what_a_full_one_does_not() -> None:
    async with guarded({"own": echo, "second": echo}, PATIENT) as stage:
        first, second = await connected(stage), await connected(stage, "pass")
        assert [len(stage.providers[name].conversations) for name in ("own", "second")] == [1, 1]
        await finished(first)
        await finished(second)
        assert [record["attempts"] for record in await stage.records(2)] == [1, 1]
        assert ended(stage, "own") == ended(stage, "second") == {}


@pytest.mark.parametrize("listener", ["raw", "pass"])
async def test_who_finds_it_full_waits_and_has_the_next_place(listener: str) -> None:
    async with guarded({"own": echo}, PATIENT) as stage:
        first = await connected(stage)
        client = await waiting(stage, "own", listener=listener)
        assert stage.open_at("own") == 1
        await finished(first)
        if listener == "raw":
            await client.send(client_hello())
        await client.some()
        assert ended(stage, "own") == {"served": 1}
        client.end()
        await client.rest()
        assert [record["attempts"] for record in await stage.records(2)] == [1, 1]
        await stage.nothing_left()


async def test_who_waits_for_too_long_is_turned_away() -> None:
    async with guarded({"own": echo}, IMPATIENT) as stage:
        first = await connected(stage)
        client = await stage.client("pass")
        await client.send(client_hello())
        assert await client.rest() == INTERNAL_ERROR
        (record,) = await stage.records(1)
        assert (record["reason"], record["provider"], record["attempts"]) == ("unavailable", "own", 0)
        assert ended(stage, "own") == {"late": 1}
        await finished(first)


async def test_more_than_may_wait_are_turned_away_at_once() -> None:
    async with guarded({"own": echo}, PATIENT) as stage:
        await connected(stage)
        for count in (1, 2):
            await waiting(stage, "own", count)
        client = await stage.client("pass")
        await client.send(client_hello())
        assert await client.rest() == INTERNAL_ERROR
        assert ended(stage, "own") == {"refused": 1}


async def test_who_leaves_waits_no_longer() -> None:
    async with guarded({"own": echo}, PATIENT) as stage:
        first = await connected(stage)
        (await waiting(stage, "own")).reset()
        await eventually(lambda: ended(stage, "own") == {"left": 1})
        assert [record["reason"] for record in await stage.records(1)] == ["client-left"]
        await finished(first)
        await stage.nothing_left()


async def test_where_the_others_fail_it_waits_for_the_one_that_was_full() -> None:
    async with guarded({"own": echo, "second": echo}, PATIENT) as stage:
        first = await connected(stage)
        stage.providers["second"].refuse()
        client = await waiting(stage, "own")
        assert stage.counted("domicile_attempts_total", provider="second", result="refused") == 1
        await finished(first)
        await said_back(client)
        await finished(client)
        assert [record["attempts"] for record in await stage.records(2)] == [1, 2]


async def test_a_turn_at_one_that_went_down_meanwhile_is_given_back() -> None:
    async with guarded({"own": echo}, PATIENT) as stage:
        first = await connected(stage)
        client = await waiting(stage, "own", listener="pass")
        open_breaker(place_of(stage, "own"))
        await finished(first)
        assert await client.rest() == INTERNAL_ERROR
        client.end()
        assert len(stage.providers["own"].conversations) == 1
        await stage.nothing_left()


async def test_a_turn_whose_dial_fails_is_over() -> None:
    async with guarded({"own": echo}, PATIENT) as stage:
        first = await connected(stage)
        client = await waiting(stage, "own", listener="pass")
        stage.providers["own"].refuse()
        await finished(first)
        assert await client.rest() == INTERNAL_ERROR
        client.end()
        await stage.nothing_left()
        assert [record["reason"] for record in await stage.records(2)] == [None, "unreachable"]


async def test_who_waits_goes_on_by_what_is_decided_now() -> None:
    async with guarded({"own": echo}, PATIENT) as stage:
        first = await connected(stage)
        kept = await waiting(stage, "own")
        text = (stage.folder / "policy.yaml").read_text()
        stage.swap(text)
        await asyncio.sleep(0)
        await finished(first)
        await said_back(kept)
        withdrawn = await waiting(stage, "own", listener="pass")
        stage.swap(text.replace("rules:\n", f"rules:\n{FORBIDDEN}"))
        assert (await withdrawn.rest())[:1] == b"\x15"
        assert await kept.was_reset()
        assert ended(stage, "own") == {"served": 1, "left": 1}
        assert stage.counted("domicile_withdrawn_total", provider="own") == 2


async def test_a_mistake_at_its_turn_ends_one_connection_and_leaves_the_place_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with guarded({"own": echo}, PATIENT) as stage:
        heard: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))
        first = await connected(stage)
        broken = await waiting(stage, "own")
        second = await waiting(stage, "own", 2)
        place = place_of(stage, "own")
        take = type(place).take

        def mistaken(self: Place, permit: Permit, now: float) -> object:
            monkeypatch.setattr(type(place), "take", take)
            raise ValueError("oops")

        monkeypatch.setattr(type(place), "take", mistaken)
        await finished(first)
        assert await broken.was_reset()
        await said_back(second)
        assert [str(error) for error in heard] == ["oops"]
        await finished(second)
        await stage.nothing_left()


async def test_a_drain_ends_who_waits() -> None:
    async def silent(conversation: Conversation) -> None:
        await conversation.rest()

    async with guarded({"own": silent}, PATIENT) as stage:
        first = await stage.client()
        await stage.conversation("own")
        second = await waiting(stage, "own")
        stage.stage.stop()
        await stage.plane.drain(0.1)
        assert await first.was_reset()
        assert await second.was_reset()
        assert ended(stage, "own") == {"left": 1}
        assert [record["reason"] for record in await stage.records(2)] == ["drained"] * 2


async def test_a_mistake_once_connected_ends_one_connection_and_leaves_its_place_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with guarded({"own": echo}, PATIENT) as stage:
        heard: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))
        with monkeypatch.context() as patched:
            patched.setattr("proxy.tcp.attempts.introduction", None)
            broken = await stage.client("pass")
            await broken.send(client_hello())
            assert await broken.was_reset()
        assert [type(error) for error in heard] == [TypeError]
        await stage.nothing_left()
        assert place_of(stage, "own").health.load.outstanding == 0
        await finished(await connected(stage))
