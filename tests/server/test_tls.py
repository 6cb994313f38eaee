"""TLS listeners: which certificate serves, hellos in pieces, the idle, the noisy, the many."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509

from proxy.policy.settings import Certificate, Listener, UnixBind
from proxy.server import greetings
from tests.server.minted import mint, serial_of, trusting_anything
from tests.server.staged import A_FEW, Looks, listener, staged, until

Versions = tuple[ssl.TLSVersion, ssl.TLSVersion]
ONLY_12 = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
ONLY_13 = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3)


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[Certificate, ...]:
    return (
        mint(tmp_path, "first", "first.example", serial=1),
        mint(tmp_path, "wild", "*.app.example", serial=2),
        mint(tmp_path, "exact", "exact.app.example", serial=3),
    )


@pytest.fixture
def edge(certificates: tuple[Certificate, ...]) -> Listener:
    return listener("edge", *certificates)


def shake_hands(address: tuple[str, int], name: str | None, versions: Versions = ONLY_13) -> tuple[int, str]:
    """The certificate that served, and what the connection says of itself."""
    with (
        socket.create_connection(address, timeout=20) as sock,
        trusting_anything(*versions).wrap_socket(sock, server_hostname=name) as connection,
    ):
        return serial_of(connection), connection.recv(200).decode().strip()


@pytest.mark.parametrize("versions", [ONLY_12, ONLY_13], ids=["1.2", "1.3"])
async def test_certificates_by_name(edge: Listener, versions: Versions) -> None:
    async with staged() as stage:
        stage.load(edge)
        for name, serial in {
            None: 1,
            "first.example": 1,
            "a.app.example": 2,
            "EXACT.app.example": 3,
            "exact.app.example": 3,
            "a.b.app.example": 1,
            "app.example": 1,
            "nobody.example": 1,
        }.items():
            found, said = await asyncio.to_thread(shake_hands, stage.address(), name, versions)
            assert found == serial, name
            expected = None if name is None else name.lower()
            assert said == f"edge 127.0.0.1 True {expected} {serial - 1} False"


async def test_an_address_is_no_name(edge: Listener) -> None:
    async with staged() as stage:
        stage.load(edge)
        _, said = await asyncio.to_thread(shake_hands, stage.address(), "127.0.0.1")
        assert said == "edge 127.0.0.1 True None 0 False"


async def test_sessions_are_not_resumed_across_names(edge: Listener) -> None:
    def attempt(address: tuple[str, int]) -> list[bool]:
        context = trusting_anything(*ONLY_12)
        with context.wrap_socket(socket.create_connection(address), server_hostname="first.example") as connection:
            connection.recv(200)
            session = connection.session
        reused = []
        for name in ("first.example", "exact.app.example"):
            sock = socket.create_connection(address)
            with context.wrap_socket(sock, server_hostname=name, session=session) as connection:
                connection.recv(200)
                reused.append(bool(connection.session_reused))
        return reused

    async with staged() as stage:
        stage.load(edge)
        assert await asyncio.to_thread(attempt, stage.address()) == [True, False]


class Pieces:
    """A TLS client whose bytes go out as they are told to."""

    def __init__(self, name: str) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = trusting_anything().wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    def hello(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    async def finish(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Go on with the handshake, and read once."""
        while True:
            try:
                self.tls.do_handshake()
                said = self.tls.read(200)
            except ssl.SSLWantReadError:
                writer.write(self.outgoing.read())
                data = await reader.read(65536)
                assert data, "closed in mid-handshake"
                self.incoming.write(data)
            else:
                return said


async def test_a_hello_byte_by_byte_is_looked_at_a_few_times(edge: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch, "read_hello")
    async with staged() as stage:
        stage.load(edge)
        reader, writer = await stage.connect()
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Pieces("exact.app.example")
        hello = client.hello()
        for place in range(len(hello)):
            writer.write(hello[place : place + 1])
            await asyncio.sleep(0)
        assert await client.finish(reader, writer) == b"edge 127.0.0.1 True exact.app.example 2 False\n"
        assert 2 <= looks.due <= 4
        assert looks.early <= A_FEW


async def test_a_hello_in_many_records_is_read(edge: Listener) -> None:
    async with staged() as stage:
        stage.load(edge)
        reader, writer = await stage.connect()
        client = Pieces("exact.app.example")
        message = client.hello()[5:]
        cuts = [message[at : at + 50] for at in range(0, len(message), 50)]
        for cut in cuts:
            writer.write(b"\x16\x03\x01" + len(cut).to_bytes(2, "big") + cut)
            await asyncio.sleep(0)
        assert await client.finish(reader, writer) == b"edge 127.0.0.1 True exact.app.example 2 False\n"


async def test_half_a_hello_costs_no_turning(edge: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch, "read_hello")
    async with staged() as stage:
        stage.load(edge)
        _, writer = await stage.connect()
        writer.write(Pieces("a.app.example").hello()[:100])
        await until(lambda: looks.due >= 1)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert (looks.due, looks.early <= A_FEW) == (1, True)
        assert stage.stage.pending() == 1


async def test_a_unix_socket_does_not_spin(
    certificates: tuple[Certificate, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch, "read_hello")
    async with staged() as stage:
        stage.load(listener("edge", *certificates, binds=(UnixBind(tmp_path / "edge.sock"),)))
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "edge.sock"))
        stage.writers.append(writer)
        client = Pieces("a.app.example")
        hello = client.hello()
        writer.write(hello[:100])
        await until(lambda: looks.early >= 2)  # it is looked at again, there being no wish to heed
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert looks.due + looks.early <= A_FEW
        writer.write(hello[100:])
        assert await client.finish(reader, writer) == b"edge None True a.app.example 1 False\n"


async def test_the_idle_are_closed_at_the_deadline(edge: Listener) -> None:
    async with staged() as stage:
        stage.load(edge, head=0.3)
        silent, _ = await stage.connect()
        half, writer = await stage.connect()
        writer.write(Pieces("a.app.example").hello()[:100])
        assert await silent.read() == b""
        with contextlib.suppress(ConnectionResetError):
            assert await half.read() == b""
        assert stage.door().counts.too_slow == 2
        assert stage.door().pending == 0


async def test_a_handshake_that_stops_is_closed_at_the_deadline(
    edge: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.server.accept._SHORTEST_HANDSHAKE", 0.1)
    async with staged() as stage:
        stage.load(edge, head=0.3)
        reader, writer = await stage.connect()
        writer.write(Pieces("a.app.example").hello())
        assert (await reader.read()).startswith(b"\x16\x03\x03")  # their half of the handshake, then the end
        await until(lambda: stage.door().counts.handshake == 1 and stage.stage.pending() == 0)
        assert not stage.met


NOISE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "ssh": b"SSH-2.0-scan\r\n",
    "zeros": b"\0" * 100,
    "a byte": b"x",
    "nothing": b"",
    "alert": b"\x15\x03\x01\x00\x02\x01\x00",
    "bad hello": b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
    "half a hello": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
async def test_noise_leaves_nothing_behind(edge: Listener, noise: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with staged() as stage:
        stage.load(edge)
        before = len(os.listdir("/proc/self/fd"))
        for reset in (False, True):
            client = socket.create_connection(stage.address())
            client.sendall(noise)
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        await until(lambda: stage.stage.pending() == 0 and len(os.listdir("/proc/self/fd")) <= before)
        assert not stage.met
        assert not caplog.records
        assert (await asyncio.to_thread(shake_hands, stage.address(), None))[0] == 1


async def test_what_begins_as_tls_is_answered_as_tls(edge: Listener) -> None:
    async with staged() as stage:
        stage.load(edge)
        reader, writer = await stage.connect()
        writer.write(NOISE["bad hello"])
        assert await reader.read() == b"\x15\x03\x01\x00\x02\x02\x32"
        assert stage.door().counts.not_tls == 1


async def test_a_handshake_that_fails_is_counted_and_not_told(
    certificates: tuple[Certificate, ...], caplog: pytest.LogCaptureFixture
) -> None:
    strict = Listener("edge", listener().binds, "http", certificates, "1.3")
    async with staged() as stage:
        stage.load(strict)
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(shake_hands, stage.address(), "first.example", ONLY_12)
        await until(lambda: stage.door().counts.handshake == 1 and stage.stage.pending() == 0)
        assert not caplog.records


async def test_the_oldest_goes_when_too_many_have_not_greeted(edge: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greetings, "MOST", 10)
    async with staged() as stage:
        stage.load(edge)
        idle = [await stage.connect() for _ in range(10)]
        await until(lambda: stage.stage.pending() == 10)
        found, _ = await asyncio.to_thread(shake_hands, stage.address(), "a.app.example")
        assert found == 2
        assert await idle[0][0].read() == b""
        assert stage.door().counts.crowded_out == 1
        assert stage.stage.pending() == 9


async def test_a_full_listener_closes(edge: Listener) -> None:
    async with staged() as stage:
        stage.load(edge, most=2)
        clients = [await stage.connect() for _ in range(2)]  # who has not greeted counts
        await until(lambda: stage.stage.pending() == 2)
        reader, _ = await stage.connect()
        assert await reader.read() == b""
        assert stage.door().counts.turned_away == 1
        clients[0][1].close()
        await until(lambda: stage.stage.pending() == 1)
        assert (await asyncio.to_thread(shake_hands, stage.address(), None))[0] == 1


async def test_a_reload_shows_new_certificates_and_keeps_old_connections(edge: Listener, tmp_path: Path) -> None:
    async with staged() as stage:
        stage.load(edge)
        greeted, release = threading.Event(), threading.Event()

        def stay(address: tuple[str, int]) -> bytes:
            with (
                socket.create_connection(address, timeout=20) as sock,
                trusting_anything().wrap_socket(sock, server_hostname="first.example") as connection,
            ):
                connection.recv(200)
                greeted.set()
                release.wait(20)
                connection.sendall(b"still here")
                return connection.recv(200)

        staying = asyncio.create_task(asyncio.to_thread(stay, stage.address()))
        await asyncio.to_thread(greeted.wait, 20)
        mint(tmp_path, "first", "first.example", serial=11)
        stage.load(edge)
        assert (await asyncio.to_thread(shake_hands, stage.address(), "first.example"))[0] == 11
        release.set()
        assert await staying == b"still here"


async def test_a_half_greeted_connection_gets_the_new_certificate(edge: Listener, tmp_path: Path) -> None:
    async with staged() as stage:
        stage.load(edge)
        reader, writer = await stage.connect()
        client = Pieces("first.example")
        hello = client.hello()
        writer.write(hello[:50])
        await until(lambda: stage.stage.pending() == 1)
        mint(tmp_path, "first", "first.example", serial=11)
        stage.load(edge)
        writer.write(hello[50:])
        await client.finish(reader, writer)
        assert _serial(client) == 11


async def test_at_the_end_who_greets_in_time_is_served_and_who_does_not_is_dropped(edge: Listener) -> None:
    async with staged() as stage:
        stage.load(edge)
        silent, _ = await stage.connect()
        reader, writer = await stage.connect()
        await until(lambda: stage.stage.pending() == 2)
        stage.stage.stop()
        settling = asyncio.create_task(stage.stage.settle(2.0))
        client = Pieces("first.example")
        writer.write(client.hello())
        assert (await client.finish(reader, writer)).startswith(b"edge ")
        assert await silent.read() == b""
        await settling
        assert stage.stage.pending() == 0


def _serial(client: Pieces) -> int:
    der = client.tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number
