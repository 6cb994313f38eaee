"""PROXY headers, from proxies in front and to providers: with HAProxy and nginx on both sides."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from proxy.wire.proxy_header import AUTHORITY, UNIQUE_ID, Header, proxy_header, read_proxy_header
from tests.authority import Authority
from tests.peers.haproxy import haproxy
from tests.peers.nginx import nginx
from tests.peers.process import free_port
from tests.tcp.staging import (
    BRITAIN,
    GERMANY,
    MAINLAND,
    Conversation,
    Stage,
    client_hello,
    echo,
    eventually,
    staged,
)
from tests.tcp.test_wrapped import serving


async def introduced(conversation: Conversation) -> Header:
    """The header that a provider was sent, taken off what it received."""
    async with asyncio.timeout(20):
        while not isinstance(header := read_proxy_header(bytes(conversation.received)), Header):
            await asyncio.sleep(0.005)
    return header


# To providers


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("listener", ["raw", "pass"])
async def test_a_provider_is_told_who_it_is_and_then_every_byte(version: str, listener: str) -> None:
    async with staged({"own": echo}, provider=f", send_proxy: {version}") as stage:
        client = await stage.client(listener)
        hello = client_hello()
        await client.send(hello)
        conversation = await stage.conversation("own")
        header = await introduced(conversation)
        await eventually(lambda: len(conversation.received) == header.length + len(hello))
        assert conversation.received[header.length :] == hello
        here, there = client.sock.getsockname(), client.sock.getpeername()
        assert header.source == (ip_address(here[0]), here[1])
        assert header.destination == (ip_address(there[0]), there[1])
        assert header.version == (1 if version == "v1" else 2)
        client.reset()
        (record,) = await stage.records(1)
        if version == "v2":
            fields = dict(header.fields)
            assert fields.get(AUTHORITY) == (b"storage.example" if listener == "pass" else None)
            assert fields[UNIQUE_ID] == str(record["id"]).encode()


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_what_a_proxy_in_front_said_is_passed_on(version: str) -> None:
    async with staged({"own": echo, "eu": echo}, provider=f", send_proxy: {version}") as stage:
        client = await stage.client("pass", source=GERMANY)
        await client.send(client_hello())
        header = await introduced(await stage.conversation("eu"))
        assert header.source == (ip_address(GERMANY), 40000)
        assert header.destination == (ip_address("127.0.0.1"), 443)


async def test_the_header_goes_ahead_of_our_own_tls(authority: Authority) -> None:
    """In clear, so that whoever ends TLS behind it can read it first."""
    seen = bytearray()

    async def through(conversation: Conversation) -> None:
        header = bytearray()
        while not isinstance(found := read_proxy_header(bytes(header)), Header):
            header += await conversation.some()
        seen.extend(header[: found.length])
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(header[found.length :])

        async def back() -> None:
            while data := await reader.read(65536):
                await conversation.send(data)

        task = asyncio.create_task(back())
        while data := await conversation.some():
            writer.write(data)
        writer.close()
        task.cancel()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        await reader.read()

    async with serving(authority.issue(["storage.example"]), talk) as server:
        provider = f", send_proxy: v2, tls: {{ca: {authority.certificate}, server_name: storage.example}}"
        async with staged({"own": through}, scheme="tls", provider=provider) as stage:
            client = await stage.client()
            await client.send(b"hello")
            assert await client.exactly(5) == b"hello"
            header = read_proxy_header(bytes(seen))
            assert isinstance(header, Header)
            assert header.source is not None
            assert header.source[1] == client.sock.getsockname()[1]
            client.reset()
            await stage.nothing_left()


@contextmanager
def behind_haproxy(folder: Path, provider: int) -> Iterator[int]:
    """A port at which HAProxy demands a PROXY header, and passes on what comes behind it; it logs who it was."""
    port = free_port()
    configuration = f"""
global
    log stdout format raw local0
defaults
    mode tcp
    log global
    log-format "%ci:%cp authority=%[fc_pp_authority] id=%[fc_pp_unique_id]"
    timeout connect 5s
    timeout client 10s
    timeout server 10s
listen behind
    bind 127.0.0.1:{port} accept-proxy
    server provider 127.0.0.1:{provider}
"""
    with haproxy(configuration, [], folder):
        yield port


async def _listening(port: int) -> None:
    """Until something listens there, without saying anything."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.transport.abort()
            return


@pytest.mark.debian
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_haproxy_as_the_provider_believes_it(version: str, tmp_path: Path) -> None:
    async with staged({"eu": echo}) as provider:
        with behind_haproxy(tmp_path, provider.providers["eu"].port) as port:
            await _listening(port)
            async with staged({}, real={"own": 9, "eu": port}, provider=f", send_proxy: {version}") as stage:
                client = await stage.client("pass", source=GERMANY)
                hello = client_hello()
                await client.send(hello)
                assert await client.exactly(len(hello)) == hello
                client.end()
                await client.rest()
                (record,) = await stage.records(1)
                log = tmp_path / "haproxy.out"
                await eventually(lambda: f"{GERMANY}:40000 " in log.read_text())
                if version == "v2":
                    assert f"authority=storage.example id={record['id']}" in log.read_text()


@pytest.mark.debian
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_nginx_as_the_provider_believes_it(version: str, tmp_path: Path) -> None:
    port = free_port()
    stream = f"""
    log_format who '$proxy_protocol_addr:$proxy_protocol_port';
    access_log {tmp_path}/who.log who;
    server {{ listen 127.0.0.1:{port} proxy_protocol; return "$proxy_protocol_addr $proxy_protocol_server_port"; }}
"""
    with nginx("", [port], tmp_path / "nginx", stream=stream):
        async with staged({}, real={"own": 9, "eu": port}, provider=f", send_proxy: {version}") as stage:
            client = await stage.client(source=GERMANY)
            assert await client.rest() == f"{GERMANY} 443".encode()


# From proxies in front


def fields_of(home: bytes) -> bytes:
    return proxy_header((ip_address(GERMANY), 5), (ip_address("127.0.0.1"), 443), ((0xE0, home),))


async def test_a_home_in_a_field() -> None:
    async with staged({"own": echo, "cn": echo, "eu": echo}, sources="[{proxy_header: {home_from: 0xE0}}]") as stage:
        client = await stage.client("raw-told")
        await client.send(fields_of(b"cn-mainland") + b"hello")
        assert await client.exactly(5) == b"hello"
        assert len(stage.providers["cn"].conversations) == 1
        client.end()
        await client.rest()
        (record,) = await stage.records(1)
        assert (record["source"], record["home"], record["country"]) == ("proxy_header", "cn-mainland", "DE")
        bad = await stage.client("raw-told")
        await bad.send(fields_of(b"\xff\xff") + b"hello")
        assert await bad.was_reset() or bad.received == b""
        assert (await stage.records(2))[1]["reason"] == "credential-invalid"
        assert stage.counted("domicile_passed_connections_total", outcome="unproven") == 1


@pytest.mark.parametrize("listener", ["raw-told", "pass-told"])
@pytest.mark.parametrize(
    ("first", "cause"),
    [
        (b"PROXY TCP4 nonsense\r\n", "proxy_malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0", "proxy_malformed"),
        (b"hello, without one", "proxy_missing"),
    ],
    ids=["v1", "v2", "none"],
)
async def test_what_cannot_be_believed_reaches_nobody(listener: str, first: bytes, cause: str) -> None:
    async with staged({"own": echo}) as stage:
        client = await stage.client(listener)
        await client.send(first)
        assert await client.was_reset() or client.received == b""
        door = next(door for door in stage.stage.doors() if door.opening.listener.name == listener)
        assert getattr(door.counts, cause) == 1
        assert stage.providers["own"].conversations == []


@pytest.mark.parametrize("listener", ["raw-told", "pass-told"])
async def test_a_stranger_reaches_nobody_where_one_is_required(listener: str) -> None:
    async with staged({"own": echo}) as stage:
        text = (stage.folder / "policy.yaml").read_text()
        stage.swap(text.replace("trusted_proxies: [127.0.0.0/8]", "trusted_proxies: [10.0.0.0/8]"))
        client = await stage.client(listener.removesuffix("-told"), source=MAINLAND)
        assert await client.was_reset() or client.received == b""
        door = next(door for door in stage.stage.doors() if door.opening.listener.name == listener)
        assert door.counts.proxy_untrusted == 1
        assert stage.providers["own"].conversations == []


async def test_a_header_that_comes_in_pieces_with_the_hello_behind_it() -> None:
    header = proxy_header((ip_address(BRITAIN), 5), (ip_address("127.0.0.1"), 443), ((0xE0, b"x" * 300),))
    hello = client_hello()
    async with staged({"own": echo}) as stage:
        whole = header + hello
        client = await stage.client("pass-told")
        for at in range(0, len(whole), 11):
            await client.send(whole[at : at + 11])
            await asyncio.sleep(0)
        assert await client.exactly(len(hello)) == hello
        ((_, conversation),) = enumerate(stage.providers["own"].conversations)
        assert conversation.received == hello


async def _asked_through(port: int, stage: Stage, provider: str) -> None:
    """A client of a proxy in front, from 127.0.1.1: what it says comes to this provider and back."""
    with socket.socket() as sock:
        sock.bind(("127.0.1.1", 0))
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", port))
        hello = client_hello()
        await loop.sock_sendall(sock, hello)
        received = b""
        async with asyncio.timeout(20):
            while len(received) < len(hello):
                piece = await loop.sock_recv(sock, 65536)
                assert piece
                received += piece
        assert received == hello
        assert [name for name, each in stage.providers.items() if each.conversations] == [provider]


OVERRIDES = "geoip: {overrides: [{network: 127.0.1.1, country: CN}]}"


def _trusting(stage: Stage) -> None:
    """Trust the proxy in front alone, and state nobody's home."""
    text = (stage.folder / "policy.yaml").read_text().replace("[127.0.0.0/8]\n", "[127.0.0.1]\n")
    start = text.index("  stated:")
    stage.swap(text[:start] + text[text.index("rules:") :])


@pytest.mark.debian
@pytest.mark.parametrize("word", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("listener", ["raw-told", "pass-told"])
async def test_haproxy_in_front(word: str, listener: str, tmp_path: Path) -> None:
    async with staged({"own": echo, "cn": echo}, more=OVERRIDES) as stage:
        _trusting(stage)
        front = free_port()
        configuration = f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 10s
    timeout server 10s
listen front
    bind 127.0.0.1:{front}
    server domicile 127.0.0.1:{stage.address(listener)[1]} {word}
"""
        with haproxy(configuration, [], tmp_path):
            await _listening(front)
            for provider in stage.providers.values():
                provider.conversations.clear()
            await _asked_through(front, stage, "cn")


@pytest.mark.debian
@pytest.mark.parametrize("listener", ["raw-told", "pass-told"])
async def test_nginx_in_front(listener: str, tmp_path: Path) -> None:
    async with staged({"own": echo, "cn": echo}, more=OVERRIDES) as stage:
        _trusting(stage)
        front = free_port()
        there = f"127.0.0.1:{stage.address(listener)[1]}"
        stream = f"server {{ listen 127.0.0.1:{front}; proxy_pass {there}; proxy_protocol on; }}"
        with nginx("", [], tmp_path, stream=stream):
            await _listening(front)
            for provider in stage.providers.values():
                provider.conversations.clear()
            await _asked_through(front, stage, "cn")
