"""Real clients and servers through passthrough: byte-exact, verified end to end, unaware of what is between."""

import asyncio
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from tests.authority import Authority
from tests.identity.directory.servers import behind_tls, postgres, valkey, valkey_command
from tests.peers.nginx import nginx
from tests.peers.process import free_port, program, running
from tests.tcp.staging import Stage, staged

pytestmark = pytest.mark.debian

LARGE = 32 * 1024 * 1024


@pytest.fixture(scope="module")
def postgres_port() -> Iterator[int]:
    with postgres() as port:
        yield port


@pytest.fixture(scope="module")
def valkey_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with valkey(tmp_path_factory.mktemp("valkey")) as port:
        yield port


@asynccontextmanager
async def through(port: int, scheme: str = "tcp", **options: str) -> AsyncIterator[Stage]:
    async with staged({}, real={"own": port}, scheme=scheme, **options) as stage:
        yield stage


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_on_both_sides(authority: Authority, version: str, scheme: str, tmp_path: Path) -> None:
    issued = authority.issue(["storage.example"])
    port = free_port()
    # -rev says each line back, reversed.
    server = [
        program("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert", issued.certificate, "-key", issued.key,
        "-rev", version, "-quiet",
    ]  # fmt: skip
    with running("openssl", server, tmp_path, [port]):
        async with through(port, scheme) as stage:
            host, there = stage.address("pass")
            client = await asyncio.create_subprocess_exec(
                program("openssl"), "s_client", "-connect", f"{host}:{there}", "-servername", "storage.example",
                "-CAfile", str(authority.certificate), "-verify_return_error", "-verify_hostname", "storage.example",
                "-quiet", "-no_ign_eof", version, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            assert client.stdin is not None
            assert client.stdout is not None
            for line in (b"hello\n", b"0123456789\n"):
                client.stdin.write(line)
                async with asyncio.timeout(20):
                    assert await client.stdout.readline() == line[:-1][::-1] + b"\n"
            client.stdin.close()
            async with asyncio.timeout(20):
                await client.communicate()
            (record,) = await stage.records(1)
            assert (record["host"], record["provider"]) == ("storage.example", "own")


async def test_openssl_is_told_by_an_alert(authority: Authority) -> None:
    rules = "  - {name: nobody, when: {}, forbid: any}\n"
    async with through(9, "tls", rules=rules) as stage:
        host, there = stage.address("pass")
        client = await asyncio.create_subprocess_exec(
            program("openssl"), "s_client", "-connect", f"{host}:{there}", "-servername", "storage.example",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await client.communicate()
        assert b"alert access denied" in said
        assert client.returncode != 0


async def test_nginx_serves_a_large_file_over_tls(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue(["storage.example"])
    content = os.urandom(LARGE)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "large").write_bytes(content)
    port = free_port()
    http = f"""
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {issued.certificate}; ssl_certificate_key {issued.key};
        root {tmp_path}/files;
    }}
"""
    with nginx(http, [port], tmp_path / "nginx"):
        async with through(port, "tls") as stage:
            host, there = stage.address("pass")
            for protocol in ("--http1.1", "--http2"):
                client = await asyncio.create_subprocess_exec(
                    program("curl"), "-sS", protocol, "--cacert", str(authority.certificate),
                    "-o", str(tmp_path / "got"), "-w", "%{http_version}",
                    "--connect-to", f"storage.example:443:{host}:{there}",
                    "https://storage.example/large", stdout=subprocess.PIPE,
                )  # fmt: skip
                said, _ = await client.communicate()
                assert said == (b"1.1" if protocol == "--http1.1" else b"2")
                got = hashlib.sha256((tmp_path / "got").read_bytes()).digest()
                assert got == hashlib.sha256(content).digest()
                (tmp_path / "got").unlink()


async def test_postgresql(postgres_port: int) -> None:
    # A server that is still starting answers, too; what is counted below is one connection's.
    await (await _postgres("127.0.0.1", postgres_port)).close()
    async with through(postgres_port) as stage:
        host, port = stage.address("raw")
        connection = await _postgres(host, port)
        try:
            value = os.urandom(4 * 1024 * 1024)
            assert await connection.fetchval("SELECT $1::bytea", value) == value
            rows = await connection.fetch("SELECT generate_series(1, 20000) AS n")
            assert [row["n"] for row in rows] == list(range(1, 20001))
            with pytest.raises(asyncpg.QueryCanceledError):
                await connection.execute("SET statement_timeout = 50; SELECT pg_sleep(10)")
        finally:
            await connection.close()
        (record,) = await stage.records(1)
        assert record["reason"] is None
        assert int(str(record["to_client"])) > len(value)


async def _postgres(host: str, port: int) -> "asyncpg.Connection[asyncpg.Record]":
    async with asyncio.timeout(20):
        while True:
            try:
                return await asyncpg.connect(
                    host=host, port=port, user="postgres", database="postgres", password="", ssl=False
                )
            except asyncpg.CannotConnectNowError:
                await asyncio.sleep(0.05)


async def test_valkey(valkey_port: int) -> None:
    async with through(valkey_port) as stage:
        host, port = stage.address("raw")
        value = os.urandom(4 * 1024 * 1024)
        async with redis.asyncio.Redis(host=host, port=port) as client:
            assert await client.set("key", value)
            assert await client.get("key") == value
            for number in range(200):
                assert await client.incr("count") == number + 1
            async with client.pipeline() as pipeline:
                for number in range(1000):
                    pipeline.rpush("list", number)
                assert (await pipeline.execute())[-1] == 1000
        assert await asyncio.to_thread(valkey_command, port, "GET", "count") == "200"


async def test_valkey_wrapped_in_tls_by_domicile(valkey_port: int, authority: Authority) -> None:
    """The client speaks plaintext, the server TLS alone."""
    issued = authority.issue(["valkey.example"])
    async with behind_tls(valkey_port, issued.certificate, issued.key) as secured:
        provider = f", tls: {{ca: {authority.certificate}, server_name: valkey.example}}"
        async with through(secured, "tls", provider=provider) as stage:
            host, port = stage.address("raw")
            value = os.urandom(1024 * 1024)
            async with redis.asyncio.Redis(host=host, port=port) as client:
                assert await client.set("wrapped", value)
                assert await client.get("wrapped") == value
            (record,) = await stage.records(1)
            assert record["provider"] == "own"
