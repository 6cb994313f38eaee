"""aiohttp, nginx, HAProxy and Envoy see in what we send the requests that we mean, and no other.

Every case is a request that we accept, written anew for a provider as the plane does it, with another request
right behind it on the same connection. Each peer must see just those two: same methods, targets, Hosts and bodies. A
peer may refuse the first (it is the stricter then, and closes), but what it sees must never be something else.
"""

import itertools
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.body import LAST_CHUNK, chunk
from proxy.wire.request_head import RequestHead
from proxy.wire.request_writer import Sender, end_to_end, for_provider
from tests.http1.differential.origin import Asked, Origin, origin
from tests.http1.differential.readers import Message, h11_request, llhttp_request, our_request
from tests.peers.envoy import envoy
from tests.peers.haproxy import haproxy
from tests.peers.nginx import nginx
from tests.peers.process import free_port
from tests.wire.drawn import HEADS

CANARY = b"GET /canary HTTP/1.1\r\nHost: canary.example\r\nConnection: close\r\n\r\n"
CANARY_ASKED = Asked("GET", "/canary", ("canary.example",), b"")
SENDER = Sender(ip_address("192.0.2.1"), tls=True, trusted=True)

PEERS = ("aiohttp", "nginx", "haproxy", "envoy")


@dataclass(frozen=True)
class Fronts:
    """The peers by name with their ports; all pass on what they see to one origin."""

    origin: Origin
    ports: dict[str, int]

    def send(self, peer: str, data: bytes) -> tuple[list[Asked], bytes]:
        """What was seen of data, and the answer up to the end of the connection."""
        self.origin.take()
        answer = b""
        with socket.create_connection(("127.0.0.1", self.ports[peer]), timeout=20) as connection:
            connection.sendall(data)
            while piece := connection.recv(65536):
                answer += piece
        return self.origin.take(), answer


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronts]:
    with ExitStack() as stack:
        recorded = stack.enter_context(origin())
        ports = {"aiohttp": recorded.port, **{peer: free_port() for peer in PEERS[1:]}}
        to = f"127.0.0.1:{recorded.port}"
        stack.enter_context(nginx(nginx_in_front(ports["nginx"], to), [ports["nginx"]], tmp_path_factory.mktemp("n")))
        stack.enter_context(
            haproxy(haproxy_in_front(ports["haproxy"], to), [ports["haproxy"]], tmp_path_factory.mktemp("h"))
        )
        stack.enter_context(
            envoy(envoy_in_front(ports["envoy"], recorded.port), [ports["envoy"]], tmp_path_factory.mktemp("e"))
        )
        yield Fronts(recorded, ports)


def nginx_in_front(port: int, to: str) -> str:
    return f"""
        server {{
            listen 127.0.0.1:{port};
            large_client_header_buffers 8 64k;
            location / {{
                proxy_pass http://{to};
                proxy_http_version 1.1;
                proxy_set_header Host $http_host;
                proxy_set_header Connection "";
            }}
        }}"""


def haproxy_in_front(port: int, to: str) -> str:
    return f"""
        defaults
            mode http
            timeout connect 10s
            timeout client 10s
            timeout server 10s
            http-reuse never
        frontend here
            bind 127.0.0.1:{port}
            default_backend there
        backend there
            server there {to}
    """


def envoy_in_front(port: int, origin_port: int) -> dict[str, object]:
    api = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{api}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "here",
        "codec_type": "HTTP1",
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{api}.http.router.v3.Router"}}],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": ""}, "route": {"cluster": "there"}}]}
            ]
        },
    }
    cluster = {
        "name": "there",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "there", "endpoints": [{"lb_endpoints": [place("endpoint", origin_port)]}]},
    }
    listener = {**place(None, port), "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def place(wrapped: str | None, port: int) -> dict[str, object]:
    address: dict[str, object] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    return address if wrapped is None else {wrapped: address}


def relayed(data: bytes) -> tuple[RequestHead, bytes, Asked] | None:
    """A request as the plane sends it on, and what it means. None: it is refused, or not whole.

    An upgrade is left out: behind it nothing is sent until the answer is there.
    """
    reading = our_request(data)
    if reading is None or reading[1].consumed is None or reading[0].upgrade is not None:
        return None
    head, message = reading
    lines = for_provider(head, end_to_end(head, SENDER, frozenset()), None, ())
    body = message.body
    if head.length is None:
        body = (chunk(message.body) if message.body else b"") + LAST_CHUNK
    asked = Asked(head.method, head.target.decode(), (head.authority.wire.decode(),), message.body)
    return head, b"%bX-Request-Id: ours\r\n\r\n%b" % (lines, body), asked


# What a peer refuses and we pass on, since we change neither target nor method nor fields of the client's own. nginx
# resolves paths and refuses those that lead out of the root, escapes of nothing, and Authorization twice; Envoy has no
# route for `*`, and does not know M-SEARCH.
REFUSED_BY = {
    "nginx": lambda asked, sent: (
        asked.target == "*"
        or asked.target.lower().startswith(("/..", "/%2e%2e", "/%zz"))
        or sent.lower().count(b"\nauthorization:") > 1
    ),
    "envoy": lambda asked, sent: asked.target == "*" or asked.method == "M-SEARCH",
}


def check(fronts: Fronts, peer: str, sent: bytes, asked: Asked) -> bool:
    """Whether the peer took the request; an error if it saw anything else in it."""
    seen, answer = fronts.send(peer, sent + CANARY)
    if seen == [asked, CANARY_ASKED]:
        return True
    assert peer in REFUSED_BY, (peer, sent, seen, answer)
    assert REFUSED_BY[peer](asked, sent), (peer, sent, seen, answer)
    assert seen in ([], [CANARY_ASKED]), (peer, sent, seen)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), (peer, sent, answer)
    return False


METHODS = [
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"PROPFIND",
    b"REPORT",
    b"M-SEARCH",
    b"PURGE",
]
TARGETS = [
    *(
        b"/",
        b"/a?b=c",
        b"//a",
        b"/./a",
        b"/a/../b",
        b"/%2e%2e/a",
        b"/%2f",
        b"/a%20b",
        b'/"<>',
        b"/{|}^`",
        b"/\\a",
        b"/a;b=c",
    ),
    *(
        b"/?",
        b"/??",
        b"/?a=%0d%0a",
        b"/*",
        b"/:80",
        b"/@a",
        b"/http://b/",
        b"/a?http://b/",
        b"http://a.example",
        b"/%C3%A4",
    ),
    *(b"http://a.example/x?y", b"/%zz", b"/..", b"/a//b", b"/'", b"/[x]", b"/" + b"a" * 2000),
]
CONTENTS: list[tuple[list[bytes], bytes]] = [
    ([], b""),
    ([b"Content-Length: 0"], b""),
    ([b"Content-Length: 5"], b"hello"),
    ([b"content-length:\t0026"], b"GET /smuggled HTTP/1.1\r\n\r\n"),
    ([b"Content-Length: 5", b"Expect: 100-continue"], b"hello"),
    ([b"Transfer-Encoding: chunked"], b"0\r\n\r\n"),
    ([b"Transfer-Encoding:  CHUNKED "], b'5;a="b"\r\nhello\r\n0;c\r\nX: y\r\n\r\n'),
    ([b"Transfer-Encoding: chunked"], b"00\r\n\r\n"),
    ([b"Transfer-Encoding: chunked"], b"1a\r\nGET /smuggled HTTP/1.1\r\n\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
    ([b"Transfer-Encoding: chunked", b"Expect: 100-continue"], b"1\r\n\n\r\n1\r\n\r\r\n0\r\n\r\n"),
]
FIELDS = [
    *(
        [],
        [b"Content_Length: 5"],
        [b"Transfer_Encoding: chunked"],
        [b"Transfer.Encoding: chunked", b"X-Content-Length: 5"],
    ),
    *([b"Connection: close"], [b"Connection: keep-alive, x-a, host, content-length, transfer-encoding", b"X-A: b"]),
    *([b"TE: chunked, trailers", b"Trailer: X"], [b"Keep-Alive: timeout=1, max=1"], [b"Proxy-Connection: close"]),
    *(
        [b"X: \xff\x80\xa0", b"X-Tab: a\tb"],
        [b"X:", b"X: ", b"X:\t"],
        [b"!#$%&'*+-.^_`|~: x"],
        [b"X-Forwarded-For: 1.2.3.4"],
    ),
    *(
        [b"Connection: upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"],
        [b"Upgrade: websocket"],
        [b"X" * 40 + b": y"],
    ),
    *(
        [b"X: Transfer-Encoding: chunked", b"X: y, z, \x22"],
        [b"Content-Encoding: gzip"],
        [b"A: b"] * 60,
        [b"Early-Data: 1"],
    ),
]


def corpus() -> list[bytes]:
    """Every pair of a method, a target, content and fields; the third and fourth vary with them."""
    cases = []
    targets, contents, fields = itertools.cycle(TARGETS), itertools.cycle(CONTENTS), itertools.cycle(FIELDS)
    for method, (framing, content) in itertools.product(METHODS, CONTENTS):
        cases.append(request(method, next(targets), [*framing, *next(fields)], content))
    for target, extra in itertools.product(TARGETS, FIELDS):
        framing, content = next(contents)
        cases.append(request(b"POST" if framing else b"GET", target, [*framing, *extra], content))
    for version in (b"1.0", b"1.1"):
        for framing, content in CONTENTS:
            cases.append(request(b"POST", b"/v", [*framing, b"Connection: keep-alive"], content, version))
    cases.append(request(b"OPTIONS", b"*", [], b""))
    cases.append(request(b"OPTIONS", b"http://a.example", [], b""))
    return cases


def request(method: bytes, target: bytes, fields: list[bytes], content: bytes, version: bytes = b"1.1") -> bytes:
    return b"\r\n".join((b"%b %b HTTP/%b" % (method, target, version), b"Host: a.example", *fields, b"", content))


@pytest.mark.debian
@pytest.mark.parametrize("peer", PEERS)
def test_a_corpus(fronts: Fronts, peer: str) -> None:
    taken, passed_on = 0, 0
    for data in corpus():
        reading = relayed(data)
        if reading is not None:
            passed_on += 1
            taken += check(fronts, peer, reading[1], reading[2])
    assert passed_on > 500
    assert taken > 0.8 * passed_on


@pytest.mark.debian
@pytest.mark.parametrize("peer", PEERS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_requests_at_random(fronts: Fronts, peer: str, data: st.DataObject) -> None:
    head = data.draw(HEADS)
    reading = relayed(head + data.draw(st.sampled_from([b"hello", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"])))
    if reading is not None:
        check(fronts, peer, reading[1], reading[2])


@pytest.mark.debian
@pytest.mark.parametrize("peer", PEERS)
def test_a_smuggled_request_would_be_seen(fronts: Fronts, peer: str) -> None:
    """What the checks above would find, is found: a third request that hides in content of no stated length."""
    hidden = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    seen, _ = fronts.send(peer, b"POST /a HTTP/1.1\r\nHost: a\r\n\r\n" + hidden + CANARY)
    assert [asked.target for asked in seen] == ["/a", "/smuggled", "/canary"]


@settings(max_examples=300, deadline=None)
@given(HEADS, st.sampled_from([b"hello", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"]))
def test_h11_and_llhttp_read_what_we_send(head: bytes, content: bytes) -> None:
    reading = relayed(head + content)
    if reading is not None:
        agreed(reading[1], reading[2])


def test_h11_and_llhttp_read_the_corpus() -> None:
    for data in corpus():
        reading = relayed(data)
        if reading is not None:
            agreed(reading[1], reading[2])


def agreed(sent: bytes, asked: Asked) -> None:
    for message in (h11_request(sent + CANARY), llhttp_request(sent + CANARY, len(sent))):
        assert (message.start, message.body) == ((asked.method.encode(), asked.target.encode()), asked.body)
        assert message.consumed == len(sent)
        assert hosts(message) == list(asked.host)


def hosts(message: Message) -> list[str]:
    return [value.decode() for name, value in message.fields if name == b"host"]
