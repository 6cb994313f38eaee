"""A whole proxy in this process, its accept stage included, with providers that count and a policy of its own.

async with house(tmp_path, SOURCES) as home:
    answer = await home.ask(request("/", headers="Authorization: Bearer ..."))
    assert home.touched() == {"cn": 1}

127.0.0.2 is a trusted proxy; requests that say where they come from are sent from there.
"""

import asyncio
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from proxy.config import load
from proxy.http1.plane import HttpPlane
from proxy.providers.resolve import Resolver
from proxy.server.accept import AcceptStage
from proxy.server.door import Opening
from proxy.server.listening import Sockets
from proxy.server.load import Opened, open_line
from proxy.server.sources import source_report
from proxy.tcp import TcpPlane
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import Metrics
from tests.authority import make_authority
from tests.http1.staging import PATIENCE, Client, Response, ScriptedProvider, answering, opened_log
from tests.server.staged import lent

PROXY = "127.0.0.2"
"""The trusted proxy's address."""

STRANGER = "127.0.0.1"

ZONES = {"cn": "cn-mainland", "eu": "eu", "rest": "elsewhere", "open": "elsewhere"}

POLICY = """
version: 1
zones:
  cn-mainland: {{countries: [CN]}}
  eu: {{countries: [EEA]}}
  elsewhere: {{countries: ["*"]}}
providers:
{providers}
subject:
  trusted_proxies: [{proxy}]
{sources}
  actors: [support]
rules:
  - {{name: mainland, when: {{home: cn-mainland}}, allow: {{providers: cn}}}}
  - {{name: europe, when: {{home: eu}}, allow: {{providers: eu}}}}
  - {{name: everyone-else, when: {{home: elsewhere}}, allow: {{providers: rest}}}}
{rules}
guarantees:
  - {{unless: {{home: cn-mainland}}, never: {{operators: China Telecom}}}}
listeners:
  - {{name: edge, bind: "127.0.0.1:0"}}
  - {{name: intranet, bind: "127.0.0.1:0"}}
  - {{name: secure, bind: "127.0.0.1:0", tls: {{certificates: [{{certificate: edge.pem, key: edge.key}}]}}}}
{more}
# These tests run on machines that are overloaded at times, and ask for other things.
overload: {{adaptive: false}}
log: {{path: access.log}}
"""


class House:
    """A running proxy. folder: of its policy file."""

    def __init__(self, folder: Path, providers: Mapping[str, ScriptedProvider]) -> None:
        self.folder = folder
        self.providers = providers
        self.metrics = Metrics()
        self.resolver = Resolver()
        self.clients: list[Client] = []
        self.plane: HttpPlane
        self.passing: TcpPlane
        self.stage: AcceptStage
        self.sockets: Sockets
        self.trust: ssl.SSLContext

    def write(self, sources: str, rules: str = "", more: str = "") -> Path:
        """The policy file with these sources, further rules and further listeners."""
        lines = [
            f"  {name}: {{operator: {'China Telecom' if name == 'cn' else 'Example Inc'}, zone: {ZONES[name]}, "
            f'endpoints: ["http://127.0.0.1:{provider.port}"]}}'
            for name, provider in self.providers.items()
        ]
        path = self.folder / "policy.yaml"
        path.write_text(POLICY.format(providers="\n".join(lines), proxy=PROXY, sources=sources, rules=rules, more=more))
        return path

    def open(self, sources: str, rules: str = "", more: str = "") -> Opened:
        """The policy with these, opened as a reload does."""
        policy = load(self.write(sources, rules, more), os.environ, time.time()).policy
        return open_line(policy, self.resolver, getattr(self, "plane", None) and self.plane.line)

    def put_in_force(self, opened: Opened) -> None:
        """Serve it from now on."""
        policy = opened.line.policy
        prepared = self.sockets.prepare(policy.listeners)
        limits, timeouts = policy.limits, policy.timeouts
        given = lent(prepared, self.stage.keys())
        self.sockets.commit(prepared)
        self.stage.commit(
            [
                Opening(
                    each, opened.certificates.get(each.name), timeouts.head, limits.connections, opened.line.trusted
                )
                for each in policy.listeners
            ],
            given,
        )

    def reload(self, sources: str, rules: str = "", more: str = "") -> None:
        """Take another policy."""
        opened = self.open(sources, rules, more)
        self.passing.swap(opened.passing)
        self.plane.swap(opened.line)
        self.put_in_force(opened)

    def port(self, listener: str) -> int:
        """Where a listener listens."""
        return int(self.sockets.addresses()[listener][0].rpartition(":")[2])

    async def client(self, listener: str = "edge", source: str = STRANGER, name: str = "storage.example") -> Client:
        """A connection to a listener, over TLS for this name if it speaks that."""
        tls = listener == "secure"
        client = Client(
            *await asyncio.open_connection(
                "127.0.0.1",
                self.port(listener),
                local_addr=(source, 0),
                ssl=self.trust if tls else None,
                server_hostname=name if tls else None,
            )
        )
        self.clients.append(client)
        return client

    async def ask(self, data: bytes, listener: str = "edge", source: str = STRANGER) -> Response:
        """One request on a connection of its own."""
        client = await self.client(listener, source)
        await client.send(data)
        response = await client.response()
        client.close()
        return response

    def touched(self) -> dict[str, int]:
        """How many requests each provider has had."""
        counts = {name: sum(head.count(b"\r\n\r\n") for head in each.heads) for name, each in self.providers.items()}
        return {name: count for name, count in counts.items() if count}

    def connected(self) -> int:
        """How many connections all providers have had."""
        return sum(len(each.conversations) for each in self.providers.values())

    def last(self, provider: str) -> bytes:
        """The last head that a provider was sent."""
        return self.providers[provider].heads[-1].split(b"\r\n\r\n")[-2] + b"\r\n"

    async def records(self, count: int) -> list[dict[str, object]]:
        """The access log, once it has so many lines."""
        async with asyncio.timeout(PATIENCE):
            while len(lines := (self.folder / "access.log").read_text().splitlines()) < count:
                await asyncio.sleep(0.02)
        return [json.loads(line) for line in lines]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a family's samples of this name that carry these labels."""
        return sum(
            sample.value
            for _, samples in self.metrics.families()
            for sample in samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def house(folder: Path, sources: str, rules: str = "", more: str = "") -> AsyncIterator[House]:
    """A proxy whose policy has these `sources` (and `stated`), rules and listeners besides the ordinary ones."""
    authority = make_authority(folder, "house")
    issued = authority.issue(["storage.example", "other.example"])
    (folder / "edge.pem").write_bytes(issued.certificate.read_bytes())
    (folder / "edge.key").write_bytes(issued.key.read_bytes())
    async with AsyncExitStack() as stack:
        providers = {name: ScriptedProvider(answering(name.encode())) for name in ZONES}
        for provider in providers.values():
            await stack.enter_async_context(provider.running())
        made = House(folder, providers)
        made.trust = ssl.create_default_context(cafile=str(authority.certificate))
        opened = made.open(sources, rules, more)
        log = AccessLog(opened_log(opened.line))
        made.plane = HttpPlane(opened.line, made.metrics, log)
        made.metrics.sources(lambda: source_report(made.plane.line))
        made.sockets = Sockets(1)
        made.passing = TcpPlane(opened.passing, made.metrics, log)
        made.stage = AcceptStage(
            asyncio.get_running_loop(), made.plane.connection, made.metrics.connections, made.passing.take
        )
        made.put_in_force(opened)
        try:
            yield made
        finally:
            for client in made.clients:
                client.abort()
            made.stage.close()
            made.sockets.close()
            await made.passing.drain(0.0)
            await made.plane.drain(0.0)
            await made.resolver.close()
            await asyncio.sleep(0)
            log.close()
