"""What a connection shows: which facts decide, which sockets it comes by, and what dates do to it."""

import asyncio
import socket
import time
from datetime import UTC, datetime

import pytest

from proxy.identity.answers import Pending
from tests.tcp.staging import BRITAIN, PROMISE, Peer, client_hello, echo, eventually, staged

ECH = 0xFE0D


def with_extension(hello: bytes, kind: int) -> bytes:
    """The hello with one more extension, which is empty."""
    message = hello[9:]
    ciphers = 34 + 1 + message[34]
    compressions = ciphers + 2 + int.from_bytes(message[ciphers : ciphers + 2], "big")
    place = compressions + 1 + message[compressions]
    extensions = message[place + 2 :] + kind.to_bytes(2, "big") + b"\0\0"
    body = message[:place] + len(extensions).to_bytes(2, "big") + extensions
    record = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(record).to_bytes(2, "big") + record


@pytest.mark.parametrize("ech", [True, False])
async def test_an_encrypted_hello_is_a_fact_and_its_outer_name_the_name(ech: bool) -> None:
    rules = "  - {name: named, when: {}, unless: {host: storage.example}, forbid: any}\n"
    async with staged({"own": echo}, rules=rules) as stage:
        client = await stage.client("pass")
        hello = with_extension(client_hello(), ECH) if ech else client_hello()
        await client.send(hello)
        assert await client.exactly(len(hello)) == hello
        (plan,) = stage.plane.planner._table.values()
        assert (plan.facts.host, plan.facts.ech, plan.facts.path, plan.facts.method) == (
            "storage.example",
            ech,
            None,
            None,
        )


async def test_a_tcp_connection_has_neither_name_nor_hello() -> None:
    async with staged({"own": echo}) as stage:
        client = await stage.client()
        await client.send(b"hello")
        await client.exactly(5)
        (plan,) = stage.plane.planner._table.values()
        assert (plan.facts.host, plan.facts.ech, plan.facts.listener) == (None, None, "raw")


async def test_the_date_of_a_rule_ends_what_ran_on_it() -> None:
    async with staged({"own": echo}) as stage:
        end = datetime.fromtimestamp(int(time.time()) + 3, UTC).isoformat()
        text = (stage.folder / "policy.yaml").read_text()
        stage.swap(text.replace("allow: [elsewhere]", f"allow: {{zones: [elsewhere], until: {end}}}"))
        client = await stage.client()
        await client.send(b"hello")
        await client.exactly(5)
        stage.plane.redecide()
        await client.send(b"again")
        await client.exactly(5)
        await eventually(lambda: time.time() >= datetime.fromisoformat(end).timestamp())
        stage.plane.redecide()
        async with asyncio.timeout(PROMISE):
            assert await client.was_reset()
        assert stage.counted("domicile_withdrawn_total", provider="own") == 1
        denied = await stage.client()
        assert await denied.was_reset() or denied.received == b""


async def test_both_sockets_say_what_is_small_at_once_and_notice_who_vanished() -> None:
    async with staged({"own": echo}, provider=", timeouts: {idle: 200s}") as stage:
        client = await stage.client()
        await client.send(b"hello")
        await client.exactly(5)
        (passage,) = stage.plane._passages
        for sock in (passage._carried.client, passage._carried.provider):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 200_000


async def test_a_unix_socket_is_a_client_without_an_address() -> None:
    async with staged({"own": echo}) as stage:
        text = (stage.folder / "policy.yaml").read_text()
        text = text.replace("listeners:\n", 'listeners:\n  - {name: local, bind: "unix:local.sock", protocol: tcp}\n')
        stage.swap(text.replace("client: [127.0.0.0/8]", "listener: [local, raw]"))
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, str(stage.folder / "local.sock"))
        client = Peer(sock)
        stage.clients.append(client)
        sent = bytes(range(256)) * 4096
        sending = asyncio.create_task(client.send(sent))
        assert await client.exactly(len(sent)) == sent
        await sending
        client.end()
        await client.rest()
        (record,) = await stage.records(1)
        assert (record["reason"], record["client"], record["country"]) == (None, None, "unknown")
        await stage.nothing_left()


async def test_a_mistake_of_ours_ends_one_connection_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    async with staged({"own": echo}) as stage:
        good = await stage.client()
        await good.send(b"hello")
        await good.exactly(5)
        stage.plane.loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))
        monkeypatch.setattr("proxy.tcp.passage.order", None)
        bad = await stage.client(source=BRITAIN)
        assert await bad.was_reset() or bad.received == b""
        monkeypatch.undo()
        assert [type(each) for each in told] == [TypeError]
        await good.send(b"again")
        assert await good.exactly(5) == b"again"
        assert [record["reason"] for record in await stage.records(1)] == ["reset"]


async def test_a_mistake_of_ours_when_a_source_has_answered_ends_that_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[object] = []
    async with staged({"own": echo}) as stage:
        client = await stage.client()
        await client.send(b"hello")
        await client.exactly(5)
        stage.plane.loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))
        monkeypatch.setattr(stage.plane.planner, "plan", None)
        (passage,) = stage.plane._passages
        answered = asyncio.get_running_loop().create_future()
        answered.set_result(None)
        stage.plane.redecide_when(Pending("directory", answered), passage)
        assert await client.was_reset()
        assert [type(each) for each in told] == [TypeError]
        await stage.nothing_left()
