"""Readers against real servers: what they find, what they make of failures, and that no answer is another's."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from proxy.identity.directory.contexts import store_context
from proxy.identity.directory.http import HttpReader
from proxy.identity.directory.postgres import PostgresReader
from proxy.identity.directory.reader import Entry, Reader, ReaderFailed
from proxy.identity.directory.valkey import ValkeyReader
from proxy.policy.settings import Secret
from proxy.policy.subject import HttpStore, PostgresStore, ValkeyStore
from tests.authority import make_authority
from tests.identity.directory.servers import (
    PASSWORD,
    Service,
    administrate,
    behind_tls,
    postgres,
    service,
    valkey,
    valkey_command,
)
from tests.peers.process import free_port

NOW = 1_800_000_000.0
_DOCUMENT = Path(__file__).parents[3] / "docs" / "identity.md"
(_SQL,) = re.findall(r"^```sql\n(.*?)^```$", _DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
TABLE = _SQL.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
"""The table as the document makes it."""


_OPENED: list[Reader] = []


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    """Whatever a test opened is closed, however it ends."""
    yield
    while _OPENED:
        await _OPENED.pop().close()


def a_valkey(port: int, **changes: Any) -> ValkeyReader:
    made: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "database": 0,
        "tls": False,
        "user": None,
        "password": None,
        "ca": None,
        "prefix": "home:",
    }
    store = ValkeyStore(**(made | changes))
    _OPENED.append(reader := ValkeyReader(store, store_context(store.tls, store.ca)))
    return reader


def a_postgres(port: int, **changes: Any) -> PostgresReader:
    made: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "database": "accounts",
        "tls": False,
        "user": "domicile",
        "password": None,
        "ca": None,
        "query": None,
        "connections": 4,
    }
    timeout = changes.pop("timeout", 1.0)
    store = PostgresStore(**(made | changes))
    _OPENED.append(reader := PostgresReader(store, store_context(store.tls, store.ca), timeout))
    return reader


def an_http(port: int, path: str = "/home?subject={}", scheme: str = "http", ca: Path | None = None) -> HttpReader:
    store = HttpStore(f"{scheme}://127.0.0.1:{port}{path}", (("X-Api-Key", Secret("s3cret")),), ca)
    _OPENED.append(reader := HttpReader(store, store_context(scheme == "https", ca), 4))
    return reader


async def fault(reader: Reader, key: str = "acct") -> str:
    """Why a look-up fails; the reader is closed."""
    try:
        async with asyncio.timeout(20):
            with pytest.raises(ReaderFailed) as failed:
                await reader.find(key, NOW)
        return failed.value.fault
    finally:
        await reader.close()


HOMES = {
    "acct": Entry("eu"),
    "größe/../x y%20&subject=evil": Entry("cn-mainland"),
    "ahead": Entry("eu", NOW + 100),
    "moved": Entry("cn-mainland"),
    "gone": Entry(None),
    "nobody": None,
}
RECORDS = {
    "acct": "eu",
    "größe/../x y%20&subject=evil": '{"home": "cn-mainland"}',
    "ahead": f'{{"home": "eu", "until": {NOW + 100}, "then": "cn-mainland"}}',
    "moved": '{"home": "eu", "until": "2027-01-15T16:00:00+08:00", "then": "cn-mainland"}',
    "gone": '{"home": null}',
}


async def test_valkey(valkey_port: int) -> None:
    valkey_command(valkey_port, "FLUSHALL")
    for key, record in RECORDS.items():
        valkey_command(valkey_port, "SET", f"home:{key}", record)
    reader = a_valkey(valkey_port)
    assert {key: await reader.find(key, NOW) for key in HOMES} == HOMES
    assert await asyncio.gather(*(reader.find(key, NOW) for key in HOMES)) == list(HOMES.values())
    await reader.close()
    assert await fault(reader) == "closed"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ("{", "protocol"),
        ('{"home": 7}', "protocol"),
        ('{"home": "eu", "home": "cn-mainland"}', "protocol"),
        ('{"home": "eu", "then": "cn-mainland"}', "protocol"),
        ('{"home": "eu", "until": "tomorrow"}', "protocol"),
        ('{"home": "eu", "until": "2027-01-15T16:00:00"}', "protocol"),
        ('{"home": "eu", "until": NaN}', "protocol"),
        ("x" * 65, "protocol"),
        ("e\x01u", "protocol"),
        ("x" * 100_000, "protocol"),
    ],
)
async def test_a_record_that_makes_no_sense(valkey_port: int, record: str, why: str) -> None:
    valkey_command(valkey_port, "SET", "home:odd", record)
    assert await fault(a_valkey(valkey_port), "odd") == why


async def test_a_valkey_key_of_another_kind(valkey_port: int) -> None:
    valkey_command(valkey_port, "DEL", "home:list")
    valkey_command(valkey_port, "RPUSH", "home:list", "eu")
    assert await fault(a_valkey(valkey_port), "list") == "query"


async def test_valkey_with_tls_and_a_password(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    issued = authority.issue(ips=["127.0.0.1"])
    (tmp_path / "other").mkdir()
    other = make_authority(tmp_path / "other")
    with valkey(tmp_path, "--requirepass", PASSWORD) as plain:
        async with behind_tls(plain, issued.certificate, issued.key) as port:
            good: dict[str, Any] = {"tls": True, "ca": authority.certificate, "password": Secret(PASSWORD)}
            reader = a_valkey(port, **good, database=3)
            assert await reader.find("acct", NOW) is None
            await reader.close()
            assert await fault(a_valkey(port, **good | {"password": Secret("wrong")})) == "login"
            assert await fault(a_valkey(port, **good | {"password": None})) == "login"
            assert await fault(a_valkey(port, **good | {"ca": other.certificate})) == "unreachable"
            assert await fault(a_valkey(port, **good | {"ca": None})) == "unreachable"
            assert await fault(a_valkey(port, **good | {"host": "localhost"})) == "unreachable", "another name"


async def test_valkey_gone_and_back(tmp_path: Path) -> None:
    with valkey(tmp_path) as port:
        valkey_command(port, "SET", "home:acct", "eu")
        reader = a_valkey(port)
        assert await reader.find("acct", NOW) == Entry("eu")
    with pytest.raises(ReaderFailed) as failed:
        await reader.find("acct", NOW)
    assert failed.value.fault == "refused"
    with valkey(tmp_path, port=port):
        valkey_command(port, "SET", "home:acct", "cn-mainland")
        assert await reader.find("acct", NOW) == Entry("cn-mainland")
        valkey_command(port, "CLIENT", "KILL", "TYPE", "normal")
        assert await reader.find("acct", NOW) == Entry("cn-mainland"), "a connection that was closed is no failure"
    await reader.close()


async def test_no_valkey_answer_is_taken_for_another_subjects(valkey_port: int) -> None:
    """Look-ups are cancelled at every point of theirs, among others that go on."""
    for i in range(50):
        valkey_command(valkey_port, "SET", f"home:s{i}", f"z{i}")
    reader = a_valkey(valkey_port)

    async def look_up(i: int) -> None:
        assert await reader.find(f"s{i}", NOW) == Entry(f"z{i}")

    for turn in range(60):
        tasks = [asyncio.ensure_future(look_up(i)) for i in range(50)]
        for _ in range(turn % 12):
            await asyncio.sleep(0)
        for task in tasks[turn % 3 :: 3]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(each is None or isinstance(each, asyncio.CancelledError) for each in outcomes)
    await reader.close()


@pytest.fixture
async def accounts(postgres_port: int) -> int:
    rows = (
        "('acct', 'eu', '-infinity')",
        "('größe/../x y%20&subject=evil', 'cn-mainland', '-infinity')",
        f"('ahead', 'eu', '-infinity'), ('ahead', 'cn-mainland', to_timestamp({NOW + 100}))",
        f"('moved', 'eu', '-infinity'), ('moved', 'cn-mainland', to_timestamp({NOW}))",
        f"('gone', 'eu', '-infinity'), ('gone', NULL, to_timestamp({NOW - 1})), ('gone', 'eu', 'infinity')",
        f"('first', 'eu', to_timestamp({NOW + 50}))",
    )
    await administrate(
        postgres_port,
        TABLE,
        "TRUNCATE domicile_homes",
        *(f"INSERT INTO domicile_homes VALUES {row}" for row in rows),
        "GRANT SELECT, INSERT ON domicile_homes TO domicile",
    )
    return postgres_port


@pytest.mark.debian
async def test_postgres(accounts: int) -> None:
    reader = a_postgres(accounts)
    expected = HOMES | {"gone": None, "first": Entry(None, NOW + 50)}
    assert {key: await reader.find(key, NOW) for key in expected} == expected
    assert await asyncio.gather(*(reader.find(key, NOW) for key in expected)) == list(expected.values())
    assert await reader.find("ahead", NOW + 100) == Entry("cn-mainland")
    assert await reader.find("first", NOW + 50) == Entry("eu")
    await reader.close()
    assert await fault(reader) == "closed"


QUERIES = {
    "SELECT home FROM domicile_homes WHERE subject = $1 -- by subject": Entry("eu"),
    "SELECT 'hk'::varchar AS home WHERE $1 = 'acct'": Entry("hk"),
    "SELECT 'hk' AS home, $2 + 5 AS until WHERE $1 = 'acct'": Entry("hk", NOW + 5),
    "WITH found AS (SELECT home FROM domicile_homes WHERE subject = $1) SELECT home FROM found": Entry("eu"),
    "SELECT home FROM domicile_homes WHERE subject = $1 AND home = 'none'": None,
    "SELECT home FROM domicile_homes WHERE $1 <> ''": "query",
    "SELECT subject FROM domicile_homes WHERE subject = $1": "query",
    "SELECT 7 AS home WHERE $1 = 'acct'": "protocol",
    "SELECT home FROM absent WHERE subject = $1": "query",
    "SELECT home FROM domicile_homes WHERE subject = $1 AND": "query",
    "SELECT home FROM domicile_homes WHERE subject = $1 FOR UPDATE": "query",
    "SELECT 'eu' AS home, pg_sleep(20) WHERE $1 = 'acct'": "timeout",
    "SELECT 'eu' AS home, '2027-01-01'::timestamp AS until WHERE $1 = 'acct'": "query",
}


@pytest.mark.debian
@pytest.mark.parametrize("query", QUERIES)
async def test_a_query_of_the_operators(accounts: int, query: str) -> None:
    outcome = QUERIES[query]
    reader = a_postgres(accounts, query=query, timeout=0.3)
    if isinstance(outcome, str):
        assert await fault(reader) == outcome
    else:
        assert await reader.find("acct", NOW) == outcome
        await reader.close()


@pytest.mark.debian
async def test_the_query_can_change_nothing(accounts: int) -> None:
    await administrate(
        accounts,
        "CREATE OR REPLACE FUNCTION meddle(text) RETURNS text LANGUAGE sql SECURITY DEFINER AS "
        "$$ INSERT INTO domicile_homes VALUES ('made', 'eu') RETURNING home $$",
    )
    assert await fault(a_postgres(accounts, query="SELECT meddle($1) AS home")) == "query"
    reader = a_postgres(accounts)
    assert await reader.find("made", NOW) is None
    await reader.close()


@pytest.mark.debian
async def test_postgres_with_tls_and_a_password(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    issued = authority.issue(ips=["127.0.0.1"])
    port = free_port()
    with _postgres_with(issued.certificate, issued.key, port):
        await administrate(port, TABLE, f"ALTER USER domicile PASSWORD '{PASSWORD}'")
        await administrate(port, "GRANT SELECT ON domicile_homes TO domicile")
        good: dict[str, Any] = {"tls": True, "ca": authority.certificate, "password": Secret(PASSWORD)}
        reader = a_postgres(port, **good)
        assert await reader.find("acct", NOW) is None
        await reader.close()
        assert await fault(a_postgres(port, **good | {"password": Secret("wrong")})) == "login"
        assert await fault(a_postgres(port, **good | {"password": None})) == "login"
        assert await fault(a_postgres(port, **good | {"ca": None})) == "unreachable"
        assert await fault(a_postgres(port, **good | {"host": "localhost"})) == "unreachable", "another name"
        assert await fault(a_postgres(port, **good | {"tls": False, "ca": None})) == "login"


def _postgres_with(certificate: Path, key: Path, port: int) -> Any:
    hba = "hostssl all domicile 127.0.0.1/32 scram-sha-256\nhostnossl all domicile 127.0.0.1/32 reject\n"
    return postgres(tls=(certificate, key), port=port, hba=hba)


@pytest.mark.debian
async def test_postgres_gone_and_back(accounts: int) -> None:
    reader = a_postgres(accounts)
    assert await reader.find("acct", NOW) == Entry("eu")
    await administrate(accounts, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'domicile'")
    assert await reader.find("acct", NOW) == Entry("eu"), "a connection that was closed is no failure"
    await reader.close()
    assert await fault(a_postgres(free_port())) == "refused"


@pytest.mark.debian
async def test_no_postgres_answer_is_taken_for_another_subjects(accounts: int) -> None:
    reader = a_postgres(accounts, query="SELECT $1 AS home, pg_sleep(0.002)")

    async def look_up(i: int) -> None:
        assert await reader.find(f"z{i}", NOW) == Entry(f"z{i}")

    for turn in range(20):
        tasks = [asyncio.ensure_future(look_up(i)) for i in range(12)]
        await asyncio.sleep(turn * 0.0005)
        for task in tasks[turn % 3 :: 3]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(each is None or isinstance(each, asyncio.CancelledError) for each in outcomes), outcomes
    await reader.close()


async def test_http() -> None:
    async with service() as made:
        made.homes = {
            "acct": {"home": "eu"},
            "größe/../x y%20&subject=evil": {"home": "cn-mainland", "name": "ignored"},
            "ahead": {"home": "eu", "until": NOW + 100, "then": "cn-mainland"},
            "moved": {"home": "eu", "until": "2027-01-15T08:00:00Z", "then": "cn-mainland"},
            "gone": {"home": None},
        }
        reader = an_http(made.port)
        assert {key: await reader.find(key, NOW) for key in HOMES} == HOMES
        assert made.asked == list(HOMES)
        assert made.requests[0].headers["X-Api-Key"] == "s3cret"
        assert await reader.find("..", NOW) is None
        assert await reader.find("..", NOW) is None
        assert made.asked == list(HOMES), "a dot segment is asked of nobody"
        await reader.close()
        assert await fault(reader) == "closed"


def _response(status: int = 200, body: bytes = b'{"home": "eu"}', **headers: str) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json"} | headers)


@pytest.mark.parametrize(
    ("override", "why"),
    [
        (_response(301, Location="/elsewhere"), "query"),
        (_response(307, Location="/elsewhere"), "query"),
        (_response(204, b""), "query"),
        (_response(400), "query"),
        (_response(401), "login"),
        (_response(403), "login"),
        (_response(429), "busy"),
        (_response(500), "store"),
        (_response(503), "busy"),
        (_response(body=b""), "protocol"),
        (_response(body=b"eu"), "protocol"),
        (_response(body=b"[]"), "protocol"),
        (_response(body=b"{}"), "protocol"),
        (_response(body=b'{"home": ["eu"]}'), "protocol"),
        (_response(body=b'{"home": "eu", "pad": "' + b"x" * 5000 + b'"}'), "protocol"),
        (_response(**{"Content-Encoding": "gzip"}), "protocol"),
    ],
)
async def test_an_http_answer_that_is_none(override: web.Response, why: str) -> None:
    async with service() as made:
        made.override = override
        assert await fault(an_http(made.port)) == why
        assert made.asked == ["acct"], "no redirect is followed"


async def test_http_keeps_no_cookies() -> None:
    async with service() as made:
        made.override = _response(**{"Set-Cookie": "a=b; Path=/"})
        reader = an_http(made.port)
        for _ in range(2):
            await reader.find("acct", NOW)
        assert [request.headers.get("Cookie") for request in made.requests] == [None, None]
        await reader.close()


async def test_http_over_tls(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    issued = authority.issue(ips=["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    async with service(context) as made:
        reader = an_http(made.port, scheme="https", ca=authority.certificate)
        assert await reader.find("acct", NOW) is None
        await reader.close()
        assert await fault(an_http(made.port, scheme="https")) == "unreachable"
        assert await fault(an_http(made.port, scheme="http")) in ("protocol", "unreachable")
        assert made.asked == ["acct"]


async def test_http_gone_and_back() -> None:
    async with service() as made:
        made.homes["acct"] = {"home": "eu"}
        reader = an_http(made.port)
        assert await reader.find("acct", NOW) == Entry("eu")
        await made.stop()
        with pytest.raises(ReaderFailed) as failed:
            await reader.find("acct", NOW)
        assert failed.value.fault in ("refused", "protocol", "unreachable")
        await made.start()
        assert await reader.find("acct", NOW) == Entry("eu")
        await reader.close()


async def test_nobody_there() -> None:
    port = free_port()
    assert await fault(an_http(port)) == "refused"
    assert await fault(a_valkey(port)) == "refused"
    made = Service()
    await made.start()
    port = made.port
    await made.stop()
    assert await fault(an_http(port)) == "refused"
