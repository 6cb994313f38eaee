"""A subject moves at a date that a directory knows of: its living connections are decided again then, no others."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.identity.directory.servers import Service, service
from tests.tcp.staging import PROMISE, Peer, Stage, client_hello, echo, eventually, not_before, staged
from tests.tcp.test_decisions import reached

AHEAD = 2.0
"""Seconds from a test's beginning to a move."""


@asynccontextmanager
async def moving(**options: str) -> AsyncIterator[tuple[Stage, Service]]:
    """A stage whose homes a service knows by the server's name, and is asked for once, but for dated moves."""
    async with service() as made, staged({"cn": echo, "eu": echo}, **options) as stage:
        await reached(stage, "eu")
        cache = "cache: {max_age: 1h, refresh: 1h, unknown: 1h}"
        url = f"http://127.0.0.1:{made.port}/home?subject={{}}"
        text = (stage.folder / "policy.yaml").read_text()
        begin, end = text.index("  sources:"), text.index("rules:")
        source = f'[{{directory: {{http: {{url: "{url}"}}, key: sni, {cache}}}}}]'
        stage.swap(f"{text[:begin]}  sources: {source}\n{text[end:]}")
        stage.opened.line.sources.begin()
        yield stage, made
        assert stage.providers["eu"].conversations == []


async def connected(stage: Stage, name: str) -> Peer:
    client = await stage.client("pass")
    await client.send(hello := client_hello(name))
    await client.exactly(len(hello))
    return client


async def alive(client: Peer) -> None:
    await client.send(b"ping")
    assert await client.exactly(4) == b"ping"


def away(at: float) -> dict[str, object]:
    return {"home": "cn-mainland", "until": at, "then": "eu"}


async def test_a_connection_ends_when_its_subject_moves_away_and_not_before() -> None:
    async with moving() as (stage, made):
        moves = time.time() + AHEAD
        made.homes = {"moves.example": away(moves), "stays.example": {"home": "cn-mainland"}}
        made.homes["renewed.example"] = {"home": "cn-mainland", "until": moves, "then": "cn-mainland"}
        ends, stays, renewed = [await connected(stage, f"{name}.example") for name in ("moves", "stays", "renewed")]
        with not_before(moves - time.time()):
            async with asyncio.timeout(AHEAD + PROMISE):
                assert await ends.was_reset()
        assert stage.counted("domicile_withdrawn_total", provider="cn", listener="pass") == 1
        (record,) = await stage.records(1)
        assert (record["reason"], record["host"]) == ("withdrawn", "moves.example")
        await alive(stays)
        await alive(renewed)
        # Each that the date concerns is asked for again. Nobody else.
        await eventually(lambda: len(made.asked) == 5)
        assert sorted(name.partition(".")[0] for name in made.asked) == [
            "moves", "moves", "renewed", "renewed", "stays",
        ]  # fmt: skip


async def test_who_waits_for_a_full_provider_when_its_subject_moves_goes_where_it_may_go_then() -> None:
    async with moving(provider=", limits: {connections: 1, queue: {longest: 30s}}") as (stage, made):
        moves = time.time() + AHEAD
        made.homes = {"moves.example": away(moves), "stays.example": {"home": "cn-mainland"}}
        stays = await connected(stage, "stays.example")
        waits = await stage.client("pass")
        await waits.send(hello := client_hello("moves.example"))
        await eventually(lambda: stage.plane.open_connections == 2)
        (waiting,) = (each for each in stage.plane._passages if each._carried is None)
        await eventually(lambda: waiting.changes_at == moves)
        # A date that it knows of only since a reload is looked at like any other.
        stage.plane.deadlines.drop(waiting)
        old = stage.opened.line.sources
        stage.swap((stage.folder / "policy.yaml").read_text())
        stage.opened.line.sources.begin()
        await old.close()
        with not_before(moves - time.time()):
            async with asyncio.timeout(AHEAD + PROMISE):
                await waits.exactly(len(hello))
        assert len(stage.providers["cn"].conversations) == 1
        assert len(stage.providers["eu"].conversations) == 1
        stage.providers["eu"].conversations.clear()
        await alive(stays)


async def test_a_clock_that_is_set_has_all_decided_again() -> None:
    async with moving() as (stage, made):
        made.homes = {"moves.example": away(time.time() + 3600)}
        client = await connected(stage, "moves.example")
        (passage,) = stage.plane._passages
        changes = passage.changes_at
        assert changes > time.time() + 3000
        passage.changes_at = 0.0  # until somebody decides it again
        await asyncio.sleep(0.3)
        assert passage.changes_at == 0.0
        stage.plane._ahead += 5
        await eventually(lambda: passage.changes_at == changes, PROMISE)
        await alive(client)
