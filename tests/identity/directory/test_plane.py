"""Directories behind a whole proxy: who is sent where, and what happens while a store is slow, down, or back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.directories import import_text
from tests.http1.scenes import own_tasks
from tests.http1.staging import PATIENCE, Response, request
from tests.identity.directory.servers import Service, administrate, service, valkey_command
from tests.identity.directory.test_readers import TABLE
from tests.identity.house import PROXY, STRANGER, House, house

SHORT = "cache: {max_age: 1500ms, refresh: 400ms, unknown: 300ms}"
LONG = "cache: {max_age: 1h, refresh: 1h, unknown: 1h}"
SAME_ZONES = """
version: 1
zones: {cn-mainland: {countries: [CN]}, eu: {countries: [EEA]}, elsewhere: {countries: ["*"]}}
providers: {ours: {operator: Example Inc, zone: eu, endpoints: "https://a.example"}}
subject: {sources: [{directory: {sqlite: directory.db, key: sni}}]}
rules: [{name: all, allow: any}]
"""
QUICK = "cache: {max_age: 300ms, refresh: 100ms, unknown: 100ms}"


def sources(store: str, more: str = LONG, key: str = "{header: X-Account}") -> str:
    """The sources of a policy: a directory, and an address that speaks for accounts too, to show it never does."""
    return f"  sources:\n    - directory: {{{store}, key: {key}, {more}}}\n    - location: {{accounts: false}}\n"


def over_http(made: Service, more: str = LONG, key: str = "{header: X-Account}") -> str:
    return sources(f'http: {{url: "http://127.0.0.1:{made.port}/home?subject={{}}"}}', more, key)


def asking(account: str | None, **changes: str) -> bytes:
    headers = "" if account is None else f"X-Account: {account}"
    return request("/", xff="1.2.4.8", headers=headers, **changes)  # type: ignore[arg-type]


async def visit(home: House, account: str | None = "acct") -> Response:
    """A request for this account, through the trusted proxy, on a connection of its own."""
    return await home.ask(asking(account), source=PROXY)


async def until(home: House, holds: Callable[[Response], bool], account: str = "acct") -> Response:
    """Visits until one is answered so."""
    async with asyncio.timeout(PATIENCE):
        while True:
            response = await visit(home, account)
            if holds(response):
                return response
            await asyncio.sleep(0.02)


@dataclass
class Store:
    """A store of some kind. text: as the policy says it. settle: has it say that these subjects live there."""

    text: str
    settle: Callable[[dict[str, str]], Awaitable[None]]
    move: Callable[[str, str, float, str], Awaitable[None]]


@asynccontextmanager
async def _http(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    async with service() as made:

        async def settle(homes: dict[str, str]) -> None:
            made.homes = {subject: {"home": home} for subject, home in homes.items()}

        async def move(subject: str, before: str, moment: float, after: str) -> None:
            made.homes[subject] = {"home": before, "until": moment, "then": after}

        yield Store(f'http: {{url: "http://127.0.0.1:{made.port}/home?subject={{}}"}}', settle, move)


@asynccontextmanager
async def _valkey(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    port: int = request.getfixturevalue("valkey_port")

    async def settle(homes: dict[str, str]) -> None:
        valkey_command(port, "FLUSHALL")
        for subject, home in homes.items():
            valkey_command(port, "SET", f"home:{subject}", home)

    async def move(subject: str, before: str, moment: float, after: str) -> None:
        record = f'{{"home": "{before}", "until": {moment}, "then": "{after}"}}'
        valkey_command(port, "SET", f"home:{subject}", record)

    yield Store(f'valkey: {{url: "redis://127.0.0.1:{port}"}}', settle, move)


@asynccontextmanager
async def _postgres(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    port: int = request.getfixturevalue("postgres_port")

    async def settle(homes: dict[str, str]) -> None:
        rows = [f"INSERT INTO domicile_homes VALUES ('{subject}', '{home}')" for subject, home in homes.items()]
        grant = "GRANT SELECT ON domicile_homes TO domicile"
        await administrate(port, TABLE, "TRUNCATE domicile_homes", *rows, grant)

    async def move(subject: str, before: str, moment: float, after: str) -> None:
        row = f"('{subject}', '{after}', to_timestamp({moment}))"
        await administrate(port, f"INSERT INTO domicile_homes VALUES {row}")

    yield Store(f'postgres: {{url: "postgresql://127.0.0.1:{port}/accounts", user: domicile}}', settle, move)


@asynccontextmanager
async def _sqlite(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    (folder / "made").mkdir()
    policy = folder / "made" / "policy.yaml"
    policy.write_text(SAME_ZONES)

    async def settle(homes: dict[str, str]) -> None:
        rows = "".join(f"{subject},{home}\n" for subject, home in homes.items())
        await asyncio.to_thread(import_text, policy, "subject,home\n" + rows)

    async def move(subject: str, before: str, moment: float, after: str) -> None:
        moment_text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
        await asyncio.to_thread(import_text, policy, f"subject,home,from\n{subject},{after},{moment_text}\n")

    yield Store("sqlite: made/directory.db", settle, move)


STORES = {"http": _http, "valkey": _valkey, "postgres": _postgres, "sqlite": _sqlite}
DEBIAN = {"postgres": (pytest.mark.debian,)}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=DEBIAN.get(kind, ())) for kind in STORES])
async def test_who_lives_where(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    async with STORES[kind](tmp_path, request) as store:
        await store.settle({"li": "CN", "anna": "de", "hong": "US"})
        async with house(tmp_path, sources(store.text, QUICK)) as home:
            for account, body in (("li", b"cn"), ("anna", b"eu"), ("hong", b"rest")):
                for _ in range(2):
                    response = await visit(home, account)
                    assert (response.status, response.body) == (200, body)
            for nobody in ("nobody", None):
                response = await visit(home, nobody)
                assert (response.status, response.reason) == (451, "home-unknown")
            assert home.touched() == {"cn": 2, "eu": 2, "rest": 2}
            await store.settle({"li": "FR", "nobody": "FR"})
            await until(home, lambda response: response.body == b"eu", "li")
            await until(home, lambda response: response.body == b"eu", "nobody")
            moment = float(int(time.time()) + 2)
            await store.move("li", "FR", moment, "CN")
            await until(home, lambda response: time.time() >= moment or response.body != b"eu", "li")
            assert time.time() >= moment, "not before"
            assert (await visit(home, "li")).body == b"cn", "and not after"


async def test_a_moment_that_is_known_of_is_kept_whatever_the_ages(tmp_path: Path) -> None:
    async with service() as made, house(tmp_path, over_http(made)) as home:
        moment = time.time() + 1
        made.homes["acct"] = {"home": "eu", "until": moment, "then": "cn-mainland"}
        while (response := await visit(home)).body == b"eu":
            assert time.time() < moment + 0.5
        assert response.body == b"cn"
        assert time.time() >= moment
        assert made.asked == ["acct"] * 2


async def test_nothing_reaches_a_provider_while_a_source_is_asked(tmp_path: Path) -> None:
    async with service() as made, house(tmp_path, over_http(made, f"{LONG}, timeout: 20s")) as home:
        made.homes["acct"] = {"home": "eu"}
        assert (await visit(home)).body == b"eu", "it can be reached"
        connections = home.connected()
        made.held = asyncio.Event()
        made.homes["other"] = {"home": "cn-mainland"}
        client = await home.client(source=PROXY)
        body = b"x" * 100_000
        await client.send(request("/", xff=None, method="POST", headers="X-Account: other", body=body))
        await client.send(asking("acct"))
        while made.asked[-1] != "other":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert (home.connected(), home.touched()) == (connections, {"eu": 1})
        made.held.set()
        first, second = await client.response(), await client.response()
        assert (first.body, second.body) == (b"cn", b"eu"), "in the order of the requests"
        assert home.providers["cn"].conversations[0].received.count(b"x") >= 1


async def test_too_slow_is_unavailable_and_no_other_source(tmp_path: Path) -> None:
    async with service() as made, house(tmp_path, over_http(made, f"{LONG}, timeout: 200ms")) as home:
        made.homes["acct"] = {"home": "eu"}
        made.held = asyncio.Event()
        started = time.monotonic()
        response = await visit(home)
        assert time.monotonic() - started >= 0.2
        assert (response.status, response.reason) == (503, "source-unavailable")
        assert response.header("retry-after") == "5"
        assert home.connected() == 0
        made.held.set()
        made.held = None
        assert (await until(home, lambda response: response.status == 200)).body == b"eu"


async def test_down_and_back_again(tmp_path: Path) -> None:
    async with service() as made, house(tmp_path, over_http(made, SHORT)) as home:
        made.homes["acct"] = {"home": "eu"}
        assert (await visit(home)).body == b"eu"
        fetched = time.monotonic()
        await made.stop()
        assert (await visit(home, "stranger")).status == 503
        while (response := await visit(home)).status == 200:
            assert response.body == b"eu"
            assert time.monotonic() < fetched + 1.5 + 0.5
            await asyncio.sleep(0.02)
        assert time.monotonic() >= fetched + 1, "it was bridged"
        assert (response.status, response.reason) == (503, "source-unavailable")
        assert set(home.touched()) == {"eu"}
        made.homes["acct"] = {"home": "cn-mainland"}
        await made.start()
        assert (await until(home, lambda response: response.status == 200)).body == b"cn"


async def test_a_stampede_asks_once(tmp_path: Path) -> None:
    async with service() as made, house(tmp_path, over_http(made, f"{LONG}, timeout: 20s")) as home:
        made.homes["acct"] = {"home": "eu"}
        made.held = asyncio.Event()
        asked = [asyncio.ensure_future(visit(home)) for _ in range(200)]
        async with asyncio.timeout(PATIENCE):
            while home.plane.open_connections < 200 or not made.asked:
                await asyncio.sleep(0.01)
        assert home.connected() == 0
        made.held.set()
        assert {response.body for response in await asyncio.gather(*asked)} == {b"eu"}
        assert made.asked == ["acct"]
        assert home.touched() == {"eu": 200}
        assert home.metric("domicile_source_cache_total", source="directory", result="miss") >= 200


@pytest.mark.parametrize("how", ["close", "abort", "half"])
async def test_a_client_that_leaves_while_waiting_leaves_nothing(tmp_path: Path, how: str) -> None:
    async with service() as made, house(tmp_path, over_http(made, f"{LONG}, timeout: 20s")) as home:
        made.homes["acct"] = {"home": "eu"}
        made.held = asyncio.Event()
        before = len(own_tasks())
        clients = [await home.client(source=PROXY) for _ in range(5)]
        for client in clients:
            await client.send(asking("acct"))
        while not made.asked:
            await asyncio.sleep(0.01)
        for client in clients:
            if how == "half":
                client.writer.write_eof()
            elif how == "abort":
                client.abort()
            else:
                client.close()
        records = await home.records(5)
        assert {record["reason"] for record in records} == {"client-left"}
        async with asyncio.timeout(PATIENCE):
            while home.plane.open_connections:
                await asyncio.sleep(0.01)
        made.held.set()
        assert (await visit(home)).body == b"eu", "what they asked for is there all the same"
        assert made.asked == ["acct"]
        async with asyncio.timeout(PATIENCE):
            while len(own_tasks()) > before:
                await asyncio.sleep(0.01)
        assert home.touched() == {"eu": 1}


async def test_key_headers_of_strangers_go_nowhere(tmp_path: Path) -> None:
    rules = "  - {name: nobody, when: {home: unknown}, allow: {providers: open}}\n"
    async with service() as made, house(tmp_path, over_http(made), rules) as home:
        made.homes["acct"] = {"home": "eu"}
        assert (await visit(home)).body == b"eu"
        assert b"X-Account: acct\r\n" in home.last("eu")
        lying = request("/", xff=None, headers="X-Account: acct\r\nX_Account: acct\r\nX-Other: a")
        assert (await home.ask(lying, source=STRANGER)).body == b"open"
        assert b"X-Other: a" in home.last("open")
        assert b"account" not in home.last("open").lower()
        assert made.asked == ["acct"]


async def test_a_reload_keeps_what_is_known_where_nothing_changed(tmp_path: Path) -> None:
    async with service() as made, house(tmp_path, over_http(made)) as home:
        made.homes["acct"] = {"home": "eu"}
        assert (await visit(home)).body == b"eu"
        home.reload(over_http(made), "  - {name: more, forbid: {providers: rest}}\n")
        assert (await visit(home)).body == b"eu"
        assert made.asked == ["acct"]
        old = home.plane.line.sources.seats[0].source
        home.reload(over_http(made, f"{LONG}, lookups: 3"))
        assert home.plane.line.sources.seats[0].source is not old
        assert (await visit(home)).body == b"eu"
        assert made.asked == ["acct", "acct"]


async def test_a_reload_while_a_request_waits(tmp_path: Path) -> None:
    async with service() as made, house(tmp_path, over_http(made, f"{LONG}, timeout: 20s")) as home:
        made.homes["acct"] = {"home": "eu"}
        made.held = asyncio.Event()
        waiting = asyncio.ensure_future(visit(home))
        while not made.asked:
            await asyncio.sleep(0.01)
        home.reload(over_http(made, f"{LONG}, timeout: 21s"))
        while made.asked != ["acct", "acct"]:
            await asyncio.sleep(0.01)
        made.held.set()
        assert (await waiting).body == b"eu", "asked by what is in force now"


async def test_tenants_by_path_and_by_host(tmp_path: Path) -> None:
    async with service() as made:
        made.homes = {"acme": {"home": "eu"}, "großmann": {"home": "eu"}}
        async with house(tmp_path, over_http(made, key='{path: "/t/{}/*"}')) as home:
            for target in ("/t/acme", "/t/acme/x?y=1", "/t/gro%C3%9Fmann/"):
                assert (await home.ask(request(target, xff=None))).body == b"eu", target
            for target in ("/t/other/x", "/x"):
                assert (await home.ask(request(target, xff=None))).status == 451, target
            assert made.asked == ["acme", "großmann", "other"]
    async with service() as made:
        made.homes = {"acme": {"home": "eu"}}
        (tmp_path / "hosts").mkdir()
        async with house(tmp_path / "hosts", over_http(made, key='{host: "{}.app.example"}')) as home:
            assert (await home.ask(request(xff=None, host="Acme.app.example:80"))).body == b"eu"
            assert (await home.ask(request(xff=None, host="a.acme.app.example"))).status == 451
            assert made.asked == ["acme"]


async def test_nothing_of_a_subject_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with service() as made, house(tmp_path, over_http(made, QUICK)) as home:
        made.homes["acct-7f3a"] = {"home": "eu"}
        assert (await visit(home, "acct-7f3a")).status == 200
        await made.stop()
        await until(home, lambda response: response.status == 503, "acct-7f3a")
        records = await home.records(2)
        assert "acct-7f3a" not in str(records)
        assert "acct-7f3a" not in caplog.text
        assert "acct-7f3a" not in str([list(samples) for _, samples in home.metrics.families()])
