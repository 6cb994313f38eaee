"""What a provider is sent, byte for byte, for odd requests that are accepted."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.http1.recording import KeptLog, Recorder, entrance, keep_log, one_record, requests_counted
from tests.http1.staging import BRITAIN, MAINLAND, Conversation, Response, Stage, request, staged

STRANGER = "1.2.4.9"
"""A peer in the mainland that is no trusted proxy."""

HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate", "te", "trailer"),
    *("upgrade", "http2-settings", "transfer-encoding"),
}
VOUCHED = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Via", "X-Request-Id")


@dataclass
class Sent:
    """One request as it arrived at the provider."""

    raw: bytes

    @property
    def line(self) -> bytes:
        return self.raw.partition(b"\r\n")[0]

    @property
    def fields(self) -> list[tuple[str, str]]:
        head = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1")
        return [
            (name, value.removeprefix(" ")) for name, _, value in (x.partition(":") for x in head.split("\r\n")[1:])
        ]

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def payload(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]


def hold_invariants(sent: Sent, upgrade: bool = False) -> None:
    """What must hold of every request."""
    head = sent.raw.partition(b"\r\n\r\n")[0]
    assert not set(b"\r\n\0") & set(head.replace(b"\r\n", b""))
    assert re.fullmatch(rb"[A-Z-]+ [!-~]+ HTTP/1\.1", sent.line)
    assert b"#" not in sent.line
    names = [name.lower() for name, _ in sent.fields]
    assert names.count("host") == 1
    assert re.fullmatch(r"[a-z0-9._-]+(:[1-9][0-9]*)?|\[[0-9a-f:]+\](:[1-9][0-9]*)?", sent.values("Host")[0])
    assert names.count("content-length") + names.count("transfer-encoding") <= 1
    assert sent.values("Transfer-Encoding") in ([], ["chunked"])
    assert all(re.fullmatch("0|[1-9][0-9]*", value) for value in sent.values("Content-Length"))
    hops = HOP_BY_HOP - {"transfer-encoding"} - ({"connection", "upgrade"} if upgrade else set())
    assert not hops & set(names)
    for vouched in VOUCHED:
        assert names.count(vouched.lower()) == 1
    dashed = [re.sub("[^a-z0-9]", "-", name) for name in names]
    for name, plain in zip(names, dashed, strict=True):
        if plain in HOP_BY_HOP | {"host", "content-length", "via", "forwarded", "proxy"} or plain.startswith(
            "x-forwarded-"
        ):
            assert name == plain
    for name in names:
        assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name)


@dataclass
class Scene:
    stage: Stage
    log: KeptLog
    provider: Recorder

    async def send(self, data: bytes, peer: str | None = "127.0.0.1", *, tls: bool = False) -> Sent:
        """Send one request, have it answered, and return what its provider was sent for it."""
        seen = len(self.provider.whole)
        async with entrance(self.stage, peer, tls=tls) as connect:
            client = await connect()
            await client.send(data)
            response: Response = await client.response(data.split(b" ")[0].decode())
            assert response.status == 200, response.body
            client.close()
        assert len(self.provider.whole) == seen + 1
        sent = Sent(bytes(self.stage.providers["cn"].conversations[-1].received))
        hold_invariants(sent)
        return sent


@asynccontextmanager
async def scene_of(**options: str) -> AsyncIterator[Scene]:
    provider = Recorder()
    async with staged({"cn": provider}, **options) as stage:
        yield Scene(stage, keep_log(stage), provider)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scene() -> AsyncIterator[Scene]:
    async with scene_of() as scene:
        yield scene


def raw(line: str, *fields: str, body: bytes = b"", host: str | None = "storage.example") -> bytes:
    lines = [line, *([] if host is None else [f"Host: {host}"]), f"X-Forwarded-For: {MAINLAND}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"
DECOY = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: storage.example\r\n\r\n"

# name: (request, (method, target, body) at the provider, framing there)
ACCEPTED: dict[str, tuple[bytes, tuple[bytes, bytes, bytes], bytes]] = {
    "plain": (raw("GET / HTTP/1.1"), (b"GET", b"/", b""), b""),
    "an empty line first": (b"\r\n" + raw("GET / HTTP/1.1"), (b"GET", b"/", b""), b""),
    "HTTP/1.0": (raw("GET /x HTTP/1.0"), (b"GET", b"/x", b""), b""),
    "HTTP/1.0 with a body": (
        raw("POST /x HTTP/1.0", "Content-Length: 5", body=b"hello"),
        (b"POST", b"/x", b"hello"),
        b"length",
    ),
    "no space behind colons": (raw("GET / HTTP/1.1", "X:y", "Connection:close"), (b"GET", b"/", b""), b""),
    "spaces and tabs around values": (
        raw("PUT / HTTP/1.1", "Content-Length: \t 5 \t", body=b"hello"),
        (b"PUT", b"/", b"hello"),
        b"length",
    ),
    "leading zeros": (
        raw("PUT / HTTP/1.1", "Content-Length: 0005", body=b"hello"),
        (b"PUT", b"/", b"hello"),
        b"length",
    ),
    "odd case": (raw("PUT / HTTP/1.1", "cOnTeNt-LeNgTh: 5", body=b"hello"), (b"PUT", b"/", b"hello"), b"length"),
    "CHUNKED": (raw("PUT / HTTP/1.1", "transfer-encoding:CHUNKED", body=CHUNKS), (b"PUT", b"/", b"hello"), b"chunks"),
    "Chunked with tabs": (
        raw("PUT / HTTP/1.1", "Transfer-Encoding:\t Chunked", body=CHUNKS),
        (b"PUT", b"/", b"hello"),
        b"chunks",
    ),
    "empty chunks": (raw("PUT / HTTP/1.1", CHUNKED, body=b"0\r\n\r\n"), (b"PUT", b"/", b""), b"chunks"),
    "chunk extensions": (
        raw("PUT / HTTP/1.1", CHUNKED, body=b'2;a\r\nhe\r\n3;b=c;d="e;f\\" \t"\r\nllo\r\n0;z=1\r\n\r\n'),
        (b"PUT", b"/", b"hello"),
        b"chunks",
    ),
    "zeros before a size": (
        raw("PUT / HTTP/1.1", CHUNKED, body=b"00005\r\nhello\r\n000\r\n\r\n"),
        (b"PUT", b"/", b"hello"),
        b"chunks",
    ),
    "hex in both cases": (
        raw("PUT / HTTP/1.1", CHUNKED, body=b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        (b"PUT", b"/", b"0123456789" * 2),
        b"chunks",
    ),
    "trailers": (
        raw("PUT / HTTP/1.1", CHUNKED, "Trailer: X-T", body=b"5\r\nhello\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n"),
        (b"PUT", b"/", b"hello"),
        b"chunks",
    ),
    "a chunk that looks like an end and a request": (
        raw("PUT / HTTP/1.1", CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(DECOY), DECOY)),
        (b"PUT", b"/", DECOY),
        b"chunks",
    ),
    "GET with a length": (
        raw("GET / HTTP/1.1", "Content-Length: 5", body=b"hello"),
        (b"GET", b"/", b"hello"),
        b"length",
    ),
    "GET with chunks": (raw("GET / HTTP/1.1", CHUNKED, body=CHUNKS), (b"GET", b"/", b"hello"), b"chunks"),
    "GET with length 0": (raw("GET / HTTP/1.1", "Content-Length: 0"), (b"GET", b"/", b""), b"length"),
    "HEAD with a length": (
        raw("HEAD / HTTP/1.1", "Content-Length: 5", body=b"hello"),
        (b"HEAD", b"/", b"hello"),
        b"length",
    ),
    "OPTIONS with chunks": (raw("OPTIONS / HTTP/1.1", CHUNKED, body=CHUNKS), (b"OPTIONS", b"/", b"hello"), b"chunks"),
    "DELETE with a length": (
        raw("DELETE / HTTP/1.1", "Content-Length: 5", body=b"hello"),
        (b"DELETE", b"/", b"hello"),
        b"length",
    ),
    "POST without a body": (raw("POST / HTTP/1.1", "Content-Length: 0"), (b"POST", b"/", b""), b"length"),
    "POST without framing": (raw("POST / HTTP/1.1"), (b"POST", b"/", b""), b""),
    "OPTIONS *": (raw("OPTIONS * HTTP/1.1"), (b"OPTIONS", b"*", b""), b""),
    "absolute form": (raw("GET http://storage.example/a?b HTTP/1.1"), (b"GET", b"/a?b", b""), b""),
    "absolute form in odd case": (raw("GET HTTP://STORAGE.example./a HTTP/1.1"), (b"GET", b"/a", b""), b""),
    "absolute form without a path": (raw("GET http://storage.example HTTP/1.1"), (b"GET", b"/", b""), b""),
    "absolute form with only a query": (raw("GET http://storage.example?a HTTP/1.1"), (b"GET", b"/?a", b""), b""),
    "absolute form of https": (raw("GET https://storage.example/ HTTP/1.1"), (b"GET", b"/", b""), b""),
    "OPTIONS of an authority": (raw("OPTIONS http://storage.example HTTP/1.1"), (b"OPTIONS", b"*", b""), b""),
    "absolute form with a port": (
        raw("GET http://storage.example:81/ HTTP/1.1", host="storage.example:81"),
        (b"GET", b"/", b""),
        b"",
    ),
    "latin-1 in a value": (raw("GET / HTTP/1.1", "X: \xe4\xff\x80"), (b"GET", b"/", b""), b""),
    "empty values": (raw("GET / HTTP/1.1", "X:", "Y: ", "Connection:", "Upgrade:"), (b"GET", b"/", b""), b""),
    "odd names": (raw("GET / HTTP/1.1", "!#$%&'*+.^_`|~09azAZ-: y"), (b"GET", b"/", b""), b""),
    "WebDAV": (raw("PROPFIND /x HTTP/1.1", "Depth: 1"), (b"PROPFIND", b"/x", b""), b""),
    "M-SEARCH": (raw("M-SEARCH /x HTTP/1.1"), (b"M-SEARCH", b"/x", b""), b""),
    "a twin of a length": (raw("GET / HTTP/1.1", "Content_Length: 5"), (b"GET", b"/", b""), b""),
    "a twin of a coding": (raw("GET / HTTP/1.1", "Transfer_Encoding: chunked"), (b"GET", b"/", b""), b""),
    "a twin of a coding beside a length": (
        raw("PUT / HTTP/1.1", "Transfer.Encoding: chunked", "Content-Length: 5", body=b"hello"),
        (b"PUT", b"/", b"hello"),
        b"length",
    ),
    "Connection lists Host": (raw("GET / HTTP/1.1", "Connection: Host"), (b"GET", b"/", b""), b""),
    "Connection lists Content-Length": (
        raw("PUT / HTTP/1.1", "Connection: close, Content-Length", "Content-Length: 5", body=b"hello"),
        (b"PUT", b"/", b"hello"),
        b"length",
    ),
    "Connection lists Transfer-Encoding": (
        raw("PUT / HTTP/1.1", "Connection: Transfer-Encoding", CHUNKED, body=CHUNKS),
        (b"PUT", b"/", b"hello"),
        b"chunks",
    ),
    "Connection lists what we set": (
        raw("GET / HTTP/1.1", "Connection: " + ", ".join(VOUCHED), "Connection: x-request-id,via"),
        (b"GET", b"/", b""),
        b"",
    ),
    "Connection with empty members": (raw("GET / HTTP/1.1", "Connection: ,, close ,,"), (b"GET", b"/", b""), b""),
    "all hop-by-hop fields": (
        raw(
            "GET / HTTP/1.1",
            *(f"{name}: x" for name in HOP_BY_HOP - {"connection", "transfer-encoding", "upgrade"}),
            "Upgrade: h2c",
        ),
        (b"GET", b"/", b""),
        b"",
    ),
    "many fields": (raw("GET / HTTP/1.1", *(f"X-{i}: y" for i in range(98))), (b"GET", b"/", b""), b""),
    "large fields": (raw("GET / HTTP/1.1", *(f"X-{i}: {'y' * 1000}" for i in range(31))), (b"GET", b"/", b""), b""),
    "a proxy's credential": (raw("GET / HTTP/1.1", "Proxy-Authorization: Basic eA=="), (b"GET", b"/", b""), b""),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("data", "arrives", "framing"), ACCEPTED.values(), ids=ACCEPTED)
async def test_odd_requests_go_out_in_our_own_words(
    scene: Scene, data: bytes, arrives: tuple[bytes, bytes, bytes], framing: bytes
) -> None:
    before, counted = len(scene.log.lines), requests_counted(scene.stage)
    for peer in ("127.0.0.1", STRANGER):
        sent = await scene.send(data, peer)
        assert scene.provider.whole[-1] == arrives
        assert sent.line == arrives[0] + b" " + arrives[1] + b" HTTP/1.1"
        assert len(sent.values("Content-Length")) == (framing == b"length")
        assert len(sent.values("Transfer-Encoding")) == (framing == b"chunks")
    assert len(await scene.log.wait(before + 2)) == before + 2
    assert requests_counted(scene.stage) - counted == {("cn", "2xx"): 2}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("data", [data for data, *_ in ACCEPTED.values()], ids=ACCEPTED)
async def test_how_a_request_is_cut_does_not_change_it(scene: Scene, data: bytes) -> None:
    if len(data) > 500:
        cuts = [[data[:5], data[5:-5], data[-5:]]]
    else:
        cuts = [[data[i : i + 1] for i in range(len(data))], [data[:-1], data[-1:]], [data[:40], data[40:]]]
    wanted = await scene.send(data)
    for pieces in cuts:
        client = await scene.stage.client()
        for piece in pieces:
            await client.send(piece)
        assert (await client.response(data.split()[0].decode())).status == 200
        sent = Sent(bytes(scene.stage.providers["cn"].conversations[-1].received))
        ours = {"X-Request-Id"}
        assert [f for f in sent.fields if f[0] not in ours] == [f for f in wanted.fields if f[0] not in ours]
        assert scene.provider.whole[-1] == scene.provider.whole[-2]
        client.close()


VISIBLE = "".join(chr(c) for c in range(0x21, 0x7F) if c != ord("#"))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "target",
    [
        *("/%2e%2e", "/%2E%2e/%2F", "//", "//evil.example/x", "///", "/a//b", "/./a", "/../../etc/passwd", "/a/..;/b"),
        *(
            "/a;x=1",
            "/a%3bb",
            "/%",
            "/%zz",
            "/%252e",
            "/a%20b",
            "/a+b",
            "/?",
            "/?a=b&c=%00",
            "/?%0d%0a",
            "/?a?b?c",
            "/a:b@c",
        ),
        *("/\\..\\x", "/~user/", "/a=b", "/%e4%b8%ad", "/%E4%b8%AD", "/%c0%ae", "/'\"<>[]{}|^`", '/?x=[]{}|\\^`"<>'),
        *("/%41%62", "/*", "/a%", "/http://evil.example/", "/?u=http://evil.example/#".rstrip("#"), "/" + VISIBLE),
        *(
            "/?" + VISIBLE,
            "/" + "x" * 8000,
            "/?" + "%41" * 2000,
            "/.",
            "/..",
            "/.well-known/x",
            "/-",
            "/%7e",
            "/%00x".replace("00", "0b"),
        ),
    ],
)
async def test_a_target_goes_out_byte_for_byte(scene: Scene, target: str) -> None:
    sent = await scene.send(raw(f"GET {target} HTTP/1.1"))
    assert sent.line == f"GET {target} HTTP/1.1".encode()
    sent = await scene.send(raw(f"GET http://storage.example{target} HTTP/1.1"))
    assert sent.line == f"GET {target} HTTP/1.1".encode()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("host", "wire"),
    [
        ("storage.example", "storage.example"),
        ("STORAGE.Example", "storage.example"),
        ("storage.example.", "storage.example"),
        ("storage.example:8443", "storage.example:8443"),
        ("Storage.Example.:0443", "storage.example:443"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:80", "192.0.2.1:80"),
        ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
        ("[::1]:8080", "[::1]:8080"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("under_score.example", "under_score.example"),
        ("localhost", "localhost"),
    ],
)
async def test_a_host_has_one_form_on_the_wire_in_the_log_and_in_what_we_vouch_for(
    scene: Scene, host: str, wire: str
) -> None:
    sent = await scene.send(raw("GET / HTTP/1.1", host=host))
    assert sent.values("Host") == [wire]
    assert sent.fields[0] == ("Host", wire)
    assert sent.values("X-Forwarded-Host") == [wire]
    quoted = f'"{wire}"' if ":" in wire else wire
    assert sent.values("Forwarded") == [f"for={MAINLAND}, for=127.0.0.1;host={quoted};proto=http"]
    records = await scene.log.wait(1)
    assert records[-1]["host"] == re.sub(r":\d+$", "", wire).strip("[]")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("tls", [False, True])
async def test_what_we_vouch_for_is_ours_where_the_peer_is_not_trusted(scene: Scene, tls: bool) -> None:
    lies = [
        *(
            "X-Forwarded-For: 8.8.8.8",
            "x-forwarded-for: 9.9.9.9",
            "X-Forwarded-Proto: gopher",
            "X-Forwarded-Host: evil",
        ),
        *("X-Forwarded-Port: 1", "X-Forwarded-Server: evil", "X-Forwarded-Prefix: /x", "X-Forwarded-Anything: x"),
        *("Forwarded: for=8.8.8.8", "Via: 1.1 evil", "X-Real-IP: 8.8.8.8", "X-Request-Id: mine", "Proxy: http://evil"),
        *("True-Client-IP: 8.8.8.8", "CF-Connecting-IP: 8.8.8.8", "X-Client-IP: 8.8.8.8", "X-Original-URL: /admin"),
        *("X-Rewrite-URL: /admin", "X-Cluster-Client-IP: 8.8.8.8"),
    ]
    sent = await scene.send(raw("GET / HTTP/1.1", *lies, "X-Kept: yes"), STRANGER, tls=tls)
    proto = "https" if tls else "http"
    fields = dict(sent.fields)
    request_id = fields.pop("X-Request-Id")
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert fields == {
        "Host": "storage.example",
        "X-Kept": "yes",
        "X-Forwarded-For": STRANGER,
        "X-Forwarded-Proto": proto,
        "X-Forwarded-Host": "storage.example",
        "Forwarded": f"for={STRANGER};host=storage.example;proto={proto}",
        "Via": "1.1 domicile",
    }
    assert (await scene.log.wait(1))[-1]["id"] == request_id


@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_trusted_proxy_says_is_passed_on_and_added_to(scene: Scene) -> None:
    sent = await scene.send(
        raw(
            "GET / HTTP/1.1",
            f"X-Forwarded-For: {MAINLAND}",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: front.example",
            "X-Forwarded-Port: 443",
            f"Forwarded: for={MAINLAND};proto=https",
            "Via: 2 edge",
            f"X-Real-IP: {MAINLAND}",
            "X-Request-Id: from-the-edge.1",
        )
    )
    fields = dict(sent.fields)
    assert fields == {
        "Host": "storage.example",
        "X-Forwarded-Port": "443",
        "X-Real-IP": MAINLAND,
        "X-Forwarded-For": f"{MAINLAND}, {MAINLAND}, 127.0.0.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "front.example",
        "Forwarded": f"for={MAINLAND};proto=https, for=127.0.0.1;host=storage.example;proto=http",
        "Via": "2 edge, 1.1 domicile",
        "X-Request-Id": "from-the-edge.1",
    }
    assert (await scene.log.wait(1))[-1]["id"] == "from-the-edge.1"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_peer_over_ipv6_is_named_as_rfc_7239_says(scene: Scene) -> None:
    sent = await scene.send(raw("GET / HTTP/1.1"), "240e::1")
    assert sent.values("X-Forwarded-For") == ["240e::1"]
    assert sent.values("Forwarded") == ['for="[240e::1]";host=storage.example;proto=http']
    assert (await scene.log.wait(1))[-1]["client"] == "240e::/48"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("peer", [STRANGER, "127.0.0.1"])
@pytest.mark.parametrize(
    "name", [*VOUCHED, "X-Forwarded-Port", "X-Real-IP", "Content-Length", "Transfer-Encoding", "Proxy"]
)
async def test_no_twin_of_what_we_vouch_for_goes_on(scene: Scene, name: str, peer: str) -> None:
    twins = {re.sub("-", mark, name) for mark in "_.~!" if "-" in name} | {name.replace("-", "_").lower()}
    twins -= {name.lower(), name}
    sent = await scene.send(raw("GET / HTTP/1.1", *(f"{twin}: twin" for twin in twins)), peer)
    assert "twin" not in {value for _, value in sent.fields}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("peer", [STRANGER, "127.0.0.1"])
@pytest.mark.parametrize(
    "given", ["x" * 129, "", "a b\x7f".replace("\x7f", "\xe4"), "two\r\nX-Request-Id: ids", "tab\there"]
)
async def test_a_request_id_that_is_not_fit_is_made_anew(scene: Scene, given: str, peer: str) -> None:
    sent = await scene.send(raw("GET / HTTP/1.1", f"X-Request-Id: {given}"), peer)
    (request_id,) = sent.values("X-Request-Id")
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert (await scene.log.wait(1))[-1]["id"] == request_id


@pytest.mark.asyncio(loop_scope="module")
async def test_request_ids_differ_and_traceparent_passes(scene: Scene) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    data = raw("GET / HTTP/1.1", f"traceparent: {trace}", "tracestate: a=b", "baggage: c=d")
    sent = [await scene.send(data) for _ in range(5)]
    assert len({one.values("X-Request-Id")[0] for one in sent}) == 5
    assert {one.values("traceparent")[0] for one in sent} == {trace}
    assert {one.values("tracestate")[0] for one in sent} == {"a=b"}


@pytest.mark.asyncio(loop_scope="module")
async def test_what_connection_lists_ends_here(scene: Scene) -> None:
    sent = await scene.send(
        raw(
            "GET / HTTP/1.1", "Connection: X-Hop, x-other", "x-hop: 1", "X-Hop: 2", "X-OTHER: 3", "X-Stays: 4", "Hop: 5"
        )
    )
    assert [name for name, _ in sent.fields if name not in VOUCHED] == ["Host", "X-Stays", "Hop"]


@pytest.mark.asyncio(loop_scope="module")
async def test_end_to_end_fields_keep_their_bytes_and_their_order(scene: Scene) -> None:
    lines = [
        "b:1",
        "A: 2",
        "a:  3  ",
        "Cookie: x=y; z",
        "cookie: second",
        "Accept-Encoding: gzip, br",
        "X:\t\xe4 \t",
        "Range: bytes=0-1",
    ]
    sent = await scene.send(raw("GET / HTTP/1.1", *lines))
    assert "\r\n".join(lines).encode("latin-1") in sent.raw


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("fields", "goes_on"),
    [
        (("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), None),
        (("Connection: upgrade", "Upgrade: h2c, h2, HTTP/2.0, TLS/1.3"), None),
        (("Connection: upgrade", "Upgrade: H2C"), None),
        (("Upgrade: websocket",), None),
        (("Connection: close", "Upgrade: websocket"), None),
        (("Connection: upgrade", "Upgrade:"), None),
        (("Connection: upgrade, close",), None),
        (("Connection: upgrade", 'Upgrade: "websocket"'), None),
        (("Connection: keep-alive, Upgrade", "Upgrade: websocket"), "websocket"),
        (("Connection: upgrade, HTTP2-Settings", "Upgrade: h2c, websocket", "HTTP2-Settings: AA"), "websocket"),
        (("connection: UPGRADE", "upgrade: WebSocket"), "WebSocket"),
        (("Connection: upgrade", "Upgrade: websocket", "Upgrade: h2c"), "websocket"),
    ],
)
async def test_only_an_upgrade_that_can_be_granted_goes_on(
    scene: Scene, fields: tuple[str, ...], goes_on: str | None
) -> None:
    client = await scene.stage.client()
    await client.send(raw("GET / HTTP/1.1", *fields))
    assert (await client.response()).status == 200
    sent = Sent(bytes(scene.stage.providers["cn"].conversations[-1].received))
    hold_invariants(sent, upgrade=goes_on is not None)
    assert sent.values("Upgrade") == ([] if goes_on is None else [goes_on])
    assert sent.values("Connection") == ([] if goes_on is None else ["upgrade"])
    assert sent.values("HTTP2-Settings") == []


async def test_an_upgrade_in_http_1_0_or_with_a_body_does_not_go_on() -> None:
    fields = ("Connection: upgrade", "Upgrade: websocket")
    async with scene_of() as scene:
        for data in (raw("GET / HTTP/1.0", *fields), raw("POST / HTTP/1.1", *fields, "Content-Length: 2", body=b"hi")):
            assert (await scene.send(data)).values("Upgrade") == []


SECRET = "s3cr3t-of-the-provider"


async def test_a_providers_own_fields_replace_the_clients_and_are_logged_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CT_KEY", SECRET)
    own = ', headers: {X-Api-Key: "${CT_KEY}", Authorization: "Bearer ${CT_KEY}"}'
    async with scene_of(provider=own) as scene:
        theirs = ["X-Api-Key: theirs", "x-api-key: theirs", "X_Api_Key: theirs", "Authorization: theirs", "X-Api: kept"]
        sent = await scene.send(raw("GET /?q=theirs HTTP/1.1", *theirs, "Connection: X-Api-Key, Authorization"))
        assert sent.values("X-Api-Key") == [SECRET]
        assert sent.values("Authorization") == [f"Bearer {SECRET}"]
        assert [name for name, value in sent.fields if "theirs" in value] == []
        assert sent.values("X-Api") == ["kept"]
        await one_record(scene.stage, scene.log)
        assert SECRET.encode() not in b"".join(scene.log.lines) + scene.stage.metrics.render()[1]
        assert SECRET not in repr(scene.stage.plane.line)
        response = await scene.stage.ask(request(xff=BRITAIN))
        assert SECRET.encode() not in response.raw_head + response.body


async def test_a_provider_may_be_shown_its_own_host() -> None:
    async with scene_of(provider=", host: provider") as scene:
        for host in ("storage.example", "storage.example:8443"):
            sent = await scene.send(raw("GET /%2e/x HTTP/1.1", host=host))
            assert sent.values("Host") == [f"127.0.0.1:{scene.stage.providers['cn'].port}"]
            assert sent.values("X-Forwarded-Host") == [host]
            assert sent.line == b"GET /%2e/x HTTP/1.1"


async def test_an_expectation_goes_on_with_its_request() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await conversation.read(5)
        await conversation.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(raw("PUT / HTTP/1.1", "Expect: 100-Continue", "Content-Length: 5"))
        assert (await client.response()).status == 100
        await client.send(b"hello")
        assert (await client.response()).status == 200
        sent = Sent(bytes(stage.providers["cn"].conversations[0].received))
        hold_invariants(sent)
        assert sent.values("Expect") == ["100-continue"]
        assert sent.payload == b"hello"


# Spellings of one path, which a rule forbids, and of neighbours, which it does not touch.
@pytest.mark.parametrize(
    ("target", "status"),
    [
        *(
            (target, 451)
            for target in ("/forbidden/x", "/forbidden", "/forbidden/", "/%66orbidden/x", "/forbidde%6E/x?y")
        ),
        *(
            (target, 451)
            for target in ("http://storage.example/forbidden/x", "/forbidden/%7Eme", "/forbidden/a/b/c?/..")
        ),
        *(
            (target, 200)
            for target in ("/Forbidden/x", "/forbiddenx", "/x/forbidden", "/?/forbidden/x", "/", "/%46orbidden/x")
        ),
    ],
)
async def test_a_rule_on_paths_sees_through_spellings_and_the_wire_keeps_them(target: str, status: int) -> None:
    rule = "  - {name: paths, when: {home: cn-mainland, path: /forbidden/*}, forbid: any}"
    async with scene_of(rules=rule) as scene:
        response = await scene.stage.ask(raw(f"GET {target} HTTP/1.1"))
        assert response.status == status
        record = await one_record(scene.stage, scene.log)
        if status == 200:
            assert (
                scene.stage.providers["cn"].conversations[0].received.startswith(f"GET {target} HTTP/1.1\r\n".encode())
            )
        else:
            assert scene.stage.providers["cn"].conversations == []
            assert (record["reason"], record["rules"], record["attempts"]) == ("forbidden", ["mainland", "paths"], 0)


async def test_records_hold_no_path_query_credential_or_full_address() -> None:
    secrets = [
        "needle-path",
        "needle-query",
        "needle-token",
        "needle-cookie",
        "needle-body",
        "needle-agent",
        "needle-user",
    ]
    fields = [
        *("Authorization: Bearer needle-token", "Cookie: s=needle-cookie", "User-Agent: needle-agent"),
        *("Referer: http://x/needle-path?needle-query", "X-User: needle-user", "Content-Length: 11"),
    ]
    lines = [
        raw("POST /needle-path?q=needle-query HTTP/1.1", *fields, body=b"needle-body"),
        raw("POST /needle-path?q=needle-query HTTP/1.1", *fields, body=b"needle-body").replace(
            MAINLAND.encode(), b"8.8.8.8"
        ),
        raw("POST /needle-path?q=needle-query HTTP/1.1", *fields, "Content-Length: 1", body=b"needle-body"),
        raw("POST /needle-path?q=needle-query HTTP/2.0", *fields),
        raw("POST /needle-path?q=needle-query HTTP/1.1", "Expect: needle-query"),
        b"needle-path needle-query\r\n\r\n",
    ]
    async with scene_of() as scene:
        statuses = [(await scene.stage.ask(line)).status for line in lines]
        assert statuses == [200, 451, 400, 505, 417, 400]
        await one_record(scene.stage, scene.log, len(lines))
        text = b"".join(scene.log.lines) + scene.stage.metrics.render()[1]
        for secret in secrets:
            assert secret.encode() not in text
        assert MAINLAND.encode() not in text
        assert [record["client"] for record in scene.log.records[:2]] == ["1.2.4.0/24", "8.8.8.0/24"]
