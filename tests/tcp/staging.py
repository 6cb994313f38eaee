"""An accept stage and a TCP plane in this process over real sockets: a policy, scripted providers, raw clients.

async with staged({"cn": echo}) as stage:
    client = await stage.client()
    await client.send(b"hello")
    assert await client.exactly(5) == b"hello"
"""

import asyncio
import json
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from proxy.config import load
from proxy.providers.resolve import Resolver
from proxy.server.accept import AcceptStage
from proxy.server.door import Opening
from proxy.server.listening import Sockets
from proxy.server.load import Opened, open_line
from proxy.tcp import TcpPlane
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import Metrics
from tests.server.staged import lent

MAINLAND = "1.2.4.8"
GERMANY = "193.99.144.80"
BRITAIN = "81.2.69.142"
PATIENCE = 20.0
"""Seconds after which a test that waits has failed."""

PROMISE = 2.0
"""Seconds in which something promised within one must be seen: the machine that tests may be busy."""

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
  sources: {sources}
rules:
  - {{name: mainland, when: {{home: cn-mainland}}, allow: {{zones: [cn-mainland], operators: [China Telecom]}}}}
  - {{name: europe, when: {{home: eu}}, allow: [eu]}}
  - {{name: everyone-else, when: {{home: elsewhere}}, allow: [elsewhere]}}
{rules}
guarantees:
  - {{unless: {{home: cn-mainland}}, never: {{operators: [China Telecom]}}}}
listeners:
  - {{name: raw, bind: "127.0.0.1:0", protocol: tcp}}
  - {{name: pass, bind: "127.0.0.1:0", protocol: tls}}
  - {{name: raw-told, bind: "127.0.0.1:0", protocol: tcp, proxy_protocol: required}}
  - {{name: pass-told, bind: "127.0.0.1:0", protocol: tls, proxy_protocol: required}}
{more}
log: {{path: access.log}}
"""

Script = Callable[["Conversation"], Awaitable[None]]


class Peer:
    """One end of a raw connection: a client's, or a provider's."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def some(self, most: int = 65536) -> bytes:
        """What comes next; nothing at the end."""
        async with asyncio.timeout(PATIENCE):
            data = await asyncio.get_running_loop().sock_recv(self.sock, most)
        self.received += data
        return data

    async def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await self.some(count - len(data))
            assert piece, f"ended after {data!r}"
            data += piece
        return data

    async def rest(self) -> bytes:
        """Everything up to an orderly end; raises ConnectionResetError where there is another."""
        data = bytearray()
        while piece := await self.some():
            data += piece
        return bytes(data)

    async def was_reset(self) -> bool:
        """Whether it ends by a reset, whatever came before."""
        try:
            await self.rest()
        except ConnectionResetError:
            return True
        return False

    def end(self) -> None:
        """A FIN; the other way stays open."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


class Conversation(Peer):
    """One connection at a scripted provider. over: its script has ended."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.over = asyncio.Event()


class ScriptedProvider:
    """A provider that does what its script says on every connection."""

    def __init__(self, script: Script, receive: int | None = None) -> None:
        self.script = script
        self.conversations: list[Conversation] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive is not None:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(1024)
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        accepting = asyncio.create_task(self._accept())
        try:
            yield
        finally:
            for task in (accepting, *self._tasks):
                task.cancel()
            await asyncio.gather(accepting, *self._tasks, return_exceptions=True)
            self._listening.close()
            for conversation in self.conversations:
                conversation.close()

    def refuse(self) -> None:
        """Listen no longer; living connections stay."""
        self._listening.shutdown(socket.SHUT_RDWR)  # a loop that accepts there keeps it from being closed
        self._listening.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listening)
            conversation = Conversation(sock)
            self.conversations.append(conversation)
            task = asyncio.create_task(self._serve(conversation))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, conversation: Conversation) -> None:
        try:
            await self.script(conversation)
        except ConnectionError:
            pass
        finally:
            conversation.over.set()
            conversation.close()


async def echo(conversation: Conversation) -> None:
    """Say back what comes, and end when it ends."""
    while data := await conversation.some():
        await conversation.send(data)


async def swallow(conversation: Conversation) -> None:
    """Take all that comes, and end when it ends."""
    while await conversation.some(262144):
        pass


async def wait(conversation: Conversation) -> None:
    """Say and take nothing."""
    await asyncio.Event().wait()


def saying(data: bytes) -> Script:
    """Say this, and end."""

    async def script(conversation: Conversation) -> None:
        await conversation.send(data)
        conversation.end()
        await conversation.rest()

    return script


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.providers: dict[str, ScriptedProvider] = {}
        self.clients: list[Peer] = []
        self.metrics = Metrics()
        self.resolver = Resolver()
        self.sockets = Sockets(1)
        self.opened: Opened
        self.plane: TcpPlane
        self.stage: AcceptStage

    def open(self, text: str) -> Opened:
        """The policy of a text, opened as a reload does."""
        path = self.folder / "policy.yaml"
        path.write_text(text)
        policy = load(path, os.environ, time.time()).policy
        return open_line(policy, self.resolver, self.opened.line if hasattr(self, "opened") else None)

    def put_in_force(self, opened: Opened) -> None:
        """Serve it from now on."""
        self.opened = opened
        policy = opened.line.policy
        prepared = self.sockets.prepare(policy.listeners)
        given = lent(prepared, self.stage.keys())
        self.sockets.commit(prepared)
        head, most, trusted = policy.timeouts.head, policy.limits.connections, opened.line.trusted
        self.stage.commit(
            [Opening(each, opened.certificates.get(each.name), head, most, trusted) for each in policy.listeners], given
        )

    def swap(self, text: str) -> None:
        """Reload: another policy is in force when this returns."""
        opened = self.open(text)
        self.plane.swap(opened.passing)
        self.put_in_force(opened)

    def address(self, listener: str = "raw") -> tuple[str, int]:
        host, _, port = self.sockets.addresses()[listener][0].rpartition(":")
        return host, int(port)

    async def client(self, listener: str = "raw", *, source: str | None = None, receive: int | None = None) -> Peer:
        """A connection to a listener; source: the address that a PROXY header says it comes from, at the listener's
        twin that requires one."""
        listener = listener if source is None else f"{listener}-told"
        sock = socket.socket()
        if receive is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.address(listener))
        client = Peer(sock)
        self.clients.append(client)
        if source is not None:
            await client.send(f"PROXY TCP4 {source} 127.0.0.1 40000 443\r\n".encode())
        return client

    async def conversation(self, provider: str, ordinal: int = 0) -> Conversation:
        """The provider's side of its connection of that number, once it is there."""
        conversations = self.providers[provider].conversations
        await eventually(lambda: len(conversations) > ordinal)
        return conversations[ordinal]

    async def records(self, count: int) -> list[dict[str, object]]:
        """The access log, once it has so many lines."""
        path = self.folder / "access.log"
        async with asyncio.timeout(PATIENCE):
            while len(lines := path.read_text().splitlines()) < count:
                await asyncio.sleep(0.02)
        assert len(lines) == count
        return [json.loads(line) for line in lines]

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a family's samples of this name that carry these labels."""
        return sum(
            sample.value
            for family in self.metrics.families()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def open_at(self, provider: str) -> int:
        """Connections that are open to a provider, as the proxy counts them."""
        return self.plane.line.fleet.states[provider].open

    async def nothing_left(self, within: float = PROMISE) -> None:
        """No client connection and no provider connection."""
        await eventually(lambda: self.plane.open_connections == 0, within)
        await eventually(lambda: all(state.open == 0 for state in self.plane.line.fleet.states.values()), within)
        assert self.counted("domicile_connections") == 0


def policy_text(
    ports: Mapping[str, int],
    *,
    rules: str = "",
    more: str = "",
    provider: str = "",
    scheme: str = "tcp",
    sources: str = "[{location: {accounts: false}}]",
) -> str:
    """The policy of most tests: `cn` is the telecom's, `eu` is in Europe, anything else is elsewhere.

    Loopback has no country: the first of the ports' names is where such clients are stated to be at home.
    """
    lines = []
    zones = {"cn": "cn-mainland", "eu": "eu"}
    for name, port in ({"cn": 9, **ports} if "cn" not in ports else ports).items():
        operator = "China Telecom" if name == "cn" else "Example Inc"
        where = f'zone: {zones.get(name, "elsewhere")}, endpoints: ["{scheme}://127.0.0.1:{port}"]'
        lines.append(f"  {name}: {{operator: {operator}, {where}{provider}}}")
    home = zones.get(next(iter(ports)), "elsewhere")
    stated = f"\n  stated: [{{when: {{client: [127.0.0.0/8]}}, home: {home}}}]"
    return POLICY.format(providers="\n".join(lines), rules=rules, more=more, sources=sources + stated)


@asynccontextmanager
async def staged(
    scripts: Mapping[str, Script],
    *,
    real: Mapping[str, int] | None = None,
    splices: bool = True,
    receive: int | None = None,
    **options: str,
) -> AsyncIterator[Stage]:
    """A running plane whose providers follow these scripts, by name; options as for `policy_text`.

    real: providers that are not played, and their ports. receive: the size of the played ones' receive buffers.
    """
    with TemporaryDirectory() as directory:
        stage = Stage(Path(directory))
        stage.providers = {name: ScriptedProvider(script, receive) for name, script in scripts.items()}
        running = [provider.running() for provider in stage.providers.values()]
        for each in running:
            await each.__aenter__()
        ports = {name: provider.port for name, provider in stage.providers.items()} | dict(real or {})
        opened = stage.open(policy_text(ports, **options))
        log = AccessLog(os.open(stage.folder / "access.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        stage.plane = TcpPlane(opened.passing, stage.metrics, log, splices=splices)
        loop = asyncio.get_running_loop()
        stage.stage = AcceptStage(loop, _no_http, stage.metrics.connections, stage.plane.take)
        stage.put_in_force(opened)
        opened.line.sources.begin()
        try:
            yield stage
        finally:
            for client in stage.clients:
                client.close()
            stage.stage.close()
            stage.sockets.close()
            await stage.plane.drain(0.0)
            await stage.opened.line.sources.close()
            await stage.resolver.close()
            for each in running:
                await each.__aexit__(None, None, None)
            log.close()


def _no_http(arrival: object) -> asyncio.Protocol:
    raise AssertionError("no http listener here")


async def eventually(holds: Callable[[], bool], within: float = PATIENCE) -> None:
    """Wait until it holds; fails when that takes longer."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.005)


@contextmanager
def not_before(seconds: float) -> Iterator[None]:
    """What it spans takes at least so long, and not for ever."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started >= seconds - 0.01


def client_hello(name: str | None = "storage.example", alpn: tuple[str, ...] = ()) -> bytes:
    """What OpenSSL sends first to a server of this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()
