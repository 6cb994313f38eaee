"""A subject moves at a date that a directory knows of: what is under way is decided again then, and nothing else is."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from proxy.http1 import plane
from proxy.http1.plan import Plan, Planner
from proxy.http1.plane import PERIOD
from proxy.identity.answers import Answer, Home, Kind, Silent
from proxy.identity.evidence import Evidence
from proxy.identity.identify import Sources
from proxy.identity.places import Places
from tests.http1.scenes import PROMISE, SWITCHED, UPGRADE, eventually, metric, not_before, nothing_left, told
from tests.http1.staging import (
    PATIENCE,
    Client,
    Conversation,
    Stage,
    answering,
    policy_text,
    request,
    saying,
    staged,
)
from tests.identity.directory.servers import Service, service
from tests.identity.tokens import AUDIENCE, ISSUER, all_keys, token

AHEAD = 2.0
"""Seconds from a test's beginning to a move."""


async def echo(conversation: Conversation) -> None:
    await conversation.read_head()
    await conversation.say(SWITCHED)
    while data := await conversation.read_some():
        await conversation.say(data)


def directory(made: Service, key: str = "{header: X-Account}") -> str:
    """A source that asks this service; it asks once, but for dated moves."""
    cache = "cache: {max_age: 1h, refresh: 1h, unknown: 1h}"
    return f'directory: {{http: {{url: "http://127.0.0.1:{made.port}/home?subject={{}}"}}, key: {key}, {cache}}}'


def put(stage: Stage, *sources: str, more: str = "") -> None:
    """Put a policy with these sources in force."""
    ports = {name: provider.port for name, provider in stage.providers.items()}
    text = policy_text(ports, more=more)
    before = "sources: [{location: {accounts: false}}]"
    assert text.count(before) == 1
    stage.plane.swap(stage.line(text.replace(before, "sources:\n" + "\n".join(f"    - {each}" for each in sources))))


@asynccontextmanager
async def moving(script: Any = echo, more: str = "") -> AsyncIterator[tuple[Stage, Service]]:
    async with service() as made, staged({"cn": script, "eu": echo}) as stage:
        put(stage, directory(made), more=more)
        yield stage, made


async def tunnel(stage: Stage, account: str, headers: str = "") -> Client:
    client = await stage.client()
    await client.send(request(headers=f"{UPGRADE}\r\nX-Account: {account}{headers}"))
    assert (await client.head()).status == 101
    return client


async def alive(client: Client) -> None:
    await client.send(b"ping")
    async with asyncio.timeout(PATIENCE):
        assert await client.reader.readexactly(4) == b"ping"


def withdrawn(stage: Stage) -> float:
    return metric(stage, "domicile_withdrawn_total", provider="cn")


def away(at: float) -> dict[str, object]:
    return {"home": "cn-mainland", "until": at, "then": "eu"}


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When living requests were decided again."""
    decide, times = Planner.again, list[float]()

    def again(*args: Any) -> Plan:
        times.append(args[-1])
        return decide(*args)

    monkeypatch.setattr(Planner, "again", again)
    return times


async def test_a_tunnel_ends_when_its_subject_moves_away_and_not_before(decided: list[float]) -> None:
    async with moving() as (stage, made):
        moves = time.time() + AHEAD
        made.homes = {"moves": away(moves), "stays": {"home": "cn-mainland"}}
        made.homes["renewed"] = {"home": "cn-mainland", "until": moves, "then": "cn-mainland"}
        ends, stays, renewed = [await tunnel(stage, account) for account in ("moves", "stays", "renewed")]
        with not_before(moves - time.time()):
            async with asyncio.timeout(AHEAD + PROMISE):
                assert await ends.rest() == b""
        assert withdrawn(stage) == 1
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["provider"]) == (101, "permit-withdrawn", "cn")
        await alive(stays)
        await alive(renewed)
        # Each that the date concerns twice: the directory had to be asked first. Nobody else, and nobody sooner.
        await eventually(lambda: len(decided) == 4)
        assert min(decided) >= moves
        assert sorted(made.asked) == ["moves", "moves", "renewed", "renewed", "stays"]


async def test_a_directory_that_is_slow_at_the_date_is_asked_once_and_waited_for(decided: list[float]) -> None:
    async with moving() as (stage, made):
        made.homes["acct"] = away(time.time() + AHEAD)
        client = await tunnel(stage, "acct")
        made.held = asyncio.Event()
        await eventually(lambda: len(made.asked) == 2)
        await asyncio.sleep(3 * PERIOD)
        await alive(client)
        assert (len(decided), len(made.asked)) == (1, 2)
        made.held.set()
        async with asyncio.timeout(PROMISE):
            assert await client.rest() == b""
        assert withdrawn(stage) == 1


async def test_a_directory_that_is_down_at_the_date_keeps_nobody_where_they_may_not_be_any_more() -> None:
    async with moving() as (stage, made):
        moves = time.time() + AHEAD
        made.homes = {"moves": away(moves), "stays": {"home": "cn-mainland"}}
        client, stays = await tunnel(stage, "moves"), await tunnel(stage, "stays")
        await made.stop()
        with not_before(moves - time.time()):
            async with asyncio.timeout(AHEAD + PROMISE):
                assert await client.rest() == b""
        assert withdrawn(stage) == 1
        await alive(stays)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_request_in_flight_has_a_moment_from_the_date_on(begun: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"
    script = saying(head) if begun else saying()
    async with moving(script, more="timeouts: {withdrawn: 500ms}") as (stage, made):
        moves = time.time() + AHEAD
        made.homes["acct"] = away(moves)
        client = await stage.client()
        await client.send(request(headers="X-Account: acct"))
        await eventually(lambda: any(stage.providers["cn"].heads))
        with not_before(moves - time.time() + 0.5):
            if begun:
                await client.head()
                assert await client.rest() == b"first"
            else:
                response = await client.response()
                assert (response.status, response.reason) == (503, "permit-withdrawn")
        assert withdrawn(stage) == 1
        client.close()
        await nothing_left(stage)


async def test_a_tokens_end_ends_no_tunnel_and_a_later_move_does(decided: list[float]) -> None:
    async with service() as made, staged({"cn": echo, "eu": echo}) as stage:
        (stage.directory / "jwks.json").write_bytes(all_keys())
        jwt = f"jwt: {{jwks: jwks.json, issuer: '{ISSUER}', audience: {AUDIENCE}, home_claim: residency, leeway: 0s}}"
        put(stage, jwt, directory(made, "token"))
        now = time.time()
        expires, moves = int(now) + 2, int(now) + 3.5
        made.homes["acct-7f3a"] = away(moves)
        shown = token(exp=expires, iat=expires - 90, residency=..., act=...).decode()
        client = await tunnel(stage, "none", f"\r\nAuthorization: Bearer {shown}")
        await asyncio.sleep(max(0.0, expires + 2 * PERIOD - time.time()))
        await alive(client)
        assert not decided
        with not_before(moves - time.time()):
            async with asyncio.timeout(2 + PROMISE):
                assert await client.rest() == b""
        assert withdrawn(stage) == 1


async def test_many_who_move_at_once_are_decided_a_share_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane, "DECIDED_AT_ONCE", 2)
    async with moving() as (stage, made):
        made.homes["acct"] = away(time.time() + AHEAD)
        clients = [await tunnel(stage, "acct") for _ in range(9)]
        for client in clients:
            async with asyncio.timeout(AHEAD + PROMISE):
                assert await client.rest() == b""
        assert withdrawn(stage) == 9
        assert made.asked == ["acct", "acct"]


# Clocks that are set


class Clock:
    """The world's clock, which can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.right = time.time
        self.ahead = 0.0
        monkeypatch.setattr(time, "time", lambda: self.right() + self.ahead)


class Dated:
    """A source whose one subject lives in mainland China until a moment, and in Europe from then on."""

    kind: Kind = "directory"

    def __init__(self, moves: float) -> None:
        self.moves = moves

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Answer:
        if time.time() < self.moves:
            return Home("cn-mainland", "acct", "subject", self.moves, self.moves)
        return Home("eu", "acct", "subject", None)

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        return frozenset()


@pytest.mark.parametrize("set_to", ["ahead", "back"])
async def test_a_clock_that_is_set_moves_whom_it_passes(set_to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged({"cn": echo, "eu": echo}) as stage:
        clock, line = Clock(monkeypatch), stage.plane.line
        moves = clock.right() + 1800
        stage.plane.swap(replace(line, sources=Sources([Dated(moves)], Places(line.policy.zones))))
        if set_to == "back":
            clock.ahead = 3600.0
            await asyncio.sleep(2 * PERIOD)
        client = await tunnel(stage, "acct")
        await asyncio.sleep(2 * PERIOD)
        await alive(client)
        clock.ahead = 3600.0 - clock.ahead
        async with asyncio.timeout(PROMISE):
            assert await client.rest() == b""
        provider = "cn" if set_to == "ahead" else "eu"
        assert metric(stage, "domicile_withdrawn_total", provider=provider) == 1
        # Where the subject lives by the clock of now, a tunnel stays.
        client = await tunnel(stage, "acct")
        await asyncio.sleep(2 * PERIOD)
        await alive(client)


async def test_a_clock_that_is_set_ends_no_tunnel_whose_subject_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged({"cn": answering(), "eu": echo}) as stage:
        clock, line = Clock(monkeypatch), stage.plane.line
        stage.plane.swap(replace(line, sources=Sources([Dated(0.0)], Places(line.policy.zones))))
        client = await tunnel(stage, "acct")
        for clock.ahead in (7200.0, -7200.0, 0.0):
            await asyncio.sleep(2 * PERIOD)
            await alive(client)
        assert metric(stage, "domicile_withdrawn_total") == 0
