"""A whole `domicile serve` process between clients and two permitted providers behind links that can fail.

async with staged(tmp_path) as stage:
    stage.links["first"].refuse()
    assert (await stage.ask()).status == 200

`first` and `second` are the telecom's, in mainland China, and are tried in this order; `first-raw` and `second-raw` are
the same for the TCP plane. `abroad` can be reached, and is not permitted for mainland data. What every test shows
without saying so:

- At the start a Briton's data reaches `abroad`, over both planes: it can be reached, and a policy that permits it does.
- From then on `abroad` hears nothing but checks.
- There is one record and one metric for each request and each connection, no more and no fewer.
- `told` says which: how each request and connection since the last time ended.
- The process drains, exits 0, and has said nothing unforeseen (tests/running.py).
"""

import asyncio
import os
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from tests.faults.link import SOUND, Link
from tests.faults.site import CHECK, Site
from tests.http1.staging import BRITAIN, MAINLAND, Client, Response, request
from tests.running import Running, start

T = TypeVar("T")

SLACK = 5.0
"""Seconds past a deadline of the policy at which something has hung: the machine that tests may be busy."""

PATIENCE = 30.0
"""Seconds after which a test that waits has failed."""

CONNECT, FIRST_BYTE, IDLE = 0.5, 0.8, 1.0
"""The policy's, in seconds."""

TIMEOUTS = (
    f"timeouts: {{head: 1s, body_idle: 1s, keep_alive: 20s, connect: {CONNECT}s, first_byte: {FIRST_BYTE}s, "
    f"idle: {IDLE}s, drain: 5s, withdrawn: 1s}}"
)

TURNED = "1.2.4.200"
"""A client in mainland China who is sent to `second` first."""

FORGIVING = "kind: none, breaker: {open: 100ms, longest: 100ms, trials: 1, slow_start: 0s}"
"""How health is judged where a test is not about it: what is repaired is in service again at once."""

POLICY = """
version: 1
zones:
  cn-mainland: {{countries: [CN]}}
  elsewhere: {{countries: ["*"]}}
providers:
{providers}
  abroad:
    operator: Example Inc
    zone: elsewhere
    endpoints: ["http://127.0.0.1:{port}"]
    health: {{path: {check}, interval: 500ms}}
  abroad-raw:
    operator: Example Inc
    zone: elsewhere
    endpoints: ["tcp://127.0.0.1:{raw_port}"]
    health: {{kind: tcp, interval: 500ms}}
subject:
  trusted_proxies: [127.0.0.0/8]
  sources: {sources}
rules:
  - {{name: mainland, when: {{home: cn-mainland}}, allow: {{zones: [cn-mainland], operators: [China Telecom]}}}}
  - {{name: everyone-else, when: {{home: elsewhere}}, allow: [elsewhere]}}
routes:
{routes}
guarantees:
  - {{unless: {{home: cn-mainland}}, never: {{operators: [China Telecom]}}}}
  - {{when: {{home: cn-mainland}}, only: [cn-mainland]}}
listeners:
  - {{name: edge, bind: "127.0.0.1:0"}}
  - {{name: raw, bind: "127.0.0.1:0", protocol: tcp, proxy_protocol: required}}
{more}
"""

LOCATION = "[{location: {accounts: false}}]"


def telecom(name: str, endpoint: str, settings: str = "") -> str:
    """A provider of the policy that mainland data may go to."""
    return f'  {name}: {{operator: China Telecom, zone: cn-mainland, endpoints: ["{endpoint}"]{settings}}}'


class Passed:
    """One connection through the TCP plane."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """An RST. (A FIN ends one way alone, and is passed on.)"""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(count)

    async def rest(self) -> tuple[bytes, bool]:
        """All until the end, and whether that was in order and no reset."""
        data = b""
        async with asyncio.timeout(PATIENCE):
            try:
                while piece := await self.reader.read(65536):
                    data += piece
            except ConnectionError:
                return data, False
        return data, True


class Stage:
    """proxy: the process. sites, links, raw_links: by provider. asked, passed: what has to be accounted for."""

    def __init__(self, folder: Path, site: type[Site] = Site) -> None:
        self.folder = folder
        self.sites = {name: site(name) for name in ("first", "second", "abroad")}
        self.links: dict[str, Link] = {}
        self.raw_links: dict[str, Link] = {}
        self.proxy: Running
        self.asked = 0
        self.passed = 0
        self._before: list[bytes] = []
        self._told = 2
        self._counted: dict[str, float] = {}
        self.writers: list[asyncio.StreamWriter] = []

    # What clients do

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.proxy.port("edge")))
        self.writers.append(client.writer)
        return client

    async def ask(self, target: str = "/", **options: Any) -> Response:
        """One request on a connection of its own, of somebody in mainland China unless `xff` says otherwise."""
        client = await self.client()
        self.asked += 1
        try:
            await client.send(request(target, **options))
            return await client.response(options.get("method", "GET"))
        finally:
            client.close()

    async def connection(self, address: str = MAINLAND) -> Passed:
        """A connection through the TCP plane, of somebody in mainland China."""
        self.passed += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port("raw"))
        self.writers.append(writer)
        connection = Passed(reader, writer)
        await connection.send(f"PROXY TCP4 {address} 127.0.0.1 5000 443\r\n".encode())
        return connection

    async def echoed(self, data: bytes = b"hello", xff: str = MAINLAND) -> tuple[bytes, bool]:
        """What comes back of some bytes through the TCP plane, and whether it ended in order."""
        connection = await self.connection(xff)
        with suppress(OSError):  # It may be over already; `rest` says so.
            await connection.send(data)
            connection.writer.write_eof()
        answer = await connection.rest()
        connection.writer.close()
        return answer

    async def sound(self) -> None:
        """Nothing is broken any more, nothing is open, every endpoint is in service; all until here has been told."""
        (worker,) = self.proxy.workers()
        self.leave()
        for link in self.every_link:
            link.script.clear()
            link.fault = SOUND
            link.listen()
        in_service = answered = False
        async with asyncio.timeout(PATIENCE):
            while True:
                for link in self.every_link:
                    link.end()
                await until(lambda: self.at_providers(worker) == 0)
                # An answer in between, for failures in a row are counted over tests, too.
                answered, in_service = in_service, await self._states() == {"closed"}
                if in_service and answered:
                    break
                await asyncio.gather(*(each(xff=who) for each in (self.ask, self.echoed) for who in (MAINLAND, TURNED)))
                await asyncio.sleep(0.02)
        for name in self.links:
            await self.sites[name].forget()
        for link in self.every_link:
            link.accepted = 0
        await self.settle()

    async def settle(self) -> None:
        """All until here has been told."""
        self._told = len(await self.accounted())
        self._counted = await self.samples()

    async def _states(self) -> set[str]:
        status = await self.aside(self.proxy.status)
        return {endpoint["state"] for provider in status["providers"] for endpoint in provider["endpoints"]}

    @property
    def every_link(self) -> list[Link]:
        return [*self.links.values(), *self.raw_links.values()]

    def leave(self) -> None:
        """Close what clients have open."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    # What is seen from outside

    def at_providers(self, worker: int) -> int:
        """How many connections to the links a process has open."""
        return len(_connected_to({each.port for each in self.every_link}) & _held(worker))

    def served_by(self, worker: int, client: Client) -> bool:
        """Whether a process has a client's connection."""
        return bool(_connected_to({client.writer.get_extra_info("sockname")[1]}) & _held(worker))

    async def aside(self, blocking: Callable[..., T], *arguments: Any) -> T:
        """Something that blocks, while the providers go on."""
        return await asyncio.to_thread(blocking, *arguments)

    async def samples(self) -> dict[str, float]:
        """/metrics, by sample."""
        text = (await self.aside(self.proxy.get, "/metrics"))[1].decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    async def total(self, family: str, **labels: str) -> float:
        """The sum of a family's samples that carry these labels."""
        return _sum(await self.samples(), family, labels)

    async def grown(self, family: str, **labels: str) -> float:
        """By how much that grew since all was `sound`."""
        return await self.total(family, **labels) - _sum(self._counted, family, labels)

    async def records(self, count: int) -> list[dict[str, Any]]:
        """The access log, once it has so many lines."""
        await until(lambda: len(self.proxy.records()) >= count)
        return self.proxy.records()

    async def told(self, *reasons: str | None) -> list[dict[str, Any]]:
        """The records since they were last told, which say these reasons in any order."""
        records = (await self.accounted())[self._told :]
        self._told += len(records)
        assert Counter(each["reason"] for each in records) == Counter(reasons), records
        return records

    async def accounted(self) -> list[dict[str, Any]]:
        """All records: one for each request and connection, each counted once, and none that went elsewhere."""
        records = await self.records(self.asked + self.passed)
        assert await self.total("domicile_requests_total") == self.asked
        assert await self.total("domicile_passed_connections_total") == self.passed
        assert len(self.proxy.records()) == self.asked + self.passed, self.proxy.records()
        assert all(each["zone"] in ("cn-mainland", None) for each in records[2:])
        await self.nothing_elsewhere()
        return records

    async def nothing_elsewhere(self) -> None:
        """`abroad` has heard nothing since it was shown that it can be reached, but checks."""
        abroad = self.sites["abroad"]
        await until(lambda: abroad.told)
        assert abroad.heard == self._before

    async def _reach_abroad(self) -> None:
        abroad = self.sites["abroad"]
        response = await self.ask(xff=BRITAIN)
        assert response.body == b"abroad", response.body
        assert await self.echoed(b"to a Briton", BRITAIN) == (b"to a Briton", True)
        await until(lambda: len(abroad.heard) == 2)
        self._before = abroad.heard

    def policy(
        self,
        *,
        providers: str | None = None,
        sources: str = LOCATION,
        routes: str = "",
        health: str = "kind: none",
        raw_health: str = "kind: none",
        settings: str = "",
        more: str = "",
    ) -> str:
        """The policy of these tests.

        providers: instead of `first`, `second` and their `-raw` twins, of which health, raw_health and settings are.
        routes: before the one that prefers `first`.
        """
        if providers is None:
            lines = [
                telecom(f"{name}{raw}", endpoint, f", health: {{{each}}}{settings}")
                for name in ("first", "second")
                for raw, endpoint, each in (
                    ("", f"http://127.0.0.1:{self.links[name].port}", health),
                    ("-raw", f"tcp://127.0.0.1:{self.raw_links[name].port}", raw_health),
                )
            ]
            providers = "\n".join(lines)
            preferred = "first, second, first-raw, second-raw"
            routes = (
                f"  - {{when: {{client: {TURNED}}}, prefer: [second, second-raw]}}\n"
                f"{routes}  - {{when: {{home: cn-mainland}}, prefer: [{preferred}]}}\n"
            )
        if "timeouts:" not in more:
            more += f"\n{TIMEOUTS}\n"
        abroad = self.sites["abroad"]
        text = POLICY.format(
            providers=providers,
            port=abroad.port,
            raw_port=abroad.raw_port,
            check=CHECK,
            sources=sources,
            routes=routes,
            more=more,
        )
        return text if routes else text.replace("routes:\n", "")


def _sum(samples: Mapping[str, float], family: str, labels: Mapping[str, str]) -> float:
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    return sum(
        value
        for name, value in samples.items()
        if re.split("[{ ]", name)[0] == family and all(label in name for label in wanted)
    )


async def until(holds: Callable[[], object], within: float = PATIENCE) -> None:
    """Until something that nobody tells us of holds."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What it spans takes no longer than this deadline of the policy, and what a busy machine adds."""
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert took < seconds + SLACK, f"{took:.1f} s"


@asynccontextmanager
async def scene(folder: Path, site: type[Site] = Site) -> AsyncIterator[Stage]:
    """All but the process."""
    stage = Stage(folder, site)
    async with AsyncExitStack() as running:
        for name, site in stage.sites.items():
            await running.enter_async_context(site.running())
            if name != "abroad":
                stage.links[name] = await running.enter_async_context(Link(site.port).running())
                stage.raw_links[name] = await running.enter_async_context(Link(site.raw_port).running())
        yield stage


@asynccontextmanager
async def serving(stage: Stage, policy: str, *, accounted: bool = True, **options: Any) -> AsyncIterator[None]:
    """The process, with a policy; options as for tests/running.py.

    accounted: at the end, all is recorded and counted; else the test sees to it.
    """
    process = start(policy, stage.folder, **options)
    stage.proxy = await asyncio.to_thread(process.__enter__)
    try:
        await stage._reach_abroad()
        yield
        if accounted and stage.proxy.process.poll() is None:
            await stage.accounted()
    except BaseException as error:
        stage.leave()
        if not await asyncio.to_thread(process.__exit__, type(error), error, error.__traceback__):
            raise
    else:
        stage.leave()
        await asyncio.to_thread(process.__exit__, None, None, None)
        await stage.nothing_elsewhere()


@asynccontextmanager
async def staged(
    folder: Path, *, accounted: bool = True, options: Mapping[str, Any] | None = None, **policy: str
) -> AsyncIterator[Stage]:
    """The process with the policy of `Stage.policy`, whose arguments these are; options as for tests/running.py."""
    async with scene(folder) as stage, serving(stage, stage.policy(**policy), accounted=accounted, **(options or {})):
        yield stage


def _connected_to(ports: Collection[int]) -> set[str]:
    """The sockets whose other side has one of these ports, as `_held` has them."""
    ends = {f":{port:04X}" for port in ports}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{fields[9]}]" for fields in lines if fields[2][-5:] in ends}


def _held(pid: int) -> set[str]:
    """What a process's descriptors stand for."""
    held = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            held.add(os.readlink(entry.path))
    return held


def kinds(pid: int) -> Counter[str]:
    """How many descriptors a process has open, by what they stand for: socket, pipe, a path."""
    return Counter(re.sub(r":?\[?\d+\]?$", "", each) for each in _held(pid))


def processor(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
