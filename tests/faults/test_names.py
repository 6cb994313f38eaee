"""A name service that fails, falls silent or lies, for a process whose /etc/resolv.conf is a test's."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, cast

import pytest
import pytest_asyncio

from tests.faults.staging import CONNECT, FORGIVING, Stage, scene, serving, telecom, within

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.debian]

ELSEWHERE = "127.0.0.77"
"""Where a lie leads: an address that no provider may be dialled at."""

Mood = Literal["well", "failing", "silent", "lying"]


class NameServer(asyncio.DatagramProtocol):
    """Says 127.0.0.1 of every name, for a second; or what its mood is. asked: the names."""

    def __init__(self) -> None:
        self.mood: Mood = "well"
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question, kind = _question(data)
        self.asked.append(".".join(label.decode() for label in _labels(question)))
        if self.mood == "silent":
            return
        address = ELSEWHERE if self.mood == "lying" else "127.0.0.1"
        answers = [b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04" + socket.inet_aton(address)] if kind == 1 else []
        if self.mood == "failing":
            answers = []
        flags = 0x8180 | (2 if self.mood == "failing" else 0)
        head = data[:2] + struct.pack(">5H", flags, 1, len(answers), 0, 0)
        self._transport.sendto(head + question + b"".join(answers), addr)


def _question(packet: bytes) -> tuple[bytes, int]:
    """The only one of a packet, and the type that it asks for."""
    end = packet.index(b"\0", 12) + 5
    return packet[12:end], int.from_bytes(packet[end - 4 : end - 2], "big")


def _labels(question: bytes) -> Iterator[bytes]:
    place = 0
    while size := question[place]:
        yield question[place + 1 : place + 1 + size]
        place += 1 + size


class Named:
    """names: the name service. Each client has a provider of its own, at a name that nobody has asked for yet."""

    def __init__(self, stage: Stage, names: NameServer) -> None:
        self.stage = stage
        self.names = names
        self._number = -1

    def next(self) -> str:
        """The client of the next provider."""
        self._number += 1
        self.name = f"name{self._number}"
        return _client(self._number)


MANY = 8


def _client(number: int) -> str:
    return f"1.2.4.{100 + number}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def named(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Named]:
    folder = tmp_path_factory.mktemp("names")
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    configuration = folder / "resolv.conf"
    configuration.write_text(f"nameserver [127.0.0.1]:{transport.get_extra_info('sockname')[1]}\noptions ndots:1\n")
    try:
        async with scene(folder) as stage:
            providers, routes = [], []
            for number in range(MANY):
                more = f", dial: [127.0.0.0/30], health: {{{FORGIVING}}}"
                for raw, scheme, port in (
                    ("", "http", stage.links["first"].port),
                    ("-raw", "tcp", stage.raw_links["first"].port),
                ):
                    clear = "" if raw else ", plaintext: true"
                    name = f"name{number}"
                    providers.append(telecom(f"{name}{raw}", f"{scheme}://{name}{raw}.test:{port}", more + clear))
                only = f"only: {{providers: [name{number}, name{number}-raw]}}"
                routes.append(f"  - {{when: {{client: {_client(number)}}}, {only}}}\n")
            policy = stage.policy(providers="\n".join(providers), routes="".join(routes))
            async with serving(stage, policy, under=_seeing(configuration)):
                yield Named(stage, names)
    finally:
        transport.close()


def _seeing(configuration: Path) -> list[str]:
    """What makes a process see another /etc/resolv.conf than others do."""
    mounting = f'mount --bind {configuration} "$(readlink -f /etc/resolv.conf)" && exec "$@"'
    return ["unshare", "--mount", "--map-root-user", "--", "sh", "-c", mounting, "sh"]


async def _both(stage: Stage, client: str) -> tuple[int, str, bytes]:
    """Status and text of a request, and what comes back over a connection."""
    response, (data, _) = await asyncio.gather(stage.ask(xff=client), stage.echoed(xff=client))
    return response.status, response.body.decode() if response.status == 200 else response.reason, data


FAILING: list[Mood] = ["failing", "silent"]


@pytest.mark.parametrize("mood", FAILING)
async def test_a_name_that_nobody_knows_is_a_503_in_time(mood: Mood, named: Named) -> None:
    stage, client = named.stage, named.next()
    named.names.mood = mood
    with within(CONNECT):
        assert await _both(stage, client) == (503, "provider-name", b"")
    assert f"{named.name}.test" in named.names.asked
    await stage.told("provider-name", "unreachable")
    assert await stage.total("domicile_attempts_total", provider=named.name, result="name") == 1
    assert await stage.total("domicile_name_answers_total", provider=named.name, result="failed") >= 1


@pytest.mark.parametrize("mood", FAILING)
async def test_the_last_answer_serves_while_it_is_fresh_enough(mood: Mood, named: Named) -> None:
    stage, client = named.stage, named.next()
    named.names.mood = "well"
    assert await _both(stage, client) == (200, "first", b"hello")
    named.names.mood = mood
    for _ in range(3):
        stage.links["first"].end()
        with within(CONNECT):
            assert await _both(stage, client) == (200, "first", b"hello")
    await stage.told(*[None] * 8)


async def test_an_answer_that_leads_elsewhere_leads_nowhere(named: Named) -> None:
    stage, client = named.stage, named.next()
    ports = stage.links["first"].port, stage.raw_links["first"].port
    with ExitStack() as closing:
        listeners = [closing.enter_context(socket.create_server((ELSEWHERE, port))) for port in ports]
        for listener, port in zip(listeners, ports, strict=True):
            socket.create_connection((ELSEWHERE, port)).close()
            listener.accept()[0].close()
            listener.setblocking(False)
        named.names.mood = "lying"
        with within(CONNECT):
            assert await _both(stage, client) == (502, "provider-address-refused", b"")
        for listener in listeners:
            with pytest.raises(BlockingIOError):
                listener.accept()
    await stage.told("provider-address-refused", "unreachable")
    assert await stage.total("domicile_attempts_total", provider=named.name, result="outside") == 1
    assert await stage.total("domicile_name_answers_total", provider=named.name, result="outside") >= 1
    named.names.mood = "well"
