"""PROXY headers at the accept stage: whose are believed, what follows them, and what costs nothing."""

import asyncio
import contextlib
import os
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from proxy.policy.settings import Certificate, Listener, UnixBind
from proxy.server import greetings
from proxy.wire.proxy_header import LIMIT, NOOP, SIGNATURE, proxy_header, proxy_line
from tests.server.minted import mint
from tests.server.staged import A_FEW, Looks, Staged, listener, staged, until
from tests.server.test_tls import Pieces

CLIENT = ip_address("203.0.113.9"), 51000
EDGE = ip_address("192.0.2.1"), 443
CLIENT6 = ip_address("2001:db8::9"), 51000
EDGE6 = ip_address("2001:db8::1"), 443
MAPPED = ip_address("::ffff:203.0.113.9"), 51000

HEADERS = {
    "line": (proxy_line(CLIENT, EDGE), "203.0.113.9"),
    "line6": (proxy_line(CLIENT6, EDGE6), "2001:db8::9"),
    "line of a mapped address": (proxy_line(MAPPED, EDGE6), "203.0.113.9"),
    "line of nobody": (proxy_line(None, None), "127.0.0.1"),
    "binary": (proxy_header(CLIENT, EDGE), "203.0.113.9"),
    "binary6": (proxy_header(CLIENT6, EDGE6), "2001:db8::9"),
    "binary of a mapped address": (proxy_header(MAPPED, EDGE6), "203.0.113.9"),
    "binary of nobody": (proxy_header(None, None), "127.0.0.1"),
    "local": (proxy_header(CLIENT, EDGE, local=True), "127.0.0.1"),
    "of a Unix socket": (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), "127.0.0.1"),
    "the largest": (proxy_header(CLIENT, EDGE, ((NOOP, bytes(LIMIT - 38)),)), "203.0.113.9"),
}
SOUND = HEADERS["binary"][0]
LOOPBACK = "127.0.0.0/8"
ELSEWHERE = "10.0.0.0/8"


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return mint(tmp_path, "edge", "edge.example", serial=7)


def required(*certificates: Certificate) -> Listener:
    return listener("edge", *certificates, proxy_protocol="required")


def optional(*certificates: Certificate) -> Listener:
    return listener("edge", *certificates, proxy_protocol="optional")


async def told(stage: Staged, *pieces: bytes) -> bytes:
    """What the data plane says to one who sends these, and echoes of what follows a header."""
    reader, writer = await stage.connect()
    writer.write(b"".join(pieces))
    if not writer.transport.is_closing():
        writer.write_eof()
    # A reset under our feet, or (uvloop) an end that had to be told to who was gone.
    with contextlib.suppress(OSError):
        return await reader.read()
    return b""


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("due", ["optional", "required"])
async def test_a_trusted_proxy_says_who_the_client_is(name: str, due: str) -> None:
    header, peer = HEADERS[name]
    async with staged() as stage:
        stage.load(required() if due == "required" else optional(), trusted=LOOPBACK)
        said = await told(stage, header + b"GET / HTTP/1.1\r\n\r\n")
        assert said == f"edge {peer} False None None False\n".encode() + b"GET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("name", HEADERS)
async def test_the_header_comes_before_the_hello(name: str, certificate: Certificate) -> None:
    header, peer = HEADERS[name]
    async with staged() as stage:
        stage.load(required(certificate), trusted=LOOPBACK)
        reader, writer = await stage.connect()
        client = Pieces("edge.example")
        writer.write(header + client.hello())
        assert await client.finish(reader, writer) == f"edge {peer} True edge.example 0 False\n".encode()
        writer.close()


async def test_a_header_alone_and_the_rest_later(certificate: Certificate) -> None:
    async with staged() as stage:
        stage.load(required(certificate), trusted=LOOPBACK)
        reader, writer = await stage.connect()
        writer.write(SOUND)
        await until(lambda: len(stage.stage._greetings) == 1)
        client = Pieces("edge.example")
        for byte in client.hello():
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.finish(reader, writer)).startswith(b"edge 203.0.113.9 True")
        writer.close()


@pytest.mark.parametrize("name", ["line", "binary6", "line of nobody"])
async def test_byte_by_byte_it_is_read_and_nothing_behind_it_lost(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch, "read_proxy_header")
    header, peer = HEADERS[name]
    async with staged() as stage:
        stage.load(required(), trusted=LOOPBACK)
        reader, writer = await stage.connect()
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header + b"behind":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await reader.readline() == f"edge {peer} False None None False\n".encode()
        assert await reader.readexactly(6) == b"behind"
        assert looks.due <= len(header)
        served = stage.met[0].transport.get_extra_info("socket")
        assert served.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
        writer.close()


async def test_half_a_header_costs_no_turning(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch, "read_proxy_header")
    async with staged() as stage:
        stage.load(required(), trusted=LOOPBACK)
        for half in (SOUND[:20], b"PROXY TCP4 203.0."):
            _, writer = await stage.connect()
            writer.write(half)
        await until(lambda: looks.due >= 2)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert (looks.due, looks.early <= 2 * A_FEW) == (2, True)
        assert stage.stage.pending() == 2


async def test_a_unix_socket_does_not_spin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch, "read_proxy_header")
    async with staged() as stage:
        bind = UnixBind(tmp_path / "edge.sock")
        stage.load(listener(binds=(bind,), proxy_protocol="required"), trusted="127.0.0.1/32")
        reader, writer = await asyncio.open_unix_connection(str(bind.path))
        stage.writers.append(writer)
        writer.write(SOUND[:20])
        await until(lambda: looks.early >= 2)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert looks.due + looks.early <= A_FEW
        writer.write(SOUND[20:] + b"behind")
        assert await reader.readline() == b"edge 203.0.113.9 False None None False\n"
        assert await reader.readexactly(6) == b"behind"


async def test_it_is_awaited_no_longer_than_the_deadline() -> None:
    async with staged() as stage:
        stage.load(required(), head=0.3, trusted=LOOPBACK)
        readers = []
        for half in (b"", b"P", SOUND[:-1], proxy_line(CLIENT, EDGE)[:-1]):
            reader, writer = await stage.connect()
            writer.write(half)
            readers.append(reader)
        for reader in readers:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert stage.door().counts.too_slow == 4
        assert stage.stage.pending() == 0
        assert not stage.met


BAD = {
    "a wrong checksum": SOUND[:-1] + bytes([SOUND[-1] ^ 1]),
    "another version": SOUND[:12] + b"\x11" + SOUND[13:],
    "too large": SIGNATURE + b"\x21\x11\xff\xff",
    "no addresses": SIGNATURE + b"\x21\x11\x00\x00",
    "a line feed alone": b"PROXY UNKNOWN\nGET / HTTP/1.1\r\n\r\n",
    "an address with a zero": b"PROXY TCP4 203.0.113.09 192.0.2.1 1 2\r\n",
    "without an end": b"PROXY UNKNOWN " + b"x" * 100,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("due", ["optional", "required"])
async def test_one_that_cannot_be_believed_ends_the_connection(name: str, due: str) -> None:
    async with staged() as stage:
        stage.load(required() if due == "required" else optional(), trusted=LOOPBACK)
        assert (await told(stage, SOUND)).startswith(b"edge 203.0.113.9")
        assert await told(stage, BAD[name], b"GET / HTTP/1.1\r\n\r\n") == b""
        await until(lambda: stage.door().counts.proxy_malformed == 1)
        assert len(stage.met) == 1
        assert stage.stage.pending() == 0


async def test_where_it_is_required_nobody_is_served_without(certificate: Certificate) -> None:
    hello = Pieces("edge.example").hello()
    async with staged() as stage:
        stage.load(required(), trusted=LOOPBACK)
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"\r\nPUT / HTTP/1.1\r\n\r\n", b"PROPFIND / HTTP/1.1\r\n\r\n", hello):
            assert await told(stage, said) == b""
        assert stage.door().counts.proxy_missing == 4
        stage.load(required(certificate), trusted=LOOPBACK)
        assert await told(stage, hello) == b""
        assert stage.door().counts.proxy_missing == 5
        assert not stage.met


async def test_where_it_is_required_strangers_are_closed_unread(certificate: Certificate) -> None:
    async with staged() as stage:
        stage.load(required(), trusted=ELSEWHERE)
        for said in (SOUND, b"GET / HTTP/1.1\r\n\r\n", b""):
            assert await told(stage, said) == b""
        stage.load(required(certificate), trusted=ELSEWHERE)
        assert await told(stage, SOUND + Pieces("edge.example").hello()) == b""
        stage.load(required())
        assert await told(stage, SOUND) == b""
        assert stage.door().counts.proxy_untrusted == 5
        assert not stage.met


async def test_where_it_is_optional_who_sends_none_is_served_as_itself(certificate: Certificate) -> None:
    async with staged() as stage:
        for trusted in (LOOPBACK, ELSEWHERE):
            stage.load(optional(), trusted=trusted)
            for said in (b"GET / HTTP/1.1\r\n\r\n", b"\r\nGET /", b"PUT / HTTP/1.1\r\n\r\n", b"PROXYING"):
                assert await told(stage, said) == b"edge 127.0.0.1 False None None False\n" + said
            stage.load(optional(certificate), trusted=trusted)
            reader, writer = await stage.connect()
            client = Pieces("edge.example")
            writer.write(client.hello())
            assert await client.finish(reader, writer) == b"edge 127.0.0.1 True edge.example 0 False\n"
            writer.close()


async def test_a_strangers_header_is_what_it_says_and_not_whom_it_names(certificate: Certificate) -> None:
    async with staged() as stage:
        for due in ("optional", "none"):
            stage.load(listener(proxy_protocol=due), trusted=ELSEWHERE)  # type: ignore[arg-type]
            # The data plane is given every byte of it, as a request: the HTTP plane answers 400.
            assert await told(stage, SOUND) == b"edge 127.0.0.1 False None None False\n" + SOUND
        stage.load(optional(certificate), trusted=ELSEWHERE)
        assert await told(stage, SOUND + Pieces("edge.example").hello()) == b""
        assert stage.door().counts.not_tls == 1


async def test_where_none_is_due_a_trusted_proxys_is_not_one_either() -> None:
    async with staged() as stage:
        stage.load(listener(), trusted=LOOPBACK)
        assert await told(stage, SOUND) == b"edge 127.0.0.1 False None None False\n" + SOUND


async def test_there_is_one_header_and_what_follows_is_the_clients() -> None:
    other = proxy_line((ip_address("198.51.100.7"), 1), EDGE)
    async with staged() as stage:
        stage.load(required(), trusted=LOOPBACK)
        assert await told(stage, SOUND + other) == b"edge 203.0.113.9 False None None False\n" + other


async def test_a_reload_that_trusts_no_more_is_heeded_while_they_greet() -> None:
    async with staged() as stage:
        for later in (lambda: stage.load(required(), trusted=ELSEWHERE), lambda: stage.load(listener())):
            stage.load(required(), trusted=LOOPBACK)
            before = stage.door().counts.proxy_untrusted
            reader, writer = await stage.connect()
            writer.write(SOUND[:20])
            await until(lambda: len(stage.stage._greetings) == 1)
            later()
            writer.write(SOUND[20:])
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            assert stage.door().counts.proxy_untrusted == before + 1
        assert not stage.met


async def test_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greetings, "MOST", 3)
    async with staged() as stage:
        stage.load(required(), trusted=LOOPBACK)
        clients = [await stage.connect() for _ in range(5)]
        await until(lambda: stage.door().counts.crowded_out == 2)
        for reader, _ in clients[:2]:
            assert await reader.read() == b""
        for reader, writer in clients[2:]:
            writer.write(SOUND)
            assert (await reader.readline()).startswith(b"edge 203.0.113.9")
            writer.close()


async def test_those_who_leave_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with staged() as stage:
        stage.load(required(), trusted=LOOPBACK)
        before = len(os.listdir("/proc/self/fd"))
        for noise in (b"", b"P", SOUND[:20], SOUND, *BAD.values()):
            for reset in (False, True):
                client = socket.create_connection(stage.address())
                client.sendall(noise)
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
        await until(lambda: stage.stage.pending() == 0 and len(os.listdir("/proc/self/fd")) <= before)
        assert not caplog.records
        assert (await told(stage, SOUND)).startswith(b"edge 203.0.113.9")


async def test_the_end_drops_who_has_said_nothing_and_serves_who_has() -> None:
    async with staged() as stage:
        stage.load(required(), trusted=LOOPBACK)
        silent, _ = await stage.connect()
        reader, writer = await stage.connect()
        await until(lambda: len(stage.stage._greetings) == 2)
        stage.stage.stop()
        writer.write(SOUND)
        assert (await reader.readline()).startswith(b"edge 203.0.113.9")
        stage.stage.close()
        assert await silent.read() == b""
        writer.close()
