"""The admin endpoints over real sockets."""

import asyncio
import json
import os
import socket
import stat
import subprocess
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import aiohttp
import pytest

from proxy.admin import AdminServer, Crew, Readiness, Status
from proxy.policy.settings import TcpBind, UnixBind
from proxy.telemetry.metrics import Metrics
from tests.admin.samples import STATUS
from tests.peers.process import program

ENDPOINTS = ("/metrics", "/healthz", "/readyz", "/status")
ALL = Crew(2, 2)
READY = Readiness(True, True, False, MappingProxyType({"own-eu": "healthy", "china-telecom": "down"}), ALL)


class Instance:
    """A server above, of which the endpoints are told."""

    def __init__(self, where=TcpBind("127.0.0.1", 0)) -> None:  # noqa: B008
        self.readiness = READY
        self.metrics = Metrics()
        self.metrics.connections("edge")
        self.admin = AdminServer(where, self.metrics.exposition, lambda: self.readiness, self.status)

    async def status(self) -> Status:
        return STATUS

    def url(self, path: str) -> str:
        assert isinstance(self.admin.bound, TcpBind)
        host = f"[{self.admin.bound.host}]" if ":" in self.admin.bound.host else self.admin.bound.host
        return f"http://{host}:{self.admin.bound.port}{path}"


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    made = Instance()
    await made.admin.start()
    yield made
    await made.admin.close()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def get(client, instance, path, **how):
    async with client.get(instance.url(path), **how) as answer:
        return answer, await answer.read()


async def test_it_says_that_it_is_alive(instance, client):
    answer, body = await get(client, instance, "/healthz")

    assert (answer.status, body) == (200, b"alive\n")


@pytest.mark.parametrize(
    ("readiness", "status"),
    [
        (READY, 200),
        (Readiness(True, True, False, {"own-eu": "down", "china-telecom": "down"}, ALL), 200),
        (Readiness(False, True, False, {}, ALL), 503),
        (Readiness(True, False, False, {}, ALL), 503),
        (Readiness(True, True, True, {"own-eu": "healthy"}, ALL), 503),
        (Readiness(True, True, False, {}, Crew(1, 4)), 200),
        (Readiness(True, True, False, {}, Crew(0, 4)), 503),
    ],
)
async def test_it_is_ready_whatever_its_providers_are(instance, client, readiness, status):
    instance.readiness = readiness

    answer, body = await get(client, instance, "/readyz")

    assert answer.status == status
    assert json.loads(body) == {
        "ready": status == 200,
        "policy_loaded": readiness.policy_loaded,
        "listeners_bound": readiness.listeners_bound,
        "draining": readiness.draining,
        "workers": {"living": readiness.workers.living, "wanted": readiness.workers.wanted},
        "providers": dict(readiness.providers),
    }


async def test_it_shows_its_status(instance, client):
    answer, body = await get(client, instance, "/status")

    assert (answer.status, answer.content_type) == (200, "application/json")
    shown = json.loads(body)
    assert shown == json.loads(json.dumps(asdict(STATUS)))
    assert list(shown) == [
        *("version", "digest", "uptime", "draining", "connections", "listeners", "zones", "providers", "load"),
        *("log_dropped", "log_problem", "workers", "restarts", "bounds"),
    ]
    assert shown["listeners"] == [{"name": "edge", "protocol": "http", "binds": ["0.0.0.0:8443"], "connections": 3}]
    assert shown["workers"] == {"living": 2, "wanted": 4}


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8", b""),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", b""),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
            b"# EOF\n",
        ),
        ("text/plain;version=rubbish, \u00e9;;=,", "text/plain", b""),
    ],
)
async def test_a_scrape_is_in_the_format_asked_for(instance, client, accept, content_type, end):
    answer, body = await get(client, instance, "/metrics", headers={} if accept is None else {"Accept": accept})

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(content_type)
    assert b'domicile_connections{listener="edge"} 0.0\n' in body
    assert body.endswith(end)
    assert body.count(b"# EOF") == (1 if end else 0)


async def test_promtool_finds_nothing_to_say_of_a_scrape(instance, client):
    _, body = await get(client, instance, "/metrics")

    linted = await asyncio.to_thread(
        subprocess.run, [program("promtool"), "check", "metrics"], input=body, capture_output=True
    )

    assert (linted.returncode, linted.stdout + linted.stderr) == (0, b"")


async def test_the_loop_turns_while_a_big_scrape_is_made(instance, client):
    for number in range(100):
        instance.metrics.requests("edge", f"provider-{number}", "eu")
        instance.metrics.timings(f"provider-{number}", "eu")
    turns, scraping = 0, True

    async def count_turns() -> None:
        nonlocal turns
        while scraping:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    _, body = await get(client, instance, "/metrics")
    scraping = False
    await counting

    samples = sum(not line.startswith(b"#") for line in body.splitlines())
    assert samples > 7000
    assert turns > samples / 25


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_only_reading_is_offered(instance, client, path):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        async with client.request(method, instance.url(path)) as answer:
            assert answer.status == 405
            assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD"}
    async with client.head(instance.url(path)) as answer:
        assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/Metrics", "/status/x", "/../status", "//status", "/favicon.ico"])
async def test_other_paths_are_not_there(instance, path):
    assert isinstance(instance.admin.bound, TcpBind)
    reader, writer = await asyncio.open_connection(instance.admin.bound.host, instance.admin.bound.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

    answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("path", [*ENDPOINTS, "/nothing"])
async def test_every_answer_is_fresh_taken_literally_and_names_no_versions(instance, client, path):
    answer, _ = await get(client, instance, path)

    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Server"] == "domicile"


async def test_a_fault_above_shows_no_stack(instance, client, caplog):
    instance.admin._status = lambda: 1 / 0

    answer, body = await get(client, instance, "/status")

    assert answer.status == 500
    assert b"ZeroDivision" not in body
    assert b"Traceback" not in body
    assert "ZeroDivisionError" in caplog.text


async def test_it_listens_on_ipv6(client):
    instance = Instance(TcpBind("::1", 0))
    await instance.admin.start()

    answer, _ = await get(client, instance, "/healthz")
    await instance.admin.close()

    assert answer.status == 200


async def test_it_is_gone_once_closed(client):
    instance = Instance()
    assert instance.admin.bound is None
    await instance.admin.close()
    await instance.admin.start()
    url = instance.url("/healthz")
    async with client.get(url) as answer:
        assert answer.status == 200
    await instance.admin.close()

    assert instance.admin.bound is None
    with pytest.raises(aiohttp.ClientError):
        await client.get(url)


async def test_an_address_in_use_is_said(instance):
    other = Instance(instance.admin.bound)

    with pytest.raises(OSError, match="in use"):
        await other.admin.start()


async def test_a_socket_that_listens_is_used_as_it_is(client):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        handed_on = listening.dup()
        instance = Instance(listening)
        await instance.admin.start()
        assert instance.admin.bound == TcpBind(*listening.getsockname())
        assert instance.admin.socket is listening

        answer, _ = await get(client, instance, "/healthz")
        await instance.admin.close()
    assert answer.status == 200

    # What another process would do that has it too: nobody is refused in between.
    successor = Instance(handed_on)
    await successor.admin.start()
    answer, _ = await get(client, successor, "/healthz")
    await successor.admin.close()
    assert answer.status == 200


async def over_unix(path: Path) -> int:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.get("http://admin/healthz") as answer,
    ):
        return answer.status


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
async def test_a_unix_socket_is_for_owner_and_group_and_is_removed(tmp_path, umask):
    path = tmp_path / "admin.sock"
    instance = Instance(UnixBind(path))
    before = os.umask(umask)
    try:
        await instance.admin.start()
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert await over_unix(path) == 200
    await instance.admin.close()
    assert not path.exists()


async def test_a_path_outlives_who_handed_it_on(tmp_path):
    path = tmp_path / "admin.sock"
    old = Instance(UnixBind(path))
    await old.admin.start()
    assert old.admin.socket is not None
    new = Instance(old.admin.socket.dup())
    await new.admin.start()

    await old.admin.close(leave_path=True)

    assert new.admin.bound == UnixBind(path)
    assert await over_unix(path) == 200
    await new.admin.close()
    assert path.exists()


async def test_what_a_dead_process_left_is_taken_over(tmp_path):
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    instance = Instance(UnixBind(path))

    await instance.admin.start()

    assert await over_unix(path) == 200
    await instance.admin.close()


async def test_what_somebody_serves_or_stored_is_left_alone(tmp_path):
    path = tmp_path / "admin.sock"
    living = Instance(UnixBind(path))
    await living.admin.start()
    stored = tmp_path / "file"
    stored.write_text("kept")

    for taken in (path, stored):
        with pytest.raises(OSError, match="in use"):
            await Instance(UnixBind(taken)).admin.start()

    assert await over_unix(path) == 200
    assert stored.read_text() == "kept"
    await living.admin.close()
