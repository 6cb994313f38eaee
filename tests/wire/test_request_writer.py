"""What goes to a provider: the client's lines that may go on, ours, and framing of our own."""

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.request_head import RequestHead, read_request_head
from proxy.wire.request_writer import Sender, end_to_end, for_provider, kept_request_id
from tests.wire.drawn import HEADS
from tests.wire.heads import HOST, LIMITS, accepted, get, head, post
from tests.wire.sent import broken_invariants, sent

STRANGER = Sender(ip_address("192.0.2.7"), tls=True, trusted=False)
TRUSTED = Sender(ip_address("10.0.0.1"), tls=False, trusted=True)
NOTHING: frozenset[bytes] = frozenset()


def written(
    data: bytes,
    sender: Sender = STRANGER,
    withheld: frozenset[bytes] = NOTHING,
    host: bytes | None = None,
    fixed: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    reading = accepted(data)
    return for_provider(reading, end_to_end(reading, sender, withheld), host, fixed) + b"X-Request-Id: ours\r\n\r\n"


def lines(data: bytes) -> list[bytes]:
    return data[:-4].split(b"\r\n")


def ours(host: str = "storage.example", version: str = "1.1") -> list[bytes]:
    return [
        b"X-Forwarded-For: 192.0.2.7",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: " + host.encode(),
        f"Forwarded: for=192.0.2.7;host={host};proto=https".encode(),
        f"Via: {version} domicile".encode(),
    ]


def test_a_plain_request() -> None:
    data = get(b"Accept:  */*\t", b"X-Obs: \xff", b"x-two: 1", b"x-two: 2", b"X-Empty:", target=b"/a/../b?c")
    assert lines(written(data)) == [
        b"GET /a/../b?c HTTP/1.1",
        b"Host: storage.example",
        b"Accept:  */*\t",
        b"X-Obs: \xff",
        b"x-two: 1",
        b"x-two: 2",
        b"X-Empty:",
        *ours(),
        b"X-Request-Id: ours",
    ]


FRAMINGS = [
    (get(), []),
    (post(), []),
    (post(b"Content-Length: 0"), [b"Content-Length: 0"]),
    (post(b"CONTENT-length: 007"), [b"Content-Length: 7"]),
    (post(b"transfer-ENCODING: Chunked"), [b"Transfer-Encoding: chunked"]),
    (get(b"Content-Length: 5"), [b"Content-Length: 5"]),
    (get(b"Transfer-Encoding: chunked"), [b"Transfer-Encoding: chunked"]),
    (post(b"Content-Length: 5", b"Expect: 100-Continue"), [b"Expect: 100-continue", b"Content-Length: 5"]),
    (post(b"Expect: 100-continue"), []),
    (head(b"POST / HTTP/1.0", HOST, b"Content-Length: 5", b"Connection: keep-alive"), [b"Content-Length: 5"]),
    (
        get(b"Connection: keep-alive, upgrade", b"Upgrade: WebSocket, h2c"),
        [b"Connection: upgrade", b"Upgrade: WebSocket"],
    ),
    (get(b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 0"), [b"Connection: upgrade", b"Upgrade: x"]),
    (get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"), []),
    (post(b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 5"), [b"Content-Length: 5"]),
    # Connection cannot take away what is ours
    (post(b"Connection: content-length, host", b"Content-Length: 5"), [b"Content-Length: 5"]),
    (post(b"Connection: transfer-encoding, Host", b"Transfer-Encoding: chunked"), [b"Transfer-Encoding: chunked"]),
    (
        post(
            b"Connection: expect, x-forwarded-for, via, forwarded, x-request-id",
            b"Content-Length: 5",
            b"Expect: 100-continue",
        ),
        [b"Expect: 100-continue", b"Content-Length: 5"],
    ),
]


@pytest.mark.parametrize(("data", "framing"), FRAMINGS, ids=range(len(FRAMINGS)))
def test_framing_is_written_anew(data: bytes, framing: list[bytes]) -> None:
    version = "1.0" if b"HTTP/1.0" in data else "1.1"
    assert lines(written(data))[1:] == [HOST, *ours(version=version), *framing, b"X-Request-Id: ours"]


DROPPED = [
    # of this hop
    *(
        b"Connection: close",
        b"Keep-Alive: timeout=5",
        b"TE: trailers",
        b"TE: chunked",
        b"Trailer: X",
        b"Proxy-Connection: close",
    ),
    *(
        b"Proxy-Authorization: Basic eA==",
        b"Proxy-Authenticate: x",
        b"HTTP2-Settings: AAMA",
        b"Upgrade: h2c",
        b"Upgrade: websocket",
    ),
    # ours
    *(b"X-Forwarded-For: 1.2.3.4", b"x-forwarded-proto: http", b"X-FORWARDED-HOST: evil", b"X-Forwarded-Port: 1"),
    *(
        b"X-Forwarded-Server: x",
        b"X-Forwarded-Prefix: /x",
        b"X-Forwarded-Uri: /x",
        b"X-Forwarded-Anything: x",
        b"X-Forwarded-: x",
    ),
    *(
        b"Forwarded: for=1.2.3.4",
        b"Via: 1.0 evil",
        b"X-Real-IP: 1.2.3.4",
        b"X-Request-Id: theirs",
        b"Proxy: http://evil",
    ),
    *(b"True-Client-IP: 1.2.3.4", b"CF-Connecting-IP: 1.2.3.4", b"X-Client-IP: 1.2.3.4", b"Client-IP: 1.2.3.4"),
    *(b"X-Cluster-Client-IP: 1.2.3.4", b"Fastly-Client-IP: 1.2.3.4", b"X-Original-URL: /pay", b"X-Rewrite-URL: /pay"),
    # twins
    *(
        b"X_Forwarded_For: 1.2.3.4",
        b"X-Forwarded_For: 1.2.3.4",
        b"x_forwarded-for: 1.2.3.4",
        b"X.Forwarded.For: 1.2.3.4",
    ),
    *(
        b"X~Forwarded|For: 1.2.3.4",
        b"X_Forwarded_Proto: http",
        b"X_Forwarded_X: y",
        b"X_Real_IP: 1.2.3.4",
        b"X_Request_Id: y",
    ),
    *(
        b"Content_Length: 5",
        b"Content.Length: 5",
        b"Transfer_Encoding: chunked",
        b"Transfer!Encoding: chunked",
        b"Keep_Alive: x",
    ),
    *(
        b"Proxy_Connection: x",
        b"Proxy_Authorization: x",
        b"HTTP2_Settings: x",
        b"True_Client_IP: 1.2.3.4",
        b"X_Original_URL: /",
        b"Client-Cert: :AAAA:",
        b"client_cert: :AAAA:",
        b"Client-Cert-Chain: :AAAA:",
        b"SSL-Client-Cert: x",
        b"X-Client-Cert: x",
        b"X_SSL_Client_Cert: x",
    ),
]


@pytest.mark.parametrize("line", DROPPED)
def test_a_strangers_word_is_dropped(line: bytes) -> None:
    assert lines(written(get(b"A: b", line, b"C: d")))[1:] == [HOST, b"A: b", b"C: d", *ours(), b"X-Request-Id: ours"]


PASSED = [
    *(
        b"X-Forwarded: x",
        b"X-Forwardedx-For: y",
        b"Forwarded-For: x",
        b"XX-Forwarded-For: y",
        b"X-Forwarde-d: x",
        b"Vi-a: x",
    ),
    *(
        b"Authorization: Bearer x",
        b"Cookie: a=b",
        b"X_Custom: y",
        b"X.Custom: y",
        b"traceparent: 00-x",
        b"Early-Data: 1",
        b"Range: x",
    ),
    *(
        b"Sec-WebSocket-Key: x",
        b"Content-Encoding: gzip",
        b"Content-MD5: x",
        b"If-None-Match: x",
        b"X-Host: y",
        b"Proxy-X: y",
    ),
]


@pytest.mark.parametrize("line", PASSED)
def test_what_is_the_clients_own_goes_on(line: bytes) -> None:
    assert line in lines(written(get(line)))


def test_what_connection_lists_is_dropped() -> None:
    data = get(b"Connection: X-Hop, cookie", b"x-hop: 1", b"Cookie: a", b"X-HOP: 2", b"X_Hop: 3", b"X-Hop-2: 4")
    assert lines(written(data))[2:4] == [b"X_Hop: 3", b"X-Hop-2: 4"]


FIELDS = {
    "for": [b"X-Forwarded-For: 1.2.3.4", b"x-forwarded-for: 5.6.7.8, 9.9.9.9"],
    "forwarded": [b"Forwarded: for=1.2.3.4;proto=https", b'Forwarded: for="[2001:db8::1]"'],
    "via": [b"Via: 1.1 a", b"Via: 2 b"],
}


def test_a_trusted_proxys_chains_are_continued() -> None:
    data = get(
        *FIELDS["for"],
        *FIELDS["forwarded"],
        *FIELDS["via"],
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: a.example",
    )
    assert lines(written(data, TRUSTED))[2:-1] == [
        b"X-Forwarded-For: 1.2.3.4, 5.6.7.8, 9.9.9.9, 10.0.0.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: a.example",
        b'Forwarded: for=1.2.3.4;proto=https, for="[2001:db8::1]", for=10.0.0.1;host=storage.example;proto=http',
        b"Via: 1.1 a, 2 b, 1.1 domicile",
    ]


def test_connection_does_not_break_a_chain() -> None:
    with_connection = get(
        b"Connection: x-forwarded-for, forwarded, via", *FIELDS["for"], *FIELDS["forwarded"], *FIELDS["via"]
    )
    without = get(*FIELDS["for"], *FIELDS["forwarded"], *FIELDS["via"])
    assert written(with_connection, TRUSTED) == written(without, TRUSTED)


@pytest.mark.parametrize("value", [b'for="1.2.3.4', b'"', b'for="\\"', b'for=a, by="', b'"a"b"', b"", b" "])
def test_a_chain_that_would_swallow_our_element_is_not_continued(value: bytes) -> None:
    written_head = sent(written(get(b"Forwarded: " + value), TRUSTED))
    assert written_head.values("forwarded") == ["for=10.0.0.1;host=storage.example;proto=http"]


@pytest.mark.parametrize(
    ("fields", "proto", "host"),
    [
        ([b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http"], "http", "storage.example"),
        ([b"X-Forwarded-Proto: https", b"x-forwarded-proto: https"], "https", "storage.example"),
        ([b"X-Forwarded-Host: a", b"X-Forwarded-Host: b"], "http", "storage.example"),
        ([b"X_Forwarded_Proto: https"], "http", "storage.example"),
        ([b"X-Forwarded-Proto: HTTPS", b"X-Forwarded-Host: A.Example.:080"], "https", "a.example:80"),
        ([b"X-Forwarded-Proto:", b"X-Forwarded-Host:"], "http", "storage.example"),
        ([b"X-Forwarded-Proto: https, http", b"X-Forwarded-Host: a, b"], "http", "storage.example"),
        ([b"X-Forwarded-Proto: ftp", b"X-Forwarded-Host: a/b"], "http", "storage.example"),
        ([b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: x"], "http", "storage.example"),
        ([], "http", "storage.example"),
    ],
)
def test_a_trusted_proxys_word_counts_if_it_is_one_that_can_be_read(fields: list[bytes], proto: str, host: str) -> None:
    written_head = sent(written(get(*fields), TRUSTED))
    assert written_head.values("x-forwarded-proto") == [proto]
    assert written_head.values("x-forwarded-host") == [host]


@pytest.mark.parametrize(
    "line", [b"X-Real-IP: 1.2.3.4", b"X-Forwarded-Port: 443", b"True-Client-IP: 1.2.3.4", b"X-Original-URL: /a"]
)
def test_a_trusted_proxys_other_words_go_on(line: bytes) -> None:
    assert line in lines(written(get(line), TRUSTED))


@pytest.mark.parametrize(
    "line",
    [b"X_Forwarded_For: 1.2.3.4", b"Proxy: x", b"X-Request-Id: x", b"X_Real_IP: 1.2.3.4", b"Proxy-Authorization: x"],
)
def test_of_a_trusted_proxy_too_some_words_never_go_on(line: bytes) -> None:
    assert line not in lines(written(get(line), TRUSTED))


@pytest.mark.parametrize(
    ("peer", "tls", "host", "forwarded_for", "forwarded"),
    [
        (None, False, b"a.example", "unknown", "for=unknown;host=a.example;proto=http"),
        ("192.0.2.1", True, b"a.example:8443", "192.0.2.1", 'for=192.0.2.1;host="a.example:8443";proto=https'),
        ("2001:db8::1", True, b"a.example", "2001:db8::1", 'for="[2001:db8::1]";host=a.example;proto=https'),
        ("192.0.2.1", False, b"[::1]:80", "192.0.2.1", 'for=192.0.2.1;host="[::1]:80";proto=http'),
        ("192.0.2.1", False, b"[::1]", "192.0.2.1", 'for=192.0.2.1;host="[::1]";proto=http'),
    ],
)
def test_our_own_words(peer: str | None, tls: bool, host: bytes, forwarded_for: str, forwarded: str) -> None:
    sender = Sender(None if peer is None else ip_address(peer), tls, trusted=False)
    written_head = sent(written(head(b"GET / HTTP/1.1", b"Host: " + host), sender))
    assert written_head.values("x-forwarded-for") == [forwarded_for]
    assert written_head.values("forwarded") == [forwarded]
    assert written_head.values("host") == written_head.values("x-forwarded-host") == [host.decode()]


def test_host_and_target_go_out_in_one_form() -> None:
    data = head(b"GET HTTP://Storage.Example.:80?x HTTP/1.1", b"Host: STORAGE.example.:080")
    assert lines(written(data))[:2] == [b"GET /?x HTTP/1.1", b"Host: storage.example:80"]


def test_a_providers_own_host() -> None:
    written_head = sent(written(get(), host=b"s.ct.example:8443"))
    assert written_head.values("host") == ["s.ct.example:8443"]
    assert written_head.values("x-forwarded-host") == ["storage.example"]


def test_fixed_fields_replace_the_clients_and_their_twins() -> None:
    data = get(
        b"X-Api-Key: theirs", b"x_api_key: theirs", b"X.Api.Key: theirs", b"X-Api-Keys: kept", b"Connection: x-api-key"
    )
    out = lines(written(data, fixed=((b"X-Api-Key", b"secret"), (b"authorization", b"Bearer s"))))
    assert [line for line in out if b"pi" in line and b"Fo" not in line] == [b"X-Api-Keys: kept", b"X-Api-Key: secret"]
    assert b"authorization: Bearer s" in out


@pytest.mark.parametrize("line", [b"X-Account: a", b"x-account: a", b"X_Account: a", b"X.Account: a"])
def test_a_consumed_credential_is_withheld_in_every_spelling(line: bytes) -> None:
    assert line in lines(written(get(line)))
    assert line not in lines(written(get(line), withheld=frozenset({b"x-account"})))
    assert line not in lines(written(get(line), withheld=frozenset({b"x_account"})))


@pytest.mark.parametrize(
    ("fields", "sender", "kept"),
    [
        ([b"X-Request-Id: abc-1"], TRUSTED, b"abc-1"),
        ([b"X-Request-Id: " + b"a" * 128], TRUSTED, b"a" * 128),
        ([b"X-Request-Id: " + b"a" * 129], TRUSTED, None),
        ([b"X-Request-Id: a", b"X-Request-Id: a"], TRUSTED, None),
        ([b"X-Request-Id:"], TRUSTED, None),
        ([b"X-Request-Id: \xff"], TRUSTED, None),
        ([b"X-Request-Id: a\tb"], TRUSTED, None),
        ([b"X_Request_Id: a"], TRUSTED, None),
        ([], TRUSTED, None),
        ([b"X-Request-Id: abc"], STRANGER, None),
    ],
)
def test_a_request_id_is_kept_from_trusted_proxies(fields: list[bytes], sender: Sender, kept: bytes | None) -> None:
    assert kept_request_id(accepted(get(*fields)), sender) == kept


SENDERS = st.builds(
    Sender, st.sampled_from([None, ip_address("192.0.2.1"), ip_address("2001:db8::1")]), st.booleans(), st.booleans()
)
FIXED = st.lists(
    st.tuples(st.sampled_from([b"X-Api-Key", b"Authorization", b"x_a", b"Cookie"]), st.just(b"fixed")),
    max_size=3,
    unique_by=lambda field: field[0],
).map(tuple)
WITHHELD = st.frozensets(st.sampled_from([b"authorization", b"x-account", b"cookie"]))


@settings(deadline=None)
@given(HEADS, SENDERS, FIXED, WITHHELD, st.sampled_from([None, b"own.example"]))
def test_invariants_of_every_head_that_is_sent(
    data: bytes,
    sender: Sender,
    fixed: tuple[tuple[bytes, bytes], ...],
    withheld: frozenset[bytes],
    host: bytes | None,
) -> None:
    reading = read_request_head(data, LIMITS)
    if not isinstance(reading, RequestHead):
        return
    out = for_provider(reading, end_to_end(reading, sender, withheld), host, fixed) + b"X-Request-Id: ours\r\n\r\n"
    written_head = sent(out)
    given_names = {name.decode().lower() for name, _ in fixed}
    listed = frozenset(name.decode("latin-1") for name in reading.connection) - given_names
    assert broken_invariants(written_head, listed, frozenset(name.decode() for name in withheld) - given_names) == []
    assert (written_head.method, written_head.target) == (reading.method, reading.target.decode())
    assert written_head.values("host") == [(host or reading.authority.wire).decode()]
    if reading.length is None:
        assert written_head.values("transfer-encoding") == ["chunked"]
    elif reading.length:
        assert written_head.values("content-length") == [str(reading.length)]
    for name, value in fixed:
        assert written_head.values(name.decode().lower()) == [value.decode()]
    if not sender.trusted:
        peer = "unknown" if sender.peer is None else str(sender.peer)
        assert written_head.values("x-forwarded-for") == [peer]
        assert written_head.values("via") == ["1.1 domicile" if reading.version else "1.0 domicile"]


def test_the_checker_sees_what_is_broken() -> None:
    ours_once = [b"X-Forwarded-For: a", b"X-Forwarded-Proto: a", b"X-Forwarded-Host: a", b"Forwarded: a", b"Via: a"]
    good = head(b"GET / HTTP/1.1", b"Host: a", *ours_once, b"X-Request-Id: a")
    listed, withheld = frozenset({"x-hop"}), frozenset({"authorization"})
    assert broken_invariants(sent(good), listed, withheld) == []
    for line in (
        *(
            b"Content-Length: 1\r\nTransfer-Encoding: chunked",
            b"Content-Length: 01",
            b"Content-Length: 1\r\nContent-Length: 1",
        ),
        *(
            b"Transfer-Encoding: gzip",
            b"Connection: close",
            b"Upgrade: x",
            b"Keep-Alive: 1",
            b"TE: x",
            b"Host: b",
            b"Via: b",
        ),
        *(b"X_Forwarded_For: b", b"Content_Length: 1", b"X-Hop: 1", b"Authorization: x", b"Expect: x"),
    ):
        assert broken_invariants(sent(good[:-2] + line + b"\r\n\r\n"), listed, withheld) != [], line
    for bad in (
        good.replace(b"\r\n", b"\n"),
        good[:-2] + b"X: \x00\r\n\r\n",
        good[:-2] + b"X : y\r\n\r\n",
        good + good,
    ):
        with pytest.raises(AssertionError):
            sent(bad)


@pytest.mark.parametrize(
    ("chain", "told"),
    [
        ("192.0.2.1", "for=192.0.2.1, "),
        ("192.0.2.1:4711, 192.0.2.2", "for=192.0.2.1, for=192.0.2.2, "),
        ("2001:db8::1, [2001:db8::2]:80", 'for="[2001:db8::1]", for="[2001:db8::2]", '),
        ("unknown, 192.0.2.1", "for=unknown, for=192.0.2.1, "),
        ("", ""),
    ],
)
def test_a_chain_that_a_trusted_proxy_told_one_way_is_told_both_ways(chain: str, told: str) -> None:
    reading = accepted(f"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: {chain}\r\n\r\n".encode())
    lines = end_to_end(reading, TRUSTED, NOTHING).decode()
    assert f"\r\nForwarded: {told}for=10.0.0.1;host=a.example;proto=http\r\n" in lines
    lines = end_to_end(reading, STRANGER, NOTHING).decode()
    assert "\r\nForwarded: for=192.0.2.7;host=a.example;proto=https\r\n" in lines
