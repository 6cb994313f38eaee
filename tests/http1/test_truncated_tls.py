"""A body that ends with its TLS connection is whole after a close_notify, and cut without one.

The provider's TLS runs in memory over a plain scripted connection, so that it can leave out what it should send.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from tests.authority import make_authority
from tests.http1.recording import keep_log, one_record
from tests.http1.staging import PATIENCE, Conversation, Script, request, staged
from tests.http1.test_lying_providers import outcome, reset

T = TypeVar("T")

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class SpokenTls:
    """The server's side of TLS on a conversation."""

    def __init__(self, conversation: Conversation, context: ssl.SSLContext) -> None:
        self.conversation = conversation
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)

    async def _run(self, step: Callable[[], T]) -> T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self.conversation.reader.read(65536)
                if not data:
                    raise ConnectionResetError from None
                self._in.write(data)
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._out.pending:
            await self.conversation.say(self._out.read())

    async def handshake(self) -> None:
        await self._run(self._tls.do_handshake)

    async def read_head(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await self._run(lambda: self._tls.read(65536))
        self.conversation.received += head
        return head

    async def say(self, data: bytes) -> None:
        await self._run(lambda: self._tls.write(data))

    async def say_goodbye(self) -> None:
        """A close_notify."""
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        await self._flush()


def ending(context: ssl.SSLContext, pieces: tuple[bytes, ...], end: str) -> Script:
    """Answers one request with these pieces, and ends: with `notify`, `fin` or `reset`."""

    async def script(conversation: Conversation) -> None:
        tls = SpokenTls(conversation, context)
        await tls.handshake()
        await tls.read_head()
        for piece in pieces:
            await tls.say(piece)
        if end == "notify":
            await tls.say_goodbye()
        elif end == "reset":
            reset(conversation)

    return script


def speaking(tmp_path: Path, version: ssl.TLSVersion) -> tuple[ssl.SSLContext, dict[str, str]]:
    """A server's context of one version, and the options of a stage whose provider it is."""
    authority = make_authority(tmp_path)
    server = authority.issue(names=["storage.example"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.minimum_version = context.maximum_version = version
    tls = f", tls: {{ca: {authority.certificate}, server_name: storage.example}}"
    return context, {"scheme": "https", "provider": tls}


CLOSE = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

# name: (pieces, whole with a close_notify)
BODIES = {
    "close": ((CLOSE, b"hello"), True),
    "close, all at once": ((CLOSE + b"hello",), True),
    "close, nothing of the body": ((CLOSE,), True),
    "length, half": ((LENGTH, b"hello"), False),
    "chunks, without the last": ((CHUNKS, b"5\r\nhello\r\n"), False),
    "half a head": ((CLOSE[:-2],), False),
    "nothing": ((), False),
}


@pytest.mark.parametrize("version", VERSIONS, ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("end", ["notify", "fin", "reset"])
@pytest.mark.parametrize("client_version", ["1.1", "1.0"])
@pytest.mark.parametrize("body", BODIES)
async def test_a_body_is_whole_only_where_tls_ended_in_order(
    tmp_path: Path, body: str, client_version: str, end: str, version: ssl.TLSVersion
) -> None:
    pieces, by_close = BODIES[body]
    context, options = speaking(tmp_path, version)
    async with staged({"cn": ending(context, pieces, end)}, **options) as stage:
        log = keep_log(stage)
        client = await stage.client()
        await client.send(request(version=client_version))
        seen = await outcome(client)
        record = await one_record(stage, log)
        if by_close and end == "notify":
            assert seen == (200, b"hello" if pieces != (CLOSE,) else b"")
            assert (record["status"], record["reason"]) == (200, None)
        else:
            assert seen is None or seen[0] == 502
            assert record["reason"] == "provider-closed"


@pytest.mark.parametrize("version", VERSIONS, ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("end", ["notify", "fin", "reset"])
async def test_an_idle_tls_connection_that_ended_serves_nobody_again(
    tmp_path: Path, end: str, version: ssl.TLSVersion
) -> None:
    context, options = speaking(tmp_path, version)
    async with staged({"cn": ending(context, (LENGTH + b"helloworld",), end)}, **options) as stage:
        log = keep_log(stage)
        client = await stage.client()
        for count in (1, 2, 3):
            await client.send(request())
            response = await client.response()
            assert (response.status, response.body) == (200, b"helloworld")
            async with asyncio.timeout(PATIENCE):
                await stage.providers["cn"].conversations[-1].ended.wait()
            assert len(stage.providers["cn"].conversations) == count
        await one_record(stage, log, 3)


@pytest.mark.parametrize("version", VERSIONS, ids=["TLS 1.2", "TLS 1.3"])
async def test_bytes_behind_an_answer_in_tls_serve_nobody(tmp_path: Path, version: ssl.TLSVersion) -> None:
    context, options = speaking(tmp_path, version)
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

    async def script(conversation: Conversation) -> None:
        tls = SpokenTls(conversation, context)
        await tls.handshake()
        while True:
            await tls.read_head()
            await tls.say(LENGTH + b"helloworld")
            await tls.say(poison)

    async with staged({"cn": script}, **options) as stage:
        client = await stage.client()
        for _ in range(20):
            await client.send(request())
            assert (await client.response()).body == b"helloworld"
