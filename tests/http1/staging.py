"""A plane in this process over real sockets: a policy, scripted providers, raw clients.

async with staged({"cn": answer(b"hello")}) as stage:
    client = await stage.client()
    await client.send(request("/x", xff=MAINLAND))
    assert (await client.response()).status == 200
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from proxy.config import load
from proxy.http1.arrival import Arrival
from proxy.http1.line import Line
from proxy.http1.plane import HttpPlane
from proxy.identity.country import open_countries
from proxy.identity.identify import open_sources
from proxy.identity.networks import Networks
from proxy.providers.fleet import Fleet
from proxy.providers.rates import RateLimits
from proxy.providers.resolve import Resolver
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import Metrics

MAINLAND = "1.2.4.8"
HONG_KONG = "202.45.84.58"
GERMANY = "141.1.1.1"
BRITAIN = "81.2.69.142"
NEVER_SICK = ", health: {kind: none, passive: {share: none, consecutive: none}}"
"""Of a provider that stays in service however often it fails."""
PATIENCE = 20.0
"""Seconds after which a test that waits has failed."""

POLICY = """
version: 1
zones:
  cn-mainland: {{countries: [CN]}}
  eu: {{countries: [EEA]}}
  elsewhere: {{countries: ["*"]}}
providers:
{providers}
subject:
  trusted_proxies: [127.0.0.0/8]
  sources: [{{location: {{accounts: false}}}}]
rules:
  - {{name: mainland, when: {{home: cn-mainland}}, allow: {{zones: [cn-mainland], operators: [China Telecom]}}}}
  - {{name: europe, when: {{home: eu}}, allow: [eu]}}
  - {{name: everyone-else, when: {{home: elsewhere}}, allow: [elsewhere]}}
{rules}
guarantees:
  - {{unless: {{home: cn-mainland}}, never: {{operators: [China Telecom]}}}}
listeners:
  - {{name: edge, bind: "127.0.0.1:0"}}
{more}
"""

Script = Callable[["Conversation"], Awaitable[None]]


@dataclass
class Conversation:
    """One connection at a scripted provider."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    reset: bool = False

    async def read_head(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.received += head
        return head

    async def read(self, size: int) -> bytes:
        data = await self.reader.readexactly(size)
        self.received += data
        return data

    async def read_some(self) -> bytes:
        data = await self.reader.read(65536)
        self.received += data
        return data

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def wait_end(self) -> None:
        """Until the proxy closes or resets it."""
        try:
            while await self.read_some():
                pass
        except ConnectionError:
            self.reset = True


class ScriptedProvider:
    """A provider that does what its script says on every connection, and keeps what it was sent."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.conversations: list[Conversation] = []
        self.met = asyncio.Event()
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._server = server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for conversation in self.conversations:
                conversation.writer.transport.abort()

    def refuse(self) -> None:
        """Listen no longer; living connections stay."""
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(reader, writer)
        self.conversations.append(conversation)
        self.met.set()
        try:
            await self.script(conversation)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            conversation.ended.set()
            writer.close()

    @property
    def heads(self) -> list[bytes]:
        """All that it was sent, a connection each."""
        return [bytes(conversation.received) for conversation in self.conversations]


def answering(body: bytes = b"ok", *, head: bytes = b"") -> Script:
    """A provider that answers every bodiless request with this body, on a connection that stays."""
    response = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    async def script(conversation: Conversation) -> None:
        while True:
            await conversation.read_head()
            await conversation.say(response)

    return script


def saying(*pieces: bytes) -> Script:
    """A provider that answers its first request with these bytes and then waits for the end."""

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        for piece in pieces:
            await conversation.say(piece)
        await conversation.wait_end()

    return script


def closing(*pieces: bytes) -> Script:
    """A provider that answers its first request with these bytes and closes."""

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        for piece in pieces:
            await conversation.say(piece)

    return script


@dataclass
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    raw_head: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def reason(self) -> str:
        return str(json.loads(self.body)["reason"])


class Client:
    """A raw client connection with just enough HTTP to take responses apart."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Response:
        async with asyncio.timeout(PATIENCE):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:-2])]
        return Response(int(lines[0].split(" ")[1]), headers, b"", raw)

    async def response(self, method: str = "GET") -> Response:
        """One whole response; raises IncompleteReadError where it is cut."""
        response = await self.head()
        async with asyncio.timeout(PATIENCE):
            if method == "HEAD" or response.status in (204, 304) or response.status < 200:
                return response
            if response.header("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += await self.reader.readexactly(size)
                    assert await self.reader.readexactly(2) == b"\r\n"
                assert await self.reader.readexactly(2) == b"\r\n"
            elif response.header("content-length") is not None:
                body = await self.reader.readexactly(int(response.header("content-length") or 0))
            else:
                body = await self.reader.read()
        response.body = body
        return response

    async def rest(self) -> bytes:
        """Everything until the end; a reset ends it too."""
        data = b""
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                while piece := await self.reader.read(65536):
                    data += piece
        return data

    async def closed(self) -> bool:
        """Whether the proxy has closed, with nothing more said."""
        return await self.rest() == b""

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()


class Stage:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.providers: dict[str, ScriptedProvider] = {}
        self.clients: list[Client] = []
        self.metrics = Metrics()
        self.plane: HttpPlane
        self.port = 0
        self.resolver = Resolver()

    def line(self, text: str, old: Line | None = None) -> Line:
        path = self.directory / "policy.yaml"
        path.write_text(text)
        policy = load(path, os.environ, time.time()).policy
        countries = open_countries(policy.geoip, time.time())
        fleet = Fleet.open(policy, self.resolver) if old is None else old.fleet.renewed(policy)[0]
        sources = open_sources(policy.subject, policy.zones, countries)
        rates = RateLimits.open(policy.rates, None if old is None else old.rates)
        return Line(policy, sources, countries, Networks(policy.subject.trusted_proxies), fleet, rates=rates)

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes, method: str = "GET") -> Response:
        """One request on a connection of its own."""
        client = await self.client()
        await client.send(data)
        return await client.response(method)

    async def records(self, count: int) -> list[dict[str, object]]:
        """The access log, once it has so many lines."""
        path = self.directory / "access.log"
        async with asyncio.timeout(PATIENCE):
            while len(lines := path.read_text().splitlines()) < count:
                await asyncio.sleep(0.02)
        return [json.loads(line) for line in lines]


def policy_text(
    ports: Mapping[str, int],
    *,
    rules: str = "",
    more: str = "",
    provider: str = "",
    log: str = "",
    scheme: str = "http",
) -> str:
    """The policy of most tests: `cn` is the telecom's, `eu` is in Europe, anything else is elsewhere."""
    lines = []
    for name, port in ports.items():
        zone = {"cn": "cn-mainland", "eu": "eu"}.get(name, "elsewhere")
        operator = "China Telecom" if name == "cn" else "Example Inc"
        lines.append(
            f'  {name}: {{operator: {operator}, zone: {zone}, endpoints: ["{scheme}://127.0.0.1:{port}"]{provider}}}'
        )
    if "overload:" not in more:
        # These tests run on machines that are overloaded at times, and ask for other things.
        more += "\noverload: {adaptive: false}"
    text = POLICY.format(providers="\n".join(lines), rules=rules, more=more)
    return text + (log or "log: {path: access.log}\n")


def opened_log(line: Line) -> int:
    """A descriptor of the policy's log."""
    path = line.policy.log.path
    assert path is not None
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


@asynccontextmanager
async def staged(scripts: Mapping[str, Script], **options: str) -> AsyncIterator[Stage]:
    """A running plane whose providers follow these scripts, by name; options as for `policy_text`."""
    with TemporaryDirectory() as directory:
        stage = Stage(Path(directory))
        stage.providers = {name: ScriptedProvider(script) for name, script in scripts.items()}
        running = [provider.running() for provider in stage.providers.values()]
        for each in running:
            await each.__aenter__()
        ports = {name: provider.port for name, provider in stage.providers.items()}
        line = stage.line(policy_text(ports, **options))
        log = AccessLog(opened_log(line))
        stage.plane = HttpPlane(line, stage.metrics, log)
        server = await asyncio.get_running_loop().create_server(
            lambda: stage.plane.connection(Arrival(line.policy.listeners[0], ip_address("127.0.0.1"))), "127.0.0.1", 0
        )
        stage.port = server.sockets[0].getsockname()[1]
        try:
            yield stage
        finally:
            for client in stage.clients:
                client.abort()
            server.close()
            await stage.plane.drain(0.0)
            for each in running:
                await each.__aexit__(None, None, None)
            log.close()


def request(
    target: str = "/",
    *,
    method: str = "GET",
    xff: str | None = MAINLAND,
    host: str = "storage.example",
    headers: str = "",
    body: bytes | None = None,
    version: str = "1.1",
) -> bytes:
    """A request; body adds its Content-Length."""
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}"]
    if xff is not None:
        lines.append(f"X-Forwarded-For: {xff}")
    if headers:
        lines.append(headers)
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
