"""What a provider may do to us, and what its client sees: a 502 or a message that was not finished, never a false one.

A connection whose provider lied is closed and serves nobody again; what it said too much reaches nobody.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.http1.recording import KeptLog, Recorder, keep_log, one_record, requests_counted, turns
from tests.http1.staging import (
    BRITAIN,
    NEVER_SICK,
    PATIENCE,
    Client,
    Conversation,
    Stage,
    answering,
    closing,
    request,
    saying,
    staged,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@dataclass
class Liar:
    """A provider that answers each request with what was laid out for it, on a connection that it keeps.

    reply: pieces, each arriving alone. ends: afterwards, FIN, a reset, or not at all.
    """

    reply: tuple[bytes, ...] = ()
    ends: str = "not"
    requests: int = 0
    said: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, conversation: Conversation) -> None:
        while True:
            await conversation.read_head()
            self.requests += 1
            for piece in self.reply:
                await conversation.say(piece)
                await turns(3)
            self.said.set()
            if self.ends == "fin":
                return
            if self.ends == "reset":
                reset(conversation)
                return


def reset(conversation: Conversation) -> None:
    """Close with an RST."""
    sock = conversation.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conversation.writer.transport.abort()


def raw_socket(writer: asyncio.StreamWriter) -> socket.socket:
    """The writer's socket once more, for writing past the loop."""
    return socket.socket(fileno=socket.dup(writer.get_extra_info("socket").fileno()))


@dataclass
class Scene:
    stage: Stage
    log: KeptLog
    liar: Liar

    @property
    def conversations(self) -> list[Conversation]:
        return self.stage.providers["cn"].conversations

    async def goes_on_well(self, client: Client) -> None:
        """The next request has an answer of its own, over a connection of its own."""
        conversations = len(self.conversations)
        self.liar.reply, self.liar.ends = (OK,), "not"
        await client.send(request("/next"))
        assert (await client.response()).body == b"good"
        assert len(self.conversations) == conversations + 1
        assert self.conversations[-1].received.startswith(b"GET /next HTTP/1.1\r\n")
        self.empty_pools()

    def empty_pools(self) -> None:
        """The next case begins without idle connections."""
        for state in self.stage.plane.line.fleet.states.values():
            for idle in state.pool.drop("cn"):
                idle.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scene() -> AsyncIterator[Scene]:
    liar = Liar()
    async with staged({"cn": liar}, provider=NEVER_SICK) as stage:
        yield Scene(stage, keep_log(stage), liar)


def head(fields: bytes, body: bytes = b"", status: bytes = b"200 OK", version: bytes = b"1.1") -> bytes:
    return b"HTTP/%b %b\r\n%b\r\n\r\n%b" % (version, status, fields, body)


CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
LENGTH = b"Content-Length: 5"
CODING = b"Transfer-Encoding: chunked"

LIES: dict[str, bytes] = {
    "length and coding": head(LENGTH + b"\r\n" + CODING, CHUNKS),
    "coding and length": head(CODING + b"\r\n" + LENGTH, CHUNKS),
    "length 0 and coding": head(b"Content-Length: 0\r\n" + CODING, CHUNKS),
    "lengths that differ": head(LENGTH + b"\r\nContent-Length: 6", b"hello!"),
    "lengths that agree": head(LENGTH + b"\r\n" + LENGTH, b"hello"),
    "a list of lengths": head(b"Content-Length: 5, 5", b"hello"),
    "a list of lengths that differ": head(b"Content-Length: 5,6", b"hello!"),
    **{
        f"length {text!r}": head(b"Content-Length: " + text, b"hello")
        for text in (b"", b"+5", b"-5", b"0x5", b"5.0", b"5 5", b'"5"', b"five", b"5;", b"1" + b"0" * 19, b"\xd9\xa5")
    },
    **{
        f"coding {text!r}": head(b"Transfer-Encoding: " + text, CHUNKS)
        for text in (
            *(b"gzip", b"identity", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b'"chunked"', b"", b"cow"),
            *(b"chunked;q=1", b"chunked,", b",chunked", b"chun ked", b"xchunked", b"chunked\x0b", b"chunked\0"),
        )
    },
    "coding twice": head(CODING + b"\r\n" + CODING, CHUNKS),
    "coding in HTTP/1.0": head(CODING, CHUNKS, version=b"1.0"),
    "NUL in a value": head(b"X: a\0b\r\n" + LENGTH, b"hello"),
    "NUL in a name": head(b"X\0: a\r\n" + LENGTH, b"hello"),
    "NUL in the phrase": head(LENGTH, b"hello", status=b"200 O\0K"),
    "CR in a value": head(b"X: a\rb\r\n" + LENGTH, b"hello"),
    "CR in the phrase": head(LENGTH, b"hello", status=b"200 O\rK"),
    "CR CR LF": head(b"X: a\r\r\n" + LENGTH, b"hello"),
    "LF in a value": head(b"X: a\nb\r\n" + LENGTH, b"hello"),
    "LF behind the status": head(LENGTH, b"hello").replace(b"OK\r\n", b"OK\n"),
    "LF before the coding": head(LENGTH + b"\nTransfer-Encoding: chunked", CHUNKS),
    "folded": head(b"X: a\r\n b\r\n" + LENGTH, b"hello"),
    "folded coding": head(b"Transfer-Encoding:\r\n chunked", CHUNKS),
    "space before a colon": head(b"Content-Length : 5", b"hello"),
    "space before a name": head(b" Content-Length: 5", b"hello"),
    "no colon": head(b"nocolon\r\n" + LENGTH, b"hello"),
    "an empty name": head(b": x\r\n" + LENGTH, b"hello"),
    "an illegal name": head(b"a b: x\r\n" + LENGTH, b"hello"),
    "control in a value": head(b"X: a\x01b\r\n" + LENGTH, b"hello"),
    "DEL in a value": head(b"X: a\x7fb\r\n" + LENGTH, b"hello"),
    "Connection that is no list": head(b'Connection: "close"\r\n' + LENGTH, b"hello"),
    **{
        f"status {text!r}": head(LENGTH, b"hello", status=text)
        for text in (
            *(b"99 x", b"000 x", b"600 x", b"999 x", b"1000 x", b"20 x", b"2000", b"abc x", b"+200 x", b"2 00 x", b""),
            *(b" 200 OK", b"-200 x", b"0200 x", b"200.5 x", b"2x0 y", b"\xb200 OK"),
        )
    },
    **{
        f"version {text!r}": head(LENGTH, b"hello", version=text)
        for text in (b"0.9", b"1.2", b"2.0", b"2", b"3", b"11", b"1.10", b"1.", b".1", b"x", b"1.1.1")
    },
    "protocol in lower case": head(LENGTH, b"hello").replace(b"HTTP", b"http"),
    "RTSP": head(LENGTH, b"hello").replace(b"HTTP", b"RTSP"),
    "ICY": b"ICY 200 OK\r\n\r\nmusic",
    "an HTTP/0.9 answer": b"<html>hello</html>",
    "an HTTP/0.9 answer with lines": b"hello\r\n\r\nworld\r\n\r\n",
    "an empty line first": b"\r\n" + OK,
    "a space first": b" " + OK,
    "a line feed first": b"\n" + OK,
    "a chunk in place of a head": CHUNKS,
    "a request": b"GET / HTTP/1.1\r\nHost: storage.example\r\n\r\n",
    "a banner": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a TLS alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "HTTP/2 settings": b"\0\0\0\4\0\0\0\0\0",
    "zeros": bytes(1000),
    "a 101 that nobody asked for": head(
        b"Connection: upgrade\r\nUpgrade: websocket", POISON, b"101 Switching Protocols"
    ),
    "a 101 to h2c": head(b"Connection: upgrade\r\nUpgrade: h2c", POISON, b"101 Switching Protocols"),
    "a 101 to nothing": head(b"X: y", POISON, b"101 Switching Protocols"),
    "a 1xx with a length": head(LENGTH, b"hello" + OK, b"103 Early Hints"),
    "a 1xx with chunks": head(CODING, CHUNKS + OK, b"103 Early Hints"),
    "a 1xx and garbage": b"HTTP/1.1 100 Continue\r\n\r\ngarbage" * 3,
    "a 1xx and a lie": b"HTTP/1.1 100 Continue\r\n\r\n" + head(LENGTH + b"\r\n" + CODING, CHUNKS),
    "a head too large": head(b"X: " + b"y" * 40_000 + b"\r\n" + LENGTH, b"hello"),
    "a head too large without an end": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000,
    "a phrase too large": head(LENGTH, b"hello", status=b"200 " + b"x" * 40_000),
    "too many fields": head(b"\r\n".join([b"X: yyyyyyyyyyyyyyyyyyyyyyyy"] * 2000) + b"\r\n" + LENGTH, b"hello"),
}


async def outcome(client: Client, version: str = "1.1") -> tuple[int, bytes] | None:
    """A whole response's status and body; None for one that shows that it is not whole."""
    try:
        response = await client.response()
        while response.status < 200:
            response = await client.response()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return response.status, response.body


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("lie", [pytest.param(lie, id=name) for name, lie in LIES.items()])
async def test_a_head_that_lies_is_a_502_and_its_connection_is_gone(scene: Scene, lie: bytes) -> None:
    for pieces in ((lie,), (lie[:-1], lie[-1:]), (*(lie[i : i + 1] for i in range(60)), lie[60:])):
        before, counted = len(scene.log.lines), requests_counted(scene.stage)
        client = await scene.stage.client()
        scene.liar.reply, scene.liar.ends = pieces, "not"
        await client.send(request())
        response = await client.response()
        assert response.status == 502
        assert response.reason.startswith("provider-")
        assert response.header("x") is None
        records = await scene.log.wait(before + 1)
        assert [(r["status"], r["reason"], r["attempts"]) for r in records[before:]] == [(502, response.reason, 1)]
        assert requests_counted(scene.stage) - counted == {("cn", "5xx"): 1}
        async with asyncio.timeout(PATIENCE):
            await scene.conversations[-1].ended.wait()
        await scene.goes_on_well(client)
        client.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("ends", ["fin", "reset"])
async def test_an_end_without_an_answer_is_a_502(scene: Scene, ends: str) -> None:
    client = await scene.stage.client()
    scene.liar.reply, scene.liar.ends = (), ends
    await client.send(request())
    assert (await client.response()).reason == "provider-closed"
    await scene.goes_on_well(client)


TOO_MUCH: dict[str, tuple[str, bytes, bytes]] = {
    "length": ("GET", head(LENGTH, b"hello"), b"hello"),
    "length 0": ("GET", head(b"Content-Length: 0"), b""),
    "chunks": ("GET", head(CODING, CHUNKS), b"hello"),
    "204": ("GET", head(b"X: y", status=b"204 No Content"), b""),
    "204 with a length": ("GET", head(LENGTH, status=b"204 No Content"), b""),
    "304": ("GET", head(b"X: y", status=b"304 Not Modified"), b""),
    "304 with a length": ("GET", head(LENGTH, status=b"304 Not Modified"), b""),
    "304 with chunks": ("GET", head(CODING, status=b"304 Not Modified"), b""),
    "HEAD": ("HEAD", head(LENGTH), b""),
    "HEAD with chunks": ("HEAD", head(CODING), b""),
    "HEAD of what ends by close": ("HEAD", head(b"X: y"), b""),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "extra", [b"x", b"\r\n", b"hello", POISON, OK * 100], ids=["x", "line", "body", "poison", "much"]
)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
@pytest.mark.parametrize(("method", "reply", "body"), TOO_MUCH.values(), ids=TOO_MUCH)
async def test_what_comes_behind_an_answer_is_dropped_and_the_connection_with_it(
    scene: Scene, method: str, reply: bytes, body: bytes, apart: bool, extra: bytes
) -> None:
    before, counted = len(scene.log.lines), requests_counted(scene.stage)
    client = await scene.stage.client()
    scene.liar.reply = (reply, extra) if apart else (reply + extra,)
    await client.send(request(method=method))
    response = await client.response(method)
    assert (response.status, response.body) == (int(reply[9:12]), body)
    async with asyncio.timeout(PATIENCE):
        await scene.conversations[-1].ended.wait()
    await scene.goes_on_well(client)
    client.writer.write_eof()
    assert await client.closed()
    await scene.log.wait(before + 2)
    assert len(scene.log.lines) == before + 2
    assert (requests_counted(scene.stage) - counted).total() == 2


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("what", [POISON, b"x", b"", b"reset"], ids=["answer", "byte", "fin", "reset"])
@pytest.mark.parametrize("order", ["before", "with"])
async def test_what_comes_while_idle_is_never_the_next_answer(scene: Scene, what: bytes, order: str) -> None:
    client = await scene.stage.client()
    scene.liar.reply = (OK,)
    await client.send(request())
    assert (await client.response()).body == b"good"
    conversation = scene.conversations[-1]
    # Written past the loop, so that the proxy's loop sees both it and the next request in one turn.
    with raw_socket(conversation.writer) as sock:
        if what == b"reset":
            reset(conversation)
        elif what:
            sock.send(what)
        else:
            sock.shutdown(socket.SHUT_WR)
    if order == "before":
        async with asyncio.timeout(PATIENCE):
            await conversation.ended.wait()
    await scene.goes_on_well(client)
    assert conversation.received.count(b"GET ") == 1


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("what", [POISON, b"x", b""], ids=["answer", "byte", "fin"])
async def test_what_waits_unread_is_noticed_when_an_idle_connection_is_taken(scene: Scene, what: bytes) -> None:
    client = await scene.stage.client()
    scene.liar.reply = (OK,)
    await client.send(request())
    assert (await client.response()).body == b"good"
    conversation, count = scene.conversations[-1], len(scene.conversations)
    # Both past the loop and in one turn of it, the request first: the proxy reads it with the provider's unread.
    with raw_socket(client.writer) as asking, raw_socket(conversation.writer) as lying:
        asking.send(request("/next", method="POST"))
        if what:
            lying.send(what)
        else:
            lying.shutdown(socket.SHUT_WR)
    response = await client.response()
    assert (response.status, response.body) == (200, b"good")
    assert len(scene.conversations) == count + 1
    async with asyncio.timeout(PATIENCE):
        await conversation.ended.wait()
    assert b"/next" not in conversation.received
    scene.empty_pools()


EXCHANGES: dict[str, bytes] = {
    "length": head(LENGTH + b"\r\nX: y", b"hello"),
    "chunks": head(CODING, b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nT: x\r\n\r\n"),
    "an interim before": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + head(LENGTH, b"hello"),
    "close": head(b"X: y", b"hello"),
    "close in HTTP/1.0": head(b"X: y", b"hello", version=b"1.0"),
    "keep-alive in HTTP/1.0": head(b"Connection: keep-alive\r\n" + LENGTH, b"hello", version=b"1.0"),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("ends", ["fin", "reset"])
@pytest.mark.parametrize("name", EXCHANGES)
async def test_an_answer_cut_at_any_byte_never_looks_whole(scene: Scene, name: str, ends: str, version: str) -> None:
    reply = EXCHANGES[name]
    by_close = name.startswith("close")
    head_ends = reply.rindex(b"\r\n\r\n" if name != "chunks" else b"\r\n\r\n3") + 4
    for offset in range(len(reply) + (by_close and ends == "reset")):
        before, counted = len(scene.log.lines), requests_counted(scene.stage)
        scene.liar.reply, scene.liar.ends = (reply[:offset],), ends
        client = await scene.stage.client()
        await client.send(request(version=version))
        seen = await outcome(client)
        if by_close and ends == "fin" and offset >= head_ends:
            # A FIN is the end of such a body, wherever it comes.
            assert seen == (200, reply[head_ends:offset]), offset
        elif offset < head_ends:
            assert seen is not None, offset
            assert seen[0] == 502, offset
        else:
            assert seen is None or seen[0] == 502, offset
        records = await scene.log.wait(before + 1)
        assert len(records) == before + 1
        assert (requests_counted(scene.stage) - counted).total() == 1
        whole = by_close and ends == "fin" and offset >= head_ends
        assert (records[-1]["reason"] is None) == whole, offset
        client.abort()


BROKEN_CHUNKS = [
    *(
        b"z\r\n",
        b"0x5\r\nhello\r\n",
        b"-1\r\n",
        b"+5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"\r\n",
        b"5;\0\r\n",
    ),
    *(
        b"5\nhello\n",
        b"5\r\nhello\n",
        b"5\r\nhelloo\r\n",
        b"4\r\nhello\r\n",
        b"6\r\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n",
    ),
    *(b"10000000000000005\r\nhello\r\n", b"FFFFFFFFFFFFFFFF\r\nhello\r\n", b"5;" + b"x" * 3000, b"0" * 3000),
    *(
        b"0\r\nbad\r\n\r\n",
        b"0\r\nX: a\r\n b\r\n\r\n",
        b"0\n\n",
        b"0\r\n\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\nX: " + b"y" * 9000,
    ),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("chunks", [pytest.param(c, id=repr(c[:20])) for c in BROKEN_CHUNKS])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_broken_chunks_never_make_a_whole_answer(scene: Scene, chunks: bytes, version: str) -> None:
    for pieces in ((head(CODING) + chunks,), (head(CODING), chunks), (head(CODING, b"5\r\nhello\r\n"), chunks)):
        before = len(scene.log.lines)
        scene.liar.reply, scene.liar.ends = pieces, "not"
        client = await scene.stage.client()
        await client.send(request(version=version))
        seen = await outcome(client)
        assert seen is None or seen[0] == 502
        async with asyncio.timeout(PATIENCE):
            await scene.conversations[-1].ended.wait()
        records = await scene.log.wait(before + 1)
        assert [record["reason"] for record in records[before:]] == ["provider-framing-broken"]
        client.abort()


async def test_endless_interim_answers_end_in_a_502() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        while True:
            await conversation.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")

    async with staged({"cn": script}) as stage:
        log = keep_log(stage)
        client = await stage.client()
        await client.send(request())
        for _ in range(16):
            assert (await client.response()).status == 103
        assert (await client.response()).status == 502
        assert (await one_record(stage, log))["reason"] == "provider-interim-endless"
        await stage.providers["cn"].conversations[0].ended.wait()


async def test_a_few_interim_answers_pass() -> None:
    replies = b"".join(b"HTTP/1.1 %d X\r\nLink: </%d>\r\n\r\n" % (102 + i % 90, i) for i in range(16))
    async with staged({"cn": saying(replies + OK)}) as stage:
        client = await stage.client()
        await client.send(request())
        for i in range(16):
            interim = await client.response()
            assert (interim.status, interim.header("link")) == (102 + i % 90, f"</{i}>")
        assert (await client.response()).body == b"good"


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("websocket", b"Connection: upgrade\r\nUpgrade: h2c"),
        ("websocket", b"Connection: upgrade\r\nUpgrade: websocket, h2c"),
        ("websocket", b"Connection: upgrade\r\nUpgrade: tls/1.0"),
        ("websocket", b"Connection: upgrade"),
        ("websocket", b"Upgrade: websocket"),
        ("websocket", b"Connection: upgrade\r\nUpgrade:"),
        ("websocket", b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5"),
        ("websocket", b"Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked"),
        ("h2c", b"Connection: upgrade\r\nUpgrade: h2c"),
        ("h2c, websocket", b"Connection: upgrade\r\nUpgrade: h2c"),
    ],
)
async def test_a_switch_to_what_was_not_asked_for_is_no_tunnel(asked: str, granted: bytes) -> None:
    async with staged({"cn": saying(head(granted, POISON, b"101 Switching Protocols"))}) as stage:
        log = keep_log(stage)
        client = await stage.client()
        await client.send(request(headers=f"Connection: upgrade\r\nUpgrade: {asked}") + b"early")
        assert (await client.response()).status == 502
        await one_record(stage, log)
        conversation = stage.providers["cn"].conversations[0]
        await conversation.ended.wait()
        assert b"early" not in conversation.received


@pytest.mark.parametrize("status", [b"301 x", b"302 Found", b"303 x", b"307 x", b"308 x", b"300 x", b"305 Use Proxy"])
async def test_redirects_are_passed_on_and_never_followed(status: bytes) -> None:
    other = Recorder()
    async with staged({"cn": closing(), "own": other}) as stage:
        assert (await stage.ask(request("/good", xff=BRITAIN))).body == b"recorded"
        port = stage.providers["own"].port
        location = b"http://127.0.0.1:%d/moved" % port
        stage.providers["cn"].script = saying(head(b"Location: " + location + b"\r\nContent-Length: 0", status=status))
        response = await stage.ask(request())
        assert (response.status, response.header("location")) == (int(status[:3]), location.decode())
        assert len(stage.providers["own"].conversations) == 1
        assert other.whole == [(b"GET", b"/good", b"")]


async def test_fields_that_end_here_or_lead_past_us_do_not_reach_the_client() -> None:
    fields = [
        *(b'Alt-Svc: h3=":443"', b'alt-svc: h2="evil.example:443"', b"ALT-SVC:clear", b"Keep-Alive: timeout=5"),
        *(b"Connection: X-Hop, keep-alive", b"Connection: x-other", b"X-Hop: 1", b"x-hop: 2", b"X-Other: 3"),
        *(b"Proxy-Authenticate: Basic", b"Proxy-Connection: close", b"Trailer: X-T", b"TE: trailers"),
        *(b"Upgrade: h2c", b"Transfer-Encoding: chunked", b"X-Kept: yes", b'ETag: "x"', b"Set-Cookie: a=b"),
        *(b"Set-Cookie: c=d", b"Date: now", b"Server: theirs", b"Content-Encoding: gzip", b"X-Alt-Svc: kept"),
    ]
    async with staged({"cn": saying(head(b"\r\n".join(fields), CHUNKS))}) as stage:
        response = await stage.ask(request())
        assert response.body == b"hello"
        assert response.raw_head == (
            b'HTTP/1.1 200 OK\r\nX-Kept: yes\r\nETag: "x"\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nDate: now\r\n'
            b"Server: theirs\r\nContent-Encoding: gzip\r\nX-Alt-Svc: kept\r\nTransfer-Encoding: chunked\r\n\r\n"
        )


@pytest.mark.parametrize("listed", [b"Content-Length", b"Transfer-Encoding", b"content-length, x"])
async def test_connection_cannot_take_an_answers_framing_away(listed: bytes) -> None:
    async with staged({"cn": saying(head(b"Connection: " + listed + b"\r\n" + LENGTH, b"hello"))}) as stage:
        response = await stage.ask(request())
        assert (response.header("content-length"), response.body) == ("5", b"hello")


async def test_trailers_are_dropped() -> None:
    trailers = b"0\r\nX-Trailer: 1\r\nSet-Cookie: a=b\r\n\r\n"
    async with staged({"cn": saying(head(CODING, b"5\r\nhello\r\n" + trailers))}) as stage:
        client = await stage.client()
        await client.send(request(headers="TE: trailers\r\nConnection: close, TE"))
        assert (await client.head()).header("trailer") is None
        assert await client.rest() == CHUNKS


@pytest.mark.parametrize(
    "reply", [head(b"Connection: close\r\n" + LENGTH, b"hello"), head(LENGTH, b"hello", version=b"1.0")]
)
async def test_a_connection_that_its_provider_does_not_keep_is_not_kept(reply: bytes) -> None:
    async with staged({"cn": saying(reply)}) as stage:
        client = await stage.client()
        for count in (1, 2):
            await client.send(request())
            assert (await client.response()).body == b"hello"
            assert len(stage.providers["cn"].conversations) == count
            await stage.providers["cn"].conversations[-1].ended.wait()


@pytest.mark.parametrize("reply", [OK, head(b"Connection: close\r\n" + LENGTH, b"hello", b"413 Too Large")])
@pytest.mark.parametrize("chunks", [False, True])
async def test_an_early_answer_ends_both_connections_and_the_rest_of_the_body_is_nobodys_request(
    reply: bytes, chunks: bool
) -> None:
    smuggled = request("/smuggled")
    provider = Recorder(keep=True)

    async def script(conversation: Conversation) -> None:
        if len(stage.providers["cn"].conversations) > 1:
            await provider(conversation)
        else:
            await saying(reply)(conversation)

    async with staged({"cn": script}) as stage:
        log = keep_log(stage)
        client = await stage.client()
        framing = "Transfer-Encoding: chunked" if chunks else "Content-Length: 100000"
        await client.send(request(method="POST", headers=framing))
        response = await client.response()
        assert (response.status, response.header("connection")) == (int(reply[9:12]), "close")
        # The client sends on as if nothing had been said.
        await client.send(smuggled)
        first = stage.providers["cn"].conversations[0]
        async with asyncio.timeout(PATIENCE):
            await first.ended.wait()
        assert b"/smuggled" not in first.received
        assert (await stage.ask(request("/good"))).body == b"recorded"
        assert provider.whole == [(b"GET", b"/good", b"")]
        await one_record(stage, log, 2)


async def test_what_a_provider_is_sent_is_whole_before_its_connection_serves_another() -> None:
    """A final answer to a request whose body was sent in part: the connection is not kept."""
    async with staged({"cn": answering(b"early")}) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers="Content-Length: 10") + b"01234")
        assert (await client.response()).body == b"early"
        async with asyncio.timeout(PATIENCE):
            await stage.providers["cn"].conversations[0].ended.wait()
        assert (await stage.ask(request())).body == b"early"
        assert len(stage.providers["cn"].conversations) == 2


async def test_a_provider_that_answers_before_it_took_all_of_a_whole_body_is_not_asked_again() -> None:
    answered = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        conversation.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await answered.wait()
        await conversation.say(OK)
        await asyncio.sleep(PATIENCE)

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request(method="POST", headers="Transfer-Encoding: chunked"))
        (connection,) = stage.plane._connections
        while (provider := getattr(connection.exchange, "_provider", None)) is None:
            await asyncio.sleep(0.01)
        while provider.transport.get_write_buffer_size() < 50_000:
            await client.send(b"4e20\r\n" + b"x" * 20_000 + b"\r\n")
            await asyncio.sleep(0.01)
        await client.send(b"0\r\n\r\n")
        await asyncio.sleep(0.1)
        answered.set()
        assert (await client.response()).body == b"good"
        (state,) = stage.plane.line.fleet.states.values()
        assert (len(state.pool), state.open) == (0, 0)
