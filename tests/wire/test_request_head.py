"""Which request heads are refused, with which status and cause, and what the others mean.

The tables follow "Requests to refuse": framing, heads, targets, names, upgrades, expectations.
"""

import pytest
from hypothesis import given

from proxy.wire.refusal import Refusal
from proxy.wire.request_head import HeadLimits, RequestHead, plain, read_request_head
from tests.wire.drawn import HEADS as DRAWN
from tests.wire.heads import HOST, LIMITS, accepted, get, head, post

LENGTH = (400, "length-malformed")
BOTH = (400, "length-with-coding")
CODING = (400, "coding-malformed")
UNKNOWN_CODING = (501, "coding-unknown")
TWO_CODINGS = (400, "coding-repeated")
OLD_CODING = (400, "coding-in-http-1.0")
LINE = (400, "head-malformed")
TARGET = (400, "target-malformed")
DISAGREES = (400, "target-disagrees-with-host")
NO_HOST = (400, "host-missing")
TWO_HOSTS = (400, "host-repeated")
BAD_HOST = (400, "host-malformed")
VERSION = (505, "version-refused")
METHOD = (405, "method-refused")
UNKNOWN_METHOD = (501, "method-unknown")
EXPECTATION = (417, "expectation-unknown")

CHUNKED = b"Transfer-Encoding: chunked"

FRAMING = [
    # Content-Length with Transfer-Encoding, in any order and however either is spelt
    (post(b"Content-Length: 5", CHUNKED), BOTH),
    (post(CHUNKED, b"Content-Length: 5"), BOTH),
    (post(b"Content-Length: 0", CHUNKED), BOTH),
    (post(CHUNKED, b"X-Between: 1", b"content-length: 0"), BOTH),
    (post(b"transfer-encoding: CHUNKED", b"CONTENT-LENGTH: 1"), BOTH),
    (post(b"Transfer-Encoding: gzip", b"Content-Length: 1"), BOTH),
    (post(b"Transfer-Encoding: identity", b"Content-Length: 1"), BOTH),
    (post(b"Transfer-Encoding:", b"Content-Length: 1"), BOTH),
    (get(b"Content-Length: 0", CHUNKED), BOTH),
    (post(b"Content-Length:", CHUNKED), LENGTH),
    # codings that are unknown
    *[
        (post(b"Transfer-Encoding: " + value), UNKNOWN_CODING)
        for value in (
            *(b"gzip", b"identity", b"deflate", b"compress", b"xchunked", b"chunkedx", b"chunke", b"chunked!"),
            *(b"gzip, chunked", b"identity, chunked", b"gzip,chunked", b"gzip , deflate", b"x, y, chunked"),
        )
    ],
    # repeated, quoted, parameterised, not final, empty members, other separators, something in front or behind
    *[
        (post(b"Transfer-Encoding: " + value), CODING)
        for value in (
            *(b"", b",", b"chunked,", b",chunked", b"chunked, chunked", b"chunked,chunked", b"gzip, chunked, chunked"),
            *(b"chunked, gzip", b"chunked, identity", b"chunked, gzip, chunked", b"gzip,, chunked", b"chunked ,"),
            *(b'"chunked"', b"'chunked' x", b'chunked"', b"chunked;q=1", b"chunked; a=b", b"gzip;q=1, chunked"),
            *(b"chunked chunked", b"x chunked", b"chunked\tx", b"chunked;", b"chunked:", b"(chunked)", b"chunked/1"),
            *(b"\xc2\xa0chunked", b"chunked\x85", b"\xa0chunked\xa0", b"chun\xc4\xb7ed", b"\xef\xbb\xbfchunked"),
        )
    ],
    *[
        (post(b"Transfer-Encoding: " + value), LINE)
        for value in (
            *(b"\x0bchunked", b"\x0cchunked", b"chunked\x00", b"\x1fchunked", b"chunked\x7f", b"chunk\x08ed", b"\x01"),
            *(
                b"chunked\r",
                b"\rchunked",
                b"\nchunked",
                b"\r\n chunked",
                b"\r\n\tchunked",
                b"chunked\r\n x",
                b"x\nchunked",
            ),
        )
    ],
    # repeated lines
    (post(CHUNKED, CHUNKED), TWO_CODINGS),
    (post(b"Transfer-Encoding: gzip", CHUNKED), TWO_CODINGS),
    (post(CHUNKED, b"transfer-encoding: identity"), TWO_CODINGS),
    (post(b"Transfer-Encoding:", CHUNKED), TWO_CODINGS),
    # white space before the colon, obs-fold, around names
    *[
        (post(line), LINE)
        for line in (
            *(
                b"Content-Length : 5",
                b"Content-Length\t: 5",
                b"Transfer-Encoding : chunked",
                b"Transfer-Encoding\t:chunked",
            ),
            *(b" Content-Length: 5", b"\tTransfer-Encoding: chunked", b"X: 1\r\n Content-Length: 5", b"X: 1\r\n\t2"),
            *(
                b"X:\r\n Transfer-Encoding: chunked",
                b"Content-Length:\r\n 5",
                b"Transfer Encoding: chunked",
                b"Host : a",
            ),
            *(b"Content-Length\x00: 5", b"Content-Length\x0b: 5", b"\x00Content-Length: 5", b"Content-Length\r: 5"),
            *(b"Content-Length\xa0: 5", b"\xef\xbb\xbfContent-Length: 5", b"Content-Length;: 5", b"Content-Length"),
        )
    ],
    (head(b"POST / HTTP/1.1", b" Host: storage.example", HOST), LINE),
    (head(b"POST / HTTP/1.1", b"\tX: 1", HOST), LINE),
    # lengths that differ, that are repeated, that are lists
    (post(b"Content-Length: 5", b"Content-Length: 6"), LENGTH),
    (post(b"Content-Length: 5", b"Content-Length: 5"), LENGTH),
    (post(b"Content-Length: 5", b"content-length: 0"), LENGTH),
    (post(b"Content-Length:", b"Content-Length: 5"), LENGTH),
    (post(b"Content-Length: 5", b"X: y", b"Content-Length:"), LENGTH),
    # signs, hex, underscores, overflow, empty, other digits, something in front or behind
    *[
        (post(b"Content-Length: " + value), LENGTH)
        for value in (
            *(b"", b"  ", b"\t", b"5, 5", b"5,5", b"5,", b",5", b"5 5", b"5 6", b"5\t5", b"5;5", b"5;", b'"5"'),
            *(
                b"+5",
                b"-5",
                b"-0",
                b"+0",
                b"0x5",
                b"0X5",
                b"5h",
                b"a",
                b"0b1",
                b"0o7",
                b"1_0",
                b"5_",
                b"_5",
                b"5.0",
                b"5e0",
            ),
            *(b"1000000000000000000", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616"),
            *(b"18446744073709551621", b"4294967296000000000", b"0000000000000000005", b"9" * 4300, b"9" * 5000),
            *(b"\xb2", b"\xd9\xa5", b"\xef\xbc\x95", b"\xa05", b"5\x85", b"5\xa0", b"Infinity", b"nan", b"None"),
        )
    ],
    *[
        (post(b"Content-Length: " + value), LINE)
        for value in (b"5\x00", b"\x0b5", b"5\x0c", b"\r5", b"5\n", b"5\r", b"5\x1f")
    ],
    # Transfer-Encoding in HTTP/1.0
    (head(b"POST / HTTP/1.0", HOST, CHUNKED), OLD_CODING),
    (head(b"POST / HTTP/1.0", HOST, b"Transfer-Encoding: gzip"), OLD_CODING),
    (head(b"POST / HTTP/1.0", HOST, b"Transfer-Encoding: identity"), OLD_CODING),
    (head(b"GET / HTTP/1.0", HOST, b"Connection: keep-alive", CHUNKED), OLD_CODING),
    (head(b"POST / HTTP/1.0", HOST, CHUNKED, b"Content-Length: 5"), BOTH),
]

HEADS = [
    # bare LF, bare CR, NUL, wherever they are
    *[
        (data, LINE)
        for data in (
            b"GET / HTTP/1.1\nHost: storage.example\n\n",
            b"GET / HTTP/1.1\nHost: storage.example\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: storage.example\n\r\n",
            b"GET / HTTP/1.1\r\nHost: storage.example\nX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: storage.example\r\n\n",
            b"GET / HTTP/1.1\r\nHost: storage.example\r\r\n\r\n",
            b"GET / HTTP/1.1\rHost: storage.example\r\n\r\n",
            b"GET / HTTP/1.1\r\r\nHost: storage.example\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: storage.example\rX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\n\rHost: storage.example\r\n\r\n",
            b"GET /x\nHost: storage.example\r\nContent-Length: 5\r\n\r\n",
            get(b"X-Abc: \rxTransfer-Encoding: chunked"),
            get(b"X: a\nTransfer-Encoding: chunked"),
            get(b"X: a\rContent-Length: 5"),
            get(b"X: a\x00b"),
            get(b"X: \x00"),
            get(b"X\x00: a"),
            get(b"X: \x7f"),
            get(b"X: \x1b[2J"),
            get(b"X: a\x0bb"),
            get(b"X: a\x0cb"),
        )
    ],
    # no colon, an empty name, an illegal name
    *[
        (get(line), LINE)
        for line in (
            *(b"X", b"X y", b":", b": x", b":x", b" : x", b":Host: evil", b"GET / HTTP/1.1", b"=", b"Xy\\: 1"),
            *(
                b'"X": 1',
                b"X(: 1",
                b"X): 1",
                b"X/: 1",
                b"X[: 1",
                b"X]: 1",
                b"X{: 1",
                b"X}: 1",
                b"X@: 1",
                b"X,: 1",
                b"X;: 1",
            ),
            *(b"X<: 1", b"X>: 1", b"X=: 1", b"X?: 1", b"X\xc3\xa9: 1", b"\xff: 1", b"X\x1f: 1", b"X\x7f: 1", b"X Y: 1"),
        )
    ],
    # the line breaks off, or something is behind the head
    (b"", LINE),
    (b"\r\n", LINE),
    (b"\r\n\r\n", LINE),
    (b"GET / HTTP/1.1\r\n", LINE),
    (b"GET / HTTP/1.1\r\n\r\n\r\n", LINE),
    (b"\r\n" + get(), LINE),
    (b" " + get(), LINE),
    (get() + b"x", LINE),
    (get() + get(), LINE),
    (get()[:-1], LINE),
    (get()[:-2], LINE),
    # the request line
    *[
        (head(line, HOST), LINE)
        for line in (
            *(
                b"GET  / HTTP/1.1",
                b"GET /  HTTP/1.1",
                b"GET / HTTP/1.1 ",
                b"GET\t/ HTTP/1.1",
                b"GET /\tHTTP/1.1",
                b"GET",
            ),
            *(
                b"GET / x HTTP/1.1",
                b"GET /a b HTTP/1.1",
                b"GET /",
                b"GET / ",
                b"GET HTTP/1.1",
                b" GET / HTTP/1.1",
                b"GET ",
            ),
            *(
                b"GET / http/1.1",
                b"GET / Http/1.1",
                b"GET / HTTP/1.",
                b"GET / HTTP/.1",
                b"GET / HTTP1.1",
            ),
            *(
                b"GET / HTTP /1.1",
                b"GET / HTTP/1.1.1",
                b"GET / HTTP/1,1",
                b"GET / HTTP/1.1x",
                b"GET / XTTP/1.1",
                b"GET / 1.1",
            ),
            *(
                b"GET / HTTP/+1.1",
                b"GET / HTTP/0x1.1",
                b"GET / HTTP/-1.1",
                b"GET / HTTP/1.\xb1",
                b"G\x00T / HTTP/1.1",
                b"/",
            ),
            *(b"G\xc9T / HTTP/1.1", b"GE(T / HTTP/1.1", b"GET: / HTTP/1.1", b'"GET" / HTTP/1.1', b"GET / HTTP/1.1\x00"),
            *(b"GET /\x0bHTTP/1.1", b"GET /\xa0HTTP/1.1", b"A" * 33 + b" / HTTP/1.1"),
        )
    ],
    # versions; HTTP/0.9 has none; the preface of HTTP/2
    *[
        (head(line, HOST), VERSION)
        for line in (
            *(
                b"GET / HTTP/0.9",
                b"GET / HTTP/1.2",
                b"GET / HTTP/1.9",
                b"GET / HTTP/2.0",
                b"GET / HTTP/2",
                b"GET / HTTP/3",
                b"GET / HTTP/1",
            ),
            *(b"GET / HTTP/1.10", b"GET / HTTP/01.1", b"GET / HTTP/1.01", b"GET / HTTP/11.1", b"GET / HTTP/10.0"),
            *(b"GET / RTSP/1.0", b"SOURCE /x ICE/1.0", b"GET / HTTP/0.0", b"POST / HTTP/9.9", b"DESCRIBE / RTSP/1.0"),
        )
    ],
    (b"PRI * HTTP/2.0\r\n\r\n", VERSION),
    (b"GET /\r\n\r\n", LINE),
    (b"GET / \r\n\r\n", LINE),
]

TARGETS = [
    # hosts: none, two, lists, userinfo, paths, spaces
    (head(b"GET / HTTP/1.1"), NO_HOST),
    (head(b"GET / HTTP/1.1", b"X-Host: storage.example"), NO_HOST),
    (head(b"GET / HTTP/1.0"), NO_HOST),
    (head(b"GET http://storage.example/ HTTP/1.1"), NO_HOST),
    (get(HOST), TWO_HOSTS),
    (get(b"Host: other.example"), TWO_HOSTS),
    (get(b"host:"), TWO_HOSTS),
    (head(b"GET / HTTP/1.1", b"Host:", HOST), TWO_HOSTS),
    (head(b"GET http://storage.example/ HTTP/1.1", HOST, HOST), TWO_HOSTS),
    *[
        (head(b"GET / HTTP/1.1", b"Host: " + value), BAD_HOST)
        for value in (
            *(b"", b" ", b",", b"a.example, b.example", b"a.example,b.example", b"a.example b.example", b"a.example;x"),
            *(
                b"user@a.example",
                b"user:pw@a.example",
                b"@a.example",
                b"a.example@",
                b"a.example/",
                b"a.example/x",
                b"/x",
            ),
            *(
                b"a.example\\x",
                b"a.example?x",
                b"a.example#x",
                b"http://a.example",
                b"//a.example",
                b'"a.example"',
                b"<a>",
            ),
            *(
                b"a.example:",
                b"a.example:x",
                b"a.example:-1",
                b"a.example:+1",
                b"a.example: 80",
                b"a.example :80",
                b":80",
            ),
            *(
                b"a.example:0",
                b"a.example:65536",
                b"a.example:99999",
                b"a.example:000080",
                b"a.example:80:80",
                b"a.example:0x50",
            ),
            *(
                b"a.example:80,443",
                b"a.example:80@b.example",
                b"a.example:8_0",
                b"a.example:\xb2",
                b"a..example",
                b".example",
            ),
            *(
                b".",
                b"..",
                b"a.example..",
                b"-a.example",
                b"a-.example",
                b"a.-b.example",
                b"a%2eexample",
                b"%61.example",
            ),
            *(
                b"a.ex\xc3\xa4mple",
                b"\xe4\xbd\xa0.example",
                b"a.example\xff",
                b"a!b.example",
                b"a*b",
                b"*.example",
                b"$host",
            ),
            *(
                b"a" * 64 + b".example",
                b"a." * 127 + b"example",
                b"a'b.example",
                b"a~b",
                b"a=b",
                b"a&b",
                b"(a)",
                b"a+b",
            ),
            # addresses by other names
            *(b"2130706433", b"0177.1", b"0177.0.0.1", b"127.1", b"127.0.1", b"0x7f.1", b"0x7f000001", b"127.0.0.1."),
            *(
                b"127.0.0.01",
                b"127.0.0.256",
                b"127.0.0.1.1",
                b"1.2.3.4.",
                b"00.0.0.0",
                b"a.1",
                b"a.0x1",
                b"a.0x",
                b"0",
                b"1.",
            ),
            *(
                b"[::ffff:1.2.3.4]",
                b"[::FFFF:7f00:1]",
                b"[0:0:0:0:0:ffff:127.0.0.1]",
                b"[::1",
                b"::1",
                b"[::1]x",
                b"[]",
                b"[:]",
            ),
            *(
                b"[::1]:",
                b"[::1]:0",
                b"[::1] :80",
                b"[fe80::1%eth0]",
                b"[fe80::1%25eth0]",
                b"[fe80::1%251]",
                b"[v1.a:b]",
            ),
            *(
                b"[1.2.3.4]",
                b"[a.example]",
                b"[::1]]",
                b"[[::1]]",
                b"[::1].",
                b"[:::1]",
                b"[1:2:3:4:5:6:7:8:9]",
                b"[12345::]",
            ),
            *(b"[::1.2.3.256]", b"[::g]", b"x[::1]"),
        )
    ],
    # absolute form that disagrees with Host, or is not http
    *[
        (get(target=target), DISAGREES)
        for target in (
            *(b"http://other.example/", b"http://storage.example.evil/", b"http://storage.example:80/", b"https://x/"),
            *(
                b"http://user@storage.example/",
                b"http://user:pw@storage.example/",
                b"http://storage.example@evil/",
                b"http:///",
            ),
            *(
                b"http://",
                b"http://?x",
                b"http://storage.example:/",
                b"http://storage.example%2f/",
                b"http://storage.example\\/",
            ),
            *(
                b"http://storage.example,evil/",
                b"http://[storage.example]/",
                b"http://evil\\@storage.example/",
                b"http:////x",
            ),
        )
    ],
    (head(b"GET http://storage.example/ HTTP/1.1", b"Host: storage.example:80"), DISAGREES),
    (head(b"GET http://[::1]/ HTTP/1.1", b"Host: [::2]"), DISAGREES),
    *[
        (get(target=target), TARGET)
        for target in (
            *(
                b"*",
                b"**",
                b"*/",
                b"/*"[1:],
                b"x",
                b"x/y",
                b"storage.example",
                b"storage.example:443",
                b"?x",
                b"..",
                b".",
            ),
            *(b"ftp://storage.example/", b"ws://storage.example/", b"file:///etc/passwd", b"http:/storage.example/"),
            *(
                b"http:storage.example/",
                b"//storage.example/"[2:],
                b"httpss://storage.example/",
                b"javascript:0",
                b"\\x",
            ),
            *(
                b"http:\\\\storage.example\\",
                b"%2f",
                b"%2Fpay",
                b":80",
                b"@x",
                b"[::1]",
                b"http",
                b"://storage.example/",
            ),
        )
    ],
    (head(b"POST * HTTP/1.1", HOST), TARGET),
    (head(b"HEAD * HTTP/1.1", HOST), TARGET),
    (head(b"OPTIONS ** HTTP/1.1", HOST), TARGET),
    (head(b"OPTIONS *?x HTTP/1.1", HOST), TARGET),
    (head(b"OPTIONS storage.example HTTP/1.1", HOST), TARGET),
    # `#`, spaces, NUL, controls, what is not ASCII
    *[
        (get(target=target), LINE)
        for target in (
            *(
                b"/#",
                b"/a#b",
                b"/#/../x",
                b"/?#",
                b"/?a#b",
                b"http://storage.example/#x",
                b"http://storage.example#@evil/",
                b"#",
            ),
            *(
                b"/a b",
                b"/ ",
                b"/\x00",
                b"/a\x00b",
                b"/\t",
                b"/a\tb",
                b"/\x0b",
                b"/\x7f",
                b"/\x1f",
                b"/\xc3\xa4",
                b"/\xff",
                b"/\xa0",
            ),
            *(b"/\r", b"/a\rb", b"/\n", b"/a\nb", b"", b"/ HTTP/1.1\r\nX: y\r\n\r\nGET /"),
        )
    ],
    # encoded NUL, CR, LF in a path
    *[
        (get(target=target), TARGET)
        for target in (
            *(
                b"/%00",
                b"/a%00b",
                b"/%0a",
                b"/%0A",
                b"/%0d",
                b"/%0D",
                b"/a%0d%0aX:%20y",
                b"/x%0D%0A",
                b"/%0a?x",
                b"/a%0dx",
            ),
            *(b"http://storage.example/%0d%0a", b"/a/%2e%00/", b"/%25%00", b"//%0a"),
        )
    ],
    # methods that would open a tunnel or echo credentials, and those that nobody knows
    (head(b"CONNECT storage.example:443 HTTP/1.1", HOST), METHOD),
    (head(b"CONNECT / HTTP/1.1", HOST), METHOD),
    (head(b"CONNECT storage.example:443 HTTP/1.0", HOST), METHOD),
    (head(b"CONNECT storage.example:443 HTTP/1.1"), METHOD),
    (head(b"CONNECT storage.example:443 HTTP/1.1", b"Host: storage.example:443", b"Content-Length: 5"), METHOD),
    (head(b"TRACE / HTTP/1.1", HOST), METHOD),
    (head(b"TRACE * HTTP/1.1", HOST, b"Max-Forwards: 0"), METHOD),
    *[
        (head(method + b" / HTTP/1.1", HOST), UNKNOWN_METHOD)
        for method in (
            *(
                b"get",
                b"Get",
                b"GETX",
                b"XGET",
                b"FOO",
                b"PRI",
                b"connect",
                b"Trace",
                b"TRACK",
                b"DEBUG",
                b"A" * 32,
                b"-",
            ),
            *(
                b"DESCRIBE",
                b"SETUP",
                b"PLAY",
                b"SOURCE",
                b"GET_PARAMETER",
                b"GET'",
                b"G!T",
                b"0",
                b"M-POST",
                b"POST.",
                b"_",
            ),
        )
    ],
    # expectations
    *[
        (post(b"Content-Length: 5", b"Expect: " + value), EXPECTATION)
        for value in (
            *(
                b"",
                b"100",
                b"100-continue, x",
                b"x, 100-continue",
                b"100-continue,",
                b"100-continue;q=1",
                b"200-ok",
                b"y",
            ),
            *(
                b'"100-continue"',
                b"100-continue 100-continue",
                b"x 100-continue",
                b"100 continue",
                b"100-continu",
                b"1" * 999,
            ),
        )
    ],
    (post(b"Content-Length: 5", b"Expect: 100-continue", b"Expect: 100-continue"), EXPECTATION),
    (get(b"Expect: x"), EXPECTATION),
    (head(b"POST / HTTP/1.0", HOST, b"Expect: x"), EXPECTATION),
    # Connection is a list of names
    *[
        (get(b"Connection: " + value), LINE)
        for value in (
            b"close;",
            b"a b",
            b'"close"',
            b"close, (x)",
            b"close:",
            b"a=b",
            b"\xff",
            b"keep-alive; timeout=5",
            b"@",
        )
    ],
]

REFUSED = [*FRAMING, *HEADS, *TARGETS]


@pytest.mark.parametrize(("data", "expected"), REFUSED, ids=range(len(REFUSED)))
def test_refused(data: bytes, expected: tuple[int, str]) -> None:
    reading = read_request_head(data, LIMITS)
    assert isinstance(reading, Refusal), data[:200]
    assert (reading.status, reading.cause) == expected, data[:200]


def test_the_refused_are_not_refused_for_something_else() -> None:
    """The heads that the rows above are made of are good ones."""
    for data in (
        get(),
        post(CHUNKED),
        post(b"Content-Length: 5"),
        post(b"Content-Length: 5", b"Expect: 100-continue"),
        head(b"POST / HTTP/1.0", HOST, b"Content-Length: 5"),
        get(target=b"http://storage.example/"),
        get(b"Connection: close"),
    ):
        accepted(data)


LIMITED = [
    (get(*[b"X: y"] * 99), None),
    (get(*[b"X: y"] * 100), (431, "too-many-fields")),
    (get(*[b":" + b"y"] * 100), LINE),
    (get(*[b"X:"] * 99), None),
    (get(*[b"X:"] * 100), (431, "too-many-fields")),
    (get(*[b"X:"] * 5000), (431, "too-many-fields")),
    (get(target=b"/" + b"a" * 8191), None),
    (get(target=b"/" + b"a" * 8192), (414, "target-too-long")),
    (get(target=b"http://storage.example/" + b"a" * (8192 - 23)), None),
    (get(target=b"http://storage.example/" + b"a" * (8192 - 22)), (414, "target-too-long")),
    (get(b"X" * 30000 + b": y"), None),
    (get(b"X: " + b"y" * 65600), None),
]


@pytest.mark.parametrize(("data", "expected"), LIMITED, ids=range(len(LIMITED)))
def test_just_within_a_limit_and_just_past_it(data: bytes, expected: tuple[int, str] | None) -> None:
    reading = read_request_head(data, LIMITS)
    if expected is None:
        assert isinstance(reading, RequestHead)
    else:
        assert isinstance(reading, Refusal)
        assert (reading.status, reading.cause) == expected


def test_limits_are_the_callers() -> None:
    assert isinstance(read_request_head(get(b"X: y"), HeadLimits(fields=2, target=1)), RequestHead)
    assert read_request_head(get(b"X: y"), HeadLimits(fields=1, target=1)) == Refusal(431, "too-many-fields")
    assert read_request_head(get(target=b"/x"), HeadLimits(fields=2, target=1)) == Refusal(414, "target-too-long")


def test_no_cause_holds_text_from_the_message() -> None:
    for data, (_, cause) in REFUSED:
        reading = read_request_head(data.replace(b"storage.example", b"qqq.example"), LIMITS)
        if isinstance(reading, Refusal):
            assert "qqq" not in reading.cause
        assert cause.replace("-", "").replace(".", "").isalnum()


BODIES = [
    (get(), 0, False),
    (post(), 0, False),
    (post(b"Content-Length: 0"), 0, False),
    (post(b"Content-Length: 5"), 5, True),
    (post(b"content-LENGTH:\t 5 \t"), 5, True),
    (post(b"Content-Length:5"), 5, True),
    (post(b"Content-Length: 005"), 5, True),
    (post(b"Content-Length: 999999999999999999"), 10**18 - 1, True),
    (post(CHUNKED), None, True),
    (post(b"TRANSFER-encoding:  ChUnKeD "), None, True),
    (get(b"Content-Length: 5"), 5, True),
    (get(CHUNKED), None, True),
    (head(b"HEAD / HTTP/1.1", HOST, b"Content-Length: 5"), 5, True),
    (head(b"OPTIONS * HTTP/1.1", HOST, CHUNKED), None, True),
    (head(b"DELETE / HTTP/1.1", HOST, b"Content-Length: 7"), 7, True),
    (head(b"POST / HTTP/1.0", HOST, b"Content-Length: 5"), 5, True),
    (head(b"POST / HTTP/1.0", HOST), 0, False),
    # names that only look like framing
    (get(b"Content_Length: 5"), 0, False),
    (get(b"X-Content-Length: 5", b"Transfer_Encoding: chunked", b"TE: chunked"), 0, False),
    (get(b"Content-Lengt: 5", b"Content-Lengthh: 5", b"Content.Length: 5"), 0, False),
]


@pytest.mark.parametrize(("data", "length", "has_body"), BODIES, ids=range(len(BODIES)))
def test_where_the_body_ends(data: bytes, length: int | None, has_body: bool) -> None:
    reading = accepted(data)
    assert (reading.length, reading.has_body) == (length, has_body)


WHERE = [
    (b"storage.example", b"storage.example"),
    (b"STORAGE.Example", b"storage.example"),
    (b"storage.example.", b"storage.example"),
    (b"storage.example.:8443", b"storage.example:8443"),
    (b"storage.example:80", b"storage.example:80"),
    (b"storage.example:00080", b"storage.example:80"),
    (b"storage.example:65535", b"storage.example:65535"),
    (b" \tstorage.example\t ", b"storage.example"),
    (b"localhost", b"localhost"),
    (b"a_b.example", b"a_b.example"),
    (b"XN--BCHER-KVA.example", b"xn--bcher-kva.example"),
    (b"1a.example", b"1a.example"),
    (b"127.0.0.1", b"127.0.0.1"),
    (b"127.0.0.1:80", b"127.0.0.1:80"),
    (b"0.0.0.0", b"0.0.0.0"),
    (b"255.255.255.255", b"255.255.255.255"),
    (b"1.2.3.4.example", b"1.2.3.4.example"),
    (b"[::1]", b"[::1]"),
    (b"[0:0:0:0:0:0:0:1]:80", b"[::1]:80"),
    (b"[2001:DB8::00A]", b"[2001:db8::a]"),
    (b"[::1.2.3.4]", b"[::102:304]"),
    (b"a" * 63 + b".example", b"a" * 63 + b".example"),
]


@pytest.mark.parametrize(("host", "wire"), WHERE, ids=range(len(WHERE)))
def test_a_host_has_one_form(host: bytes, wire: bytes) -> None:
    reading = accepted(head(b"GET / HTTP/1.1", b"Host: " + host))
    assert reading.authority.wire == wire
    again = accepted(head(b"GET / HTTP/1.1", b"Host: " + wire))
    assert again.authority == reading.authority


ABSOLUTE = [
    (b"GET", b"http://storage.example/", b"/"),
    (b"GET", b"http://storage.example", b"/"),
    (b"GET", b"http://storage.example?x=http://y/", b"/?x=http://y/"),
    (b"GET", b"http://storage.example/a/../b?c", b"/a/../b?c"),
    (b"GET", b"HTTPS://STORAGE.example./x", b"/x"),
    (b"GET", b"hTTp://storage.example//x", b"//x"),
    (b"POST", b"https://storage.example/?", b"/?"),
    (b"OPTIONS", b"http://storage.example", b"*"),
    (b"OPTIONS", b"http://storage.example/", b"/"),
    (b"OPTIONS", b"http://storage.example?x", b"/?x"),
    (b"OPTIONS", b"*", b"*"),
    (b"OPTIONS", b"/", b"/"),
]


@pytest.mark.parametrize(("method", "target", "origin"), ABSOLUTE, ids=range(len(ABSOLUTE)))
def test_absolute_form_becomes_origin_form(method: bytes, target: bytes, origin: bytes) -> None:
    reading = accepted(head(b"%b %b HTTP/1.1" % (method, target), HOST))
    assert reading.target == origin
    assert reading.path == origin.partition(b"?")[0].decode()


UNTOUCHED = [
    *(
        b"/",
        b"//",
        b"///",
        b"/a//b",
        b"/./",
        b"/../x",
        b"/a/..",
        b"/%2e%2e%2f",
        b"/%2E",
        b"/%c0%af",
        b"/%zz",
        b"/%",
        b"/%0",
    ),
    *(
        b"/a;b",
        b"/..;/x",
        b"/a\\b",
        b"/%5c",
        b'/"',
        b"/<>",
        b"/`",
        b"/{|}",
        b"/^",
        b"/[x]",
        b"/'",
        b"/~",
        b"/!$&()*+,=:@",
    ),
    *(
        b"/?",
        b"/??",
        b"/?a=b&c=d",
        b"/?%0d%0a",
        b"/?%00",
        b"/?a=%0A",
        b"/?/../",
        b"/%0b?%0a",
        b"/?http://x",
        b"/x?y=%23",
    ),
    *(
        b"/*",
        b"/http://other.example/",
        b"//other.example/",
        b"/@other.example",
        b"/:80",
        b"/%09",
        b"/%7f",
        b"/%25%30%61",
    ),
]


@pytest.mark.parametrize("target", UNTOUCHED)
def test_a_target_goes_on_byte_for_byte(target: bytes) -> None:
    reading = accepted(get(target=target))
    assert reading.target == target
    assert reading.path == target.partition(b"?")[0].decode()


KEEP_ALIVE = [
    (b"HTTP/1.1", [], True),
    (b"HTTP/1.1", [b"Connection: close"], False),
    (b"HTTP/1.1", [b"Connection: keep-alive"], True),
    (b"HTTP/1.1", [b"Connection: keep-alive, close"], False),
    (b"HTTP/1.1", [b"Connection: keep-alive", b"connection: CLOSE"], False),
    (b"HTTP/1.1", [b"Connection: x,, ,close"], False),
    (b"HTTP/1.1", [b"Connection:"], True),
    (b"HTTP/1.1", [b"Connection: closed"], True),
    (b"HTTP/1.1", [b"Proxy-Connection: close"], True),
    (b"HTTP/1.0", [], False),
    (b"HTTP/1.0", [b"Connection: keep-alive"], True),
    (b"HTTP/1.0", [b"Connection: Keep-Alive", b"Keep-Alive: timeout=5, max=1000"], True),
    (b"HTTP/1.0", [b"Connection: keep-alive, close"], False),
    (b"HTTP/1.0", [b"Keep-Alive: timeout=5"], False),
]


@pytest.mark.parametrize(("version", "fields", "keep_alive"), KEEP_ALIVE, ids=range(len(KEEP_ALIVE)))
def test_whether_the_connection_stays(version: bytes, fields: list[bytes], keep_alive: bool) -> None:
    assert accepted(head(b"GET / " + version, HOST, *fields)).keep_alive is keep_alive


WEBSOCKET = (b"Connection: Upgrade", b"Upgrade: websocket")

UPGRADES = [
    (get(*WEBSOCKET), b"websocket"),
    (get(b"Connection: keep-alive, UPGRADE", b"Upgrade: WebSocket"), b"WebSocket"),
    (get(b"Upgrade: websocket", b"Connection: x", b"Connection: upgrade"), b"websocket"),
    (get(*WEBSOCKET, b"Content-Length: 0"), b"websocket"),
    (get(b"Connection: Upgrade", b"Upgrade: foo/1.2, websocket"), b"foo/1.2, websocket"),
    (get(b"Connection: Upgrade", b"Upgrade: a", b"Upgrade: b"), b"a, b"),
    (get(b"Connection: Upgrade", b"Upgrade: websocket, h2c"), b"websocket"),
    (get(b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket"), b"websocket"),
    # what is not granted, or not asked for
    (get(b"Upgrade: websocket"), None),
    (get(b"Connection: upgrade"), None),
    (get(b"Connection: Upgrade", b"Upgrade:"), None),
    (get(b"Connection: Upgrade", b"Upgrade: ,"), None),
    (get(b"Connection: Upgraded", b"Upgrade: websocket"), None),
    (get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), None),
    *[
        (get(b"Connection: Upgrade", b"Upgrade: " + value), None)
        for value in (
            *(
                b"h2c",
                b"H2C",
                b"h2",
                b"h2c/1",
                b"HTTP/2.0",
                b"http/2.0",
                b"HTTP/3",
                b"TLS/1.0",
                b"tls/1.2",
                b"h2c,h2c",
                b" h2c ,",
            ),
            *(
                b"web socket",
                b'"websocket"',
                b"websocket;x",
                b"websocket/",
                b"/13",
                b"a/b/c",
                b"\xff",
                b"websocket\xa0",
                b"h2c;",
            ),
        )
    ],
    # with content, or from HTTP/1.0: there an upgrade is not asked for (RFC 9110 section 7.8), or not told apart
    (post(*WEBSOCKET, b"Content-Length: 5"), None),
    (post(*WEBSOCKET, CHUNKED), None),
    (head(b"GET / HTTP/1.0", HOST, *WEBSOCKET), None),
]


@pytest.mark.parametrize(("data", "upgrade"), UPGRADES, ids=range(len(UPGRADES)))
def test_which_upgrade_is_asked_for(data: bytes, upgrade: bytes | None) -> None:
    assert accepted(data).upgrade == upgrade


EXPECTED = [
    (post(b"Content-Length: 5", b"Expect: 100-continue"), True),
    (post(CHUNKED, b"expect:\t100-CONTINUE "), True),
    (post(b"Content-Length: 5"), False),
    # without content, and from HTTP/1.0, it is ignored (RFC 9110 section 10.1.1)
    (post(b"Expect: 100-continue"), False),
    (post(b"Content-Length: 0", b"Expect: 100-continue"), False),
    (head(b"POST / HTTP/1.0", HOST, b"Content-Length: 5", b"Expect: 100-continue"), False),
]


@pytest.mark.parametrize(("data", "expects"), EXPECTED, ids=range(len(EXPECTED)))
def test_whether_a_continue_is_expected(data: bytes, expects: bool) -> None:
    assert accepted(data).expects_continue is expects


def test_lines_keep_names_values_and_bytes() -> None:
    reading = accepted(get(b"X-A:  b \t", b"x-a:c:d", b"X-Obs: \xff\x80", b"!#$%&'*+-.^_`|~09Az:\t\t", b"X-Tab: a\tb"))
    assert reading.lines == (
        (b"host", b"storage.example", HOST),
        (b"x-a", b"b", b"X-A:  b \t"),
        (b"x-a", b"c:d", b"x-a:c:d"),
        (b"x-obs", b"\xff\x80", b"X-Obs: \xff\x80"),
        (b"!#$%&'*+-.^_`|~09az", b"", b"!#$%&'*+-.^_`|~09Az:\t\t"),
        (b"x-tab", b"a\tb", b"X-Tab: a\tb"),
    )


def test_what_connection_lists() -> None:
    reading = accepted(get(b"Connection: Close, X-A ,\tx-b", b"connection: ,Host"))
    assert reading.connection == {b"close", b"x-a", b"x-b", b"host"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "M-SEARCH", "PROPFIND"])
@pytest.mark.parametrize("version", [0, 1])
def test_methods_and_versions(method: str, version: int) -> None:
    reading = accepted(head(b"%b / HTTP/1.%d" % (method.encode(), version), HOST))
    assert (reading.method, reading.version) == (method, version)


PLAIN = [
    (get(), True),
    (get(b"Connection: keep-alive"), True),
    (get(b"connection: Keep-Alive"), True),
    (head(b"HEAD /a?b HTTP/1.1", b"hOsT:storage.example", b"X-Content-Length: 5"), True),
    (post(), True),
    (get(b"Content-Length: 0"), False),
    (get(b"CONTENT-LENGTH:0"), False),
    (get(CHUNKED), False),
    (get(b"Connection: close"), False),
    (get(b"Connection: keep-alive, upgrade"), False),
    (get(b"Connection: keep-alive", b"Connection: close"), False),
    (get(b"Upgrade: websocket"), False),
    (get(b"Expect: 100-continue"), False),
    (get(HOST), False),
    (head(b"GET / HTTP/1.1"), False),
    (head(b"GET / HTTP/1.0", HOST), False),
    (get(target=b"http://storage.example/"), False),
    (get(target=b"/" + b"a" * LIMITS.target), False),
    (get(*[b"A: b"] * LIMITS.fields), False),
    (get(b"A: b\nContent-Length: 5"), False),
    (get(b"Content-Length : 5"), False),
    (get(b"A: b", b" Content-Length: 5"), False),
]


@pytest.mark.parametrize(("data", "told"), PLAIN, ids=range(len(PLAIN)))
def test_which_heads_need_no_reading_to_be_turned_away(data: bytes, told: bool) -> None:
    assert (plain(data, LIMITS) is not None) is told


FRAMED = {LENGTH, BOTH, CODING, UNKNOWN_CODING, TWO_CODINGS, OLD_CODING, LINE, NO_HOST, TWO_HOSTS, VERSION, EXPECTATION}


def agrees(data: bytes) -> None:
    """What is plain is read as such, or refused for what has nothing to do with where it ends."""
    like, reading = plain(data, LIMITS), read_request_head(data, LIMITS)
    if like is None:
        return
    if isinstance(reading, Refusal):
        assert (reading.status, reading.cause) not in FRAMED
        return
    hosts = [value for name, value, _ in reading.lines if name == b"host"]
    assert (reading.method.encode(), hosts) == (like[0], [like[1].strip(b" \t")])
    assert (reading.version, reading.length, reading.keep_alive) == (1, 0, True)
    assert (reading.expects_continue, reading.upgrade) == (False, None)


@given(DRAWN)
def test_what_needs_no_reading_is_read_alike(data: bytes) -> None:
    agrees(data)


@pytest.mark.parametrize("data", [each for each, _ in (*FRAMING, *HEADS, *TARGETS)])
def test_what_is_refused_for_its_framing_is_never_plain(data: bytes) -> None:
    agrees(data)
