"""Providers that are down, slow, silent, or speak nonsense: the same faults for requests and for connections.

One process serves all tests of a stage; between them everything is repaired, and found to be in service again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.link import BOTH, SOUND, At, Fault, Link
from tests.faults.staging import CONNECT, FIRST_BYTE, FORGIVING, IDLE, Passed, Stage, staged, until, within
from tests.http1.staging import Client, request

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage"), health=FORGIVING, raw_health=FORGIVING) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(_stage: Stage) -> Stage:
    """Two providers that are in service, tried in this order, and deadlines of less than a second."""
    await _stage.sound()
    return _stage


PATIENT = "timeouts: {connect: 20s, first_byte: 20s, idle: 20s, body_idle: 20s}"
ROUTES = """\
  - {when: {home: cn-mainland, path: /first}, only: {providers: [first]}}
  - {when: {home: cn-mainland, path: /second}, only: {providers: [second]}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _patient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("patient")
    async with staged(folder, health=FORGIVING, raw_health=FORGIVING, more=PATIENT, routes=ROUTES) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def patient(_patient: Stage) -> Stage:
    """Deadlines of 20 seconds; /first and /second are these providers' alone."""
    await _patient.sound()
    return _patient


def befall(fault: Fault) -> Callable[[Link], None]:
    def switch(link: Link) -> None:
        link.fault = fault

    return switch


@dataclass(frozen=True)
class Row:
    """breaks: done to the links of both permitted providers. status, reason: of an answer. outcome: of a connection,
    None where the bytes were passed on to the end. due: seconds by the policy, for two providers tried in turn."""

    name: str
    breaks: Callable[[Link], None]
    status: int
    reason: str
    outcome: str | None
    due: float


TURNED_AWAY = ("unreachable", "timeout")
"""A connection that reached nobody is closed: whether its client sees a reset is a matter of what was not read yet."""

SILENT = (504, "provider-too-slow", "idle", max(2 * FIRST_BYTE, IDLE))

ROWS = [
    Row("refused", Link.refuse, 502, "provider-refused", "unreachable", 2 * CONNECT),
    Row("black-holed", Link.swallow, 504, "provider-connect-timeout", "timeout", 2 * CONNECT),
    Row("slow", befall(Fault(latency=3600)), *SILENT),
    Row("deaf", befall(Fault(lost=frozenset({"to_provider"}))), *SILENT),
    Row("mute", befall(Fault(lost=frozenset({"to_client"}))), *SILENT),
    Row("cut", befall(Fault(lost=BOTH)), *SILENT),
    Row("stalled", befall(Fault(rate=0)), *SILENT),
    Row("reset", befall(Fault(at=At("to_client", 0, "reset"))), 502, "provider-closed", "reset", 1),
    Row("ended", befall(Fault(at=At("to_client", 0, "end"))), 502, "provider-closed", None, 1),
    Row("garbage", befall(Fault(at=At("to_client", 0, "garbage"))), 502, "provider-head-malformed", None, 1),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_when_all_that_is_permitted_fails_there_is_an_answer_in_time_and_nobody_else_is_asked(
    row: Row, stage: Stage
) -> None:
    (worker,) = stage.proxy.workers()
    assert (await stage.ask()).body == b"first"
    stage.links["first"].reset()
    await until(lambda: stage.at_providers(worker) == 0)
    for link in stage.every_link:
        row.breaks(link)
    with within(row.due):
        response, (data, orderly) = await asyncio.gather(stage.ask(), stage.echoed())
    assert (response.status, response.reason) == (row.status, row.reason)
    assert data == b"" or row.name == "garbage"
    assert orderly == (row.outcome is None) or row.outcome in TURNED_AWAY
    await stage.told(None, row.reason, row.outcome)
    assert await stage.grown("domicile_requests_total", listener="edge", status="5xx") == 1
    assert await stage.grown("domicile_passed_connections_total", outcome=row.outcome or "completed") == 1


async def test_while_all_are_down_every_answer_is_quick_and_there_is_no_panic(stage: Stage) -> None:
    for link in stage.every_link:
        link.refuse()
    for _ in range(20):
        with within(2 * CONNECT):
            response, echo = await asyncio.gather(stage.ask(), stage.echoed())
        assert response.status in (502, 503)
        assert response.status == 502 or response.header("retry-after") is not None
        assert echo[0] == b""
    reasons = {each["reason"] for each in (await stage.accounted())[-40:]}
    assert reasons == {"provider-refused", "unavailable", "unreachable"}
    await stage.sound()
    assert (await stage.ask()).body == b"first", "it is back as soon as its breaker lets it be tried"
    assert await stage.echoed() == (b"hello", True)


async def test_one_that_is_down_gives_way_to_the_other(stage: Stage) -> None:
    stage.links["first"].refuse()
    stage.raw_links["first"].swallow()
    with within(CONNECT):
        response, echo = await asyncio.gather(stage.ask(method="POST", body=b"data"), stage.echoed())
    assert response.body == b"second"
    assert echo == (b"hello", True)
    assert [each["attempts"] for each in await stage.told(None, None)] == [2, 2]
    assert stage.sites["second"].requests == ["POST /"]


@pytest.mark.parametrize("breaks", [befall(Fault(latency=3600)), Link.swallow], ids=["slow", "black-holed"])
async def test_a_slow_provider_holds_up_nobody_elses(breaks: Callable[[Link], None], patient: Stage) -> None:
    link = patient.links["first"]
    breaks(link)
    asked = patient.asked + 40
    waiting = [asyncio.create_task(patient.ask("/first")) for _ in range(40)]
    await until(lambda: patient.asked == asked)
    for _ in range(100):
        with within(0):  # all of the slow ones are waited for meanwhile, and for 20 seconds
            response = await patient.ask("/second")
        assert response.body == b"second"
    assert not any(each.done() for each in waiting)
    link.fault = SOUND
    link.reset()
    link.listen()
    assert {each.status for each in await asyncio.gather(*waiting)} <= {200, 502}


@pytest.mark.parametrize("dies", ["ended", "reset"])
async def test_an_idle_connection_that_died_is_noticed_before_anything_is_sent(dies: str, stage: Stage) -> None:
    link, site = stage.links["first"], stage.sites["first"]
    for method in ("GET", "POST", "GET"):
        assert (await stage.ask(method=method, body=b"once")).body == b"first"
        await until(lambda: link.living == 1)
        link.reset() if dies == "reset" else link.end()
        await until(lambda: link.living == 0)
    assert site.requests == ["GET /", "POST /", "GET /"]
    assert link.accepted == 3
    await stage.told(None, None, None)


async def test_an_idle_connection_that_was_cut_in_silence_is_a_504_and_not_used_again(stage: Stage) -> None:
    link, site = stage.links["first"], stage.sites["first"]
    assert (await stage.ask()).body == b"first"
    link.fault = Fault(lost=BOTH)
    with within(2 * FIRST_BYTE):
        response = await stage.ask(method="POST", body=b"once")
    assert (response.status, response.reason) == (504, "provider-too-slow")
    link.fault = SOUND
    assert (await stage.ask()).status == 200
    assert "POST /" not in (*site.requests, *stage.sites["second"].requests)
    await stage.told(None, "provider-too-slow", None)


async def test_a_repeated_request_has_all_its_time_for_a_new_connection(tmp_path: Path) -> None:
    more = "timeouts: {connect: 1s, first_byte: 300ms, idle: 5s}"
    async with staged(tmp_path, more=more) as stage:
        link = stage.links["first"]
        assert (await stage.ask()).body == b"first"
        link.swallow()
        link.fault = Fault(at=At("to_client", 0, "reset"))
        with within(1.3):
            response = await stage.ask()
        assert response.body == b"second", "a deadline of the connection that broke is not one of what comes after it"
        await stage.told(None, None)


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_what_is_not_idempotent_is_never_sent_twice(method: str, kept: bool, stage: Stage) -> None:
    if kept:
        assert (await stage.ask()).body == b"first"
    for link in stage.links.values():
        link.fault = Fault(at=At("to_client", 0, "reset"))
    with within(FIRST_BYTE):
        response = await stage.ask("/pay", method=method, body=b"once")
    assert (response.status, response.reason) == (502, "provider-closed")
    assert stage.sites["first"].requests[-1:] == [f"{method} /pay"]
    assert stage.sites["second"].requests == []
    records = await stage.told(*([None] if kept else []), "provider-closed")
    assert records[-1]["attempts"] == 1


async def _half_sent(stage: Stage, client: Client) -> None:
    stage.asked += 1
    await client.send(request("/up", method="PUT", headers="Content-Length: 50000000") + b"x" * 500_000)


@pytest.mark.parametrize("link", ["sound", "stalled"])
async def test_who_leaves_in_mid_upload_leaves_nothing_at_the_provider(link: str, patient: Stage) -> None:
    (worker,) = patient.proxy.workers()
    if link == "stalled":
        for each in patient.every_link:
            each.fault = Fault(rate=0)
    before = patient.at_providers(worker)
    client, passed = await patient.client(), await patient.connection()
    await _half_sent(patient, client)
    await passed.send(b"x" * 100_000)
    await until(lambda: patient.at_providers(worker) == before + 2)
    client.abort()
    passed.reset()
    with within(1.0):
        await until(lambda: patient.at_providers(worker) == before)
    await patient.told("client-left", "client-left")
    assert not any("PUT /up" in site.requests for site in patient.sites.values())


@pytest.mark.parametrize("then", ["reset", "end"])
async def test_an_answer_that_is_cut_off_never_looks_whole(then: str, stage: Stage) -> None:
    stage.links["first"].fault = Fault(at=At("to_client", 5000, then))  # type: ignore[arg-type]
    for method in ("GET", "POST"):
        with within(IDLE), pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await stage.ask("/bytes/20000", method=method)
    records = await stage.told("provider-closed", "provider-closed")
    assert [each["attempts"] for each in records] == [1, 1]


async def test_a_throttled_provider_serves_slowly_and_whole(stage: Stage) -> None:
    stage.links["first"].fault = stage.raw_links["first"].fault = Fault(rate=80_000)

    async def passed() -> bytes:
        connection: Passed = await stage.connection()
        await connection.send(b"y" * 30_000)
        connection.writer.write_eof()
        data, orderly = await connection.rest()
        assert orderly
        return data

    response, echo = await asyncio.gather(stage.ask("/bytes/60000"), passed())
    assert response.body == b"x" * 60_000
    assert echo == b"y" * 30_000
    await stage.told(None, None)
