"""A ClientHello that comes in pieces, through the whole accept stage: read, never answered, passed on byte by byte."""

import asyncio
import os

import pytest

from tests.tcp.staging import client_hello, echo, eventually, staged, swallow

RULES = "  - {name: named, when: {}, unless: {host: storage.example}, forbid: any}\n"


async def test_it_is_the_same_wherever_it_is_cut() -> None:
    hello = client_hello()
    async with staged({"own": swallow}, rules=RULES) as stage:
        waiting = []
        for at in range(1, len(hello)):
            client = await stage.client("pass")
            await client.send(hello[:at])
            waiting.append((client, hello[at:]))
        await eventually(lambda: stage.stage.pending() == len(waiting))
        assert stage.providers["own"].conversations == []
        for client, rest in waiting:
            await client.send(rest + b"more")
        conversations = stage.providers["own"].conversations
        await eventually(lambda: len(conversations) == len(waiting))
        for conversation in conversations:
            await eventually(lambda: len(conversation.received) == len(hello) + 4)  # noqa: B023
            assert conversation.received == hello + b"more"


async def test_byte_by_byte() -> None:
    hello = client_hello(alpn=("h2", "http/1.1"))
    async with staged({"own": echo}, rules=RULES) as stage:
        client = await stage.client("pass")
        for byte in hello:
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await client.exactly(len(hello)) == hello
        assert next(iter(stage.plane._passages)).arrival.alpn == (b"h2", b"http/1.1")


async def test_records_of_any_size_are_passed_on_as_they_came() -> None:
    hello = client_hello()
    message = hello[5:]
    cut = b"".join(b"\x16\x03\x01\x00\x07" + message[at : at + 7] for at in range(0, len(message) // 7 * 7, 7))
    rest = message[len(message) // 7 * 7 :]
    cut += b"\x16\x03\x01" + len(rest).to_bytes(2, "big") + rest if rest else b""
    async with staged({"own": echo}, rules=RULES) as stage:
        client = await stage.client("pass")
        await client.send(cut)
        assert await client.exactly(len(cut)) == cut


@pytest.mark.parametrize(
    ("said", "answer"), [(b"GET / HTTP/1.1\r\n\r\n", b""), (b"\x16\x03\x01\x00\x05hello", b"\x15")]
)
async def test_what_is_no_hello_reaches_nobody(said: bytes, answer: bytes) -> None:
    async with staged({"own": echo}) as stage:
        client = await stage.client("pass")
        await client.send(said)
        try:
            told = await client.rest()
        except ConnectionResetError:
            told = b""
        assert told[:1] == answer
        assert stage.providers["own"].conversations == []


async def test_who_says_no_hello_in_time_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.server.accept.HELLO", 0.3)
    async with staged({"own": echo}) as stage:
        client = await stage.client("pass")
        await client.send(client_hello()[:20])
        assert await client.was_reset() or client.received == b""
        door = next(door for door in stage.stage.doors() if door.opening.listener.name == "pass")
        assert door.counts.too_slow == 1
        assert stage.providers["own"].conversations == []


async def test_a_hello_as_long_as_may_be() -> None:
    """16 KiB: more than a read of the relay takes at once."""
    hello = client_hello()
    message = hello[9:]
    # Grow it by an extension that nobody knows: its length field is behind the fixed part.
    session = 34 + 1 + message[34]
    ciphers = session + 2 + int.from_bytes(message[session : session + 2], "big")
    place = ciphers + 1 + message[ciphers]
    extensions = message[place + 2 :]
    room = 16 * 1024 - 5 - 4 - place - 2 - len(extensions) - 4
    extensions += b"\xfa\xfa" + room.to_bytes(2, "big") + os.urandom(room)
    body = message[:place] + len(extensions).to_bytes(2, "big") + extensions
    record = b"\x01" + len(body).to_bytes(3, "big") + body
    large = b"\x16\x03\x01" + len(record).to_bytes(2, "big") + record
    assert len(large) == 16 * 1024
    async with staged({"own": echo}, rules=RULES) as stage:
        client = await stage.client("pass")
        await client.send(large)
        assert await client.exactly(len(large)) == large
