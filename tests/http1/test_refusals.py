"""What must be refused: the answer, the close, one record, one metric, and no whole request at any provider.

Every case is sent in one piece with another request right behind it, and cut after its head; some byte by byte.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from zlib import crc32

import pytest
import pytest_asyncio

from tests.http1.recording import KeptLog, Recorder, entrance, keep_log, requests_counted, turns
from tests.http1.staging import MAINLAND, PATIENCE, Client, Stage, request, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = b"Host: storage.example\r\n"
HOME = f"X-Forwarded-For: {MAINLAND}\r\n".encode()
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + HOME + b"\r\n"

# (name, expected status, bytes). A case is a whole message unless it can never become one.
Case = tuple[str, int, bytes]


def framed(fields: bytes, body: bytes = b"", *, method: bytes = b"POST", version: bytes = b"1.1") -> bytes:
    return b"%b /f HTTP/%b\r\n%b%b%b\r\n\r\n%b" % (method, version, HOST, HOME, fields, body)


def lined(line: bytes) -> bytes:
    """A request with this request line."""
    return line + b"\r\n" + HOST + HOME + b"\r\n"


def aimed(target: bytes, method: bytes = b"GET") -> bytes:
    return lined(method + b" " + target + b" HTTP/1.1")


def hosted(host: bytes) -> bytes:
    return b"GET /h HTTP/1.1\r\nHost: " + host + b"\r\n" + HOME + b"\r\n"


def chunked(body: bytes) -> bytes:
    return framed(b"Transfer-Encoding: chunked", body)


LAST = b"0\r\n\r\n"
HELLO = b"5\r\nhello\r\n" + LAST


def named(status: int, cases: dict[str, bytes]) -> list[Case]:
    return [(name, status, data) for name, data in cases.items()]


LENGTHS_AND_CODINGS: list[Case] = [
    *named(
        400,
        {
            "length then coding": framed(b"Content-Length: 5\r\nTransfer-Encoding: chunked", HELLO),
            "coding then length": framed(b"Transfer-Encoding: chunked\r\nContent-Length: 5", HELLO),
            "length that fits the chunks": framed(b"Content-Length: 15\r\nTransfer-Encoding: chunked", HELLO),
            "length 0 with coding": framed(b"Content-Length: 0\r\nTransfer-Encoding: chunked", HELLO),
            "coding in odd case with length": framed(b"tRANSFER-eNCODING: CHUNKED\r\ncONTENT-lENGTH: 5", HELLO),
            "length between two codings": framed(
                b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", HELLO
            ),
            "length with an unknown coding": framed(b"Content-Length: 5\r\nTransfer-Encoding: gzip", b"hello"),
            "length with identity": framed(b"Content-Length: 5\r\nTransfer-Encoding: identity", b"hello"),
            "length with an empty coding": framed(b"Content-Length: 5\r\nTransfer-Encoding:", b"hello"),
            "GET with length and coding": framed(
                b"Content-Length: 5\r\nTransfer-Encoding: chunked", HELLO, method=b"GET"
            ),
            "coding twice": framed(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", HELLO),
            "two codings in two lines": framed(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", HELLO),
            "coding and identity in two lines": framed(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
            "chunked, chunked": framed(b"Transfer-Encoding: chunked, chunked", HELLO),
            "chunked, gzip": framed(b"Transfer-Encoding: chunked, gzip", HELLO),
            "chunked, identity": framed(b"Transfer-Encoding: chunked, identity", HELLO),
            "quoted": framed(b'Transfer-Encoding: "chunked"', HELLO),
            "single quoted name goes on as a token, and is unknown with a space": framed(
                b"Transfer-Encoding: 'chunked '", HELLO
            ),
            "parameter": framed(b"Transfer-Encoding: chunked;q=1", HELLO),
            "parameter of nothing": framed(b"Transfer-Encoding: chunked;", HELLO),
            "empty coding": framed(b"Transfer-Encoding:", HELLO),
            "blank coding": framed(b"Transfer-Encoding: \t ", HELLO),
            "comma first": framed(b"Transfer-Encoding: , chunked", HELLO),
            "comma last": framed(b"Transfer-Encoding: chunked,", HELLO),
            "two words": framed(b"Transfer-Encoding: chunked gzip", HELLO),
            "word cut by a space": framed(b"Transfer-Encoding: chun ked", HELLO),
            "word cut by a tab": framed(b"Transfer-Encoding: chun\tked", HELLO),
            "no-break space": framed(b"Transfer-Encoding: chunked\xa0", HELLO),
            "UTF-8 before it": framed(b"Transfer-Encoding: \xef\xbb\xbfchunked", HELLO),
            "colon twice": framed(b"Transfer-Encoding:: chunked", HELLO),
            "space before the colon": framed(b"Transfer-Encoding : chunked", HELLO),
            "tab before the colon": framed(b"Transfer-Encoding\t: chunked", HELLO),
            "space before the coding's name": framed(b" Transfer-Encoding: chunked", HELLO),
            "folded coding": framed(b"Transfer-Encoding:\r\n chunked", HELLO),
            "folded coding with a tab": framed(b"Transfer-Encoding:\r\n\tchunked", HELLO),
            "coding behind a bare CR": framed(b"X: y\rTransfer-Encoding: chunked", HELLO),
            "coding behind a bare LF": framed(b"X: y\nTransfer-Encoding: chunked", HELLO),
            "coding behind CR CR LF": framed(b"X: y\r\r\nTransfer-Encoding: chunked", HELLO),
            "coding behind a NUL": framed(b"X: y\0Transfer-Encoding: chunked", HELLO),
            "lengths that differ": framed(b"Content-Length: 5\r\nContent-Length: 6", b"hello!"),
            "lengths that agree": framed(b"Content-Length: 5\r\nContent-Length: 5", b"hello"),
            "length and an empty one": framed(b"Content-Length: 5\r\nContent-Length:", b"hello"),
            "list that agrees": framed(b"Content-Length: 5, 5", b"hello"),
            "list that differs": framed(b"Content-Length: 5, 6", b"hello"),
            "list without spaces": framed(b"Content-Length: 5,5", b"hello"),
            "list with an empty member": framed(b"Content-Length: 5,", b"hello"),
            "space before a length's colon": framed(b"Content-Length : 5", b"hello"),
            "space before a length's name": framed(b" Content-Length: 5", b"hello"),
            "folded length": framed(b"Content-Length: 1\r\n 0", b"hello"),
        },
    ),
    *[
        (f"length {text!r}", 400, framed(b"Content-Length: " + text, b"hello"))
        for text in (
            *(b"", b" ", b"+5", b"-5", b"-0", b"0x5", b"5h", b"0b1", b"0o5", b"5_0", b"5.0", b"5e0", b"5 5", b"5\t5"),
            *(b'"5"', b"'5'", b"5;", b"five", b"\xd9\xa5", b"\xef\xbc\x95", b"5\xa0", b"Infinity", b"5/5", b"(5)"),
            *(b"18446744073709551616", b"18446744073709551621", b"9223372036854775808", b"9" * 40, b"0" * 400 + b"5"),
        )
    ],
    *[
        (f"coding {text!r}", 501, framed(b"Transfer-Encoding: " + text, HELLO))
        for text in (
            *(b"gzip", b"identity", b"gzip, chunked", b"identity, chunked", b"xchunked", b"chunkedx", b"cow", b"br"),
            *(b"chunk", b"'chunked'", b"deflate, gzip", b"compress", b"chunked-gzip", b"chunked.", b"GZIP,CHUNKED"),
        )
    ],
    *[
        (f"{where} control {byte:#04x}", 400, framed(b"Transfer-Encoding: " + (text % bytes([byte])), HELLO))
        for where, text in (("leading", b"%bchunked"), ("inner", b"chu%bnked"), ("trailing", b"chunked%b"))
        for byte in (0x00, 0x01, 0x08, 0x0B, 0x0C, 0x0E, 0x1B, 0x1F, 0x7F)
    ],
    *[
        (f"control {byte:#04x} at a length", 400, framed(b"Content-Length: 5" + bytes([byte]), b"hello"))
        for byte in (0x00, 0x0B, 0x0C, 0x7F)
    ],
    *[
        (f"control {byte:#04x} in the coding's name", 400, framed(b"Transfer-Encoding%c: chunked" % byte, HELLO))
        for byte in (0x00, 0x0B, 0x0C, 0x0D, 0x0A, 0x7F, 0xA0)
    ],
    *named(
        400,
        {
            "HTTP/1.0 with chunks": framed(b"Transfer-Encoding: chunked", HELLO, version=b"1.0"),
            "HTTP/1.0 with chunks and keep-alive": framed(
                b"Connection: keep-alive\r\nTransfer-Encoding: chunked", HELLO, version=b"1.0"
            ),
            "HTTP/1.0 with chunks and length": framed(
                b"Content-Length: 5\r\nTransfer-Encoding: chunked", HELLO, version=b"1.0"
            ),
            "HTTP/1.0 with an unknown coding": framed(b"Transfer-Encoding: gzip", HELLO, version=b"1.0"),
            "HTTP/1.0 with identity": framed(b"Transfer-Encoding: identity", b"", version=b"1.0"),
        },
    ),
]

CHUNKS: list[Case] = named(
    400,
    {
        "bare LF behind a size": chunked(b"5\nhello\r\n" + LAST),
        "bare LF behind data": chunked(b"5\r\nhello\n" + LAST),
        "bare CR behind data": chunked(b"5\r\nhello\r" + LAST),
        "nothing behind data": chunked(b"5\r\nhello" + LAST),
        "bare LF behind the last size": chunked(b"5\r\nhello\r\n0\n\r\n"),
        "bare LF at the end": chunked(b"5\r\nhello\r\n0\r\n\n"),
        "only LF": chunked(b"5\nhello\n0\n\n"),
        "bare CR behind a size": chunked(b"5\rhello\r\n" + LAST),
        "CR CR LF behind a size": chunked(b"5\r\r\nhello\r\n" + LAST),
        "bare LF in an extension": chunked(b"5;a\nb\r\nhello\r\n" + LAST),
        "bare LF in a quoted extension": chunked(b'5;a="b\nc"\r\nhello\r\n' + LAST),
        "bare LF ends an extension": chunked(b"5;a=b\nhello\r\n" + LAST),
        "CR in an extension": chunked(b"5;a\rb\r\nhello\r\n" + LAST),
        "CR in a quoted extension": chunked(b'5;a="b\rc"\r\nhello\r\n' + LAST),
        "CR LF in a quoted extension": chunked(b'5;a="b\r\nc"\r\nhello\r\n' + LAST),
        "NUL in an extension": chunked(b"5;a\0b\r\nhello\r\n" + LAST),
        "NUL in a quoted extension": chunked(b'5;a="\0"\r\nhello\r\n' + LAST),
        "DEL in an extension": chunked(b"5;a\x7fb\r\nhello\r\n" + LAST),
        "extension without a name": chunked(b"5;\r\nhello\r\n" + LAST),
        "extension with an open quote": chunked(b'5;a="b\r\nhello\r\n' + LAST),
        "extension behind a space": chunked(b"5 ;a\r\nhello\r\n" + LAST),
        "extension without a semicolon": chunked(b"5 a\r\nhello\r\n" + LAST),
        "comma in place of a semicolon": chunked(b"5,a\r\nhello\r\n" + LAST),
        "0x": chunked(b"0x5\r\nhello\r\n" + LAST),
        "0X for nothing": chunked(b"5\r\nhello\r\n0x0\r\n\r\n"),
        "hex suffix": chunked(b"5h\r\nhello\r\n" + LAST),
        "plus": chunked(b"+5\r\nhello\r\n" + LAST),
        "minus": chunked(b"-5\r\nhello\r\n" + LAST),
        "minus nothing": chunked(b"-0\r\n\r\n"),
        "space before a size": chunked(b" 5\r\nhello\r\n" + LAST),
        "tab before a size": chunked(b"\t5\r\nhello\r\n" + LAST),
        "space behind a size": chunked(b"5 \r\nhello\r\n" + LAST),
        "tab behind a size": chunked(b"5\t\r\nhello\r\n" + LAST),
        "empty size": chunked(b"\r\nhello\r\n" + LAST),
        "only an extension": chunked(b";a\r\nhello\r\n" + LAST),
        "not hex": chunked(b"g\r\nhello\r\n" + LAST),
        "underscore": chunked(b"0_5\r\nhello\r\n" + LAST),
        "decimal point": chunked(b"5.0\r\nhello\r\n" + LAST),
        "quoted size": chunked(b'"5"\r\nhello\r\n' + LAST),
        "wide digit": chunked(b"\xef\xbc\x95\r\nhello\r\n" + LAST),
        "NUL as size": chunked(b"\0\r\nhello\r\n" + LAST),
        "size of 64 bits": chunked(b"FFFFFFFFFFFFFFFF\r\nhello\r\n" + LAST),
        "size of 65 bits that wraps to 5": chunked(b"10000000000000005\r\nhello\r\n" + LAST),
        "size of 33 hex digits": chunked(b"1" + b"0" * 31 + b"5\r\nhello\r\n" + LAST),
        "endless zeros": chunked(b"0" * 2000 + b"5\r\nhello\r\n" + LAST),
        "data longer than its size": chunked(b"3\r\nhello\r\n" + LAST),
        "data longer than its size by a line": chunked(b"5\r\nhello\r\n\r\n" + LAST),
        "data shorter than its size": chunked(b"7\r\nhello\r\n" + LAST),
        "extension too large": chunked(b"5;a=" + b"x" * 2000 + b"\r\nhello\r\n" + LAST),
        "extensions too large together": chunked((b"1;" + b"x" * 1000 + b"\r\ny\r\n") * 20 + LAST),
        "second chunk broken": chunked(b"5\r\nhello\r\n5\r\nhello\r\nzz\r\n\r\n"),
        "request line in place of a chunk": chunked(SMUGGLED),
        "trailer without a colon": chunked(b"5\r\nhello\r\n0\r\nbad\r\n\r\n"),
        "trailer without a name": chunked(b"5\r\nhello\r\n0\r\n: x\r\n\r\n"),
        "trailer folded": chunked(b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"),
        "trailer with space before the colon": chunked(b"5\r\nhello\r\n0\r\nX : y\r\n\r\n"),
        "trailer with bare LF": chunked(b"5\r\nhello\r\n0\r\nX: y\n\r\n"),
        "trailer with bare CR": chunked(b"5\r\nhello\r\n0\r\nX: y\rZ: a\r\n\r\n"),
        "trailer with NUL": chunked(b"5\r\nhello\r\n0\r\nX: \0\r\n\r\n"),
        "trailers ended by LF": chunked(b"5\r\nhello\r\n0\r\nX: y\r\n\n"),
        "trailers too large": chunked(b"5\r\nhello\r\n0\r\nX: " + b"y" * 9000 + b"\r\n\r\n"),
        "trailers too many": chunked(b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 2000 + b"\r\n"),
        **{
            f"trailer {name.decode()}": chunked(b"5\r\nhello\r\n0\r\n" + name + b": 5\r\n\r\n")
            for name in (
                *(b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection", b"Upgrade", b"Trailer", b"TE"),
                *(b"Authorization", b"Cookie", b"Proxy-Authorization", b"Expect", b"Forwarded", b"content-length"),
            )
        },
    },
)

HEADS: list[Case] = [
    *named(
        400,
        {
            "bare LF throughout": SMUGGLED.replace(b"\r\n", b"\n"),
            "bare LF behind the request line": b"GET /f HTTP/1.1\n" + HOST + HOME + b"\r\n",
            "bare LF behind a field": framed(b"X: y\nZ: a", method=b"GET"),
            "bare LF in place of the empty line": SMUGGLED[:-2] + b"\n" + SMUGGLED,
            "bare CR throughout": SMUGGLED.replace(b"\r\n", b"\r") + b"\r\n\r\n",
            "bare CR in a value": framed(b"X: a\rb", method=b"GET"),
            "bare CR before a name": framed(b"\rX: a", method=b"GET"),
            "bare CR at a value's end": framed(b"X: a\r", method=b"GET"),
            "NUL in a value": framed(b"X: a\0b", method=b"GET"),
            "NUL in a name": framed(b"X\0: a", method=b"GET"),
            "NUL alone": framed(b"\0", method=b"GET"),
            "no colon": framed(b"nocolon", method=b"GET"),
            "no colon, two words": framed(b"no colon", method=b"GET"),
            "empty name": framed(b": x", method=b"GET"),
            "empty name and value": framed(b":", method=b"GET"),
            "folded": framed(b"X: a\r\n b", method=b"GET"),
            "folded by a tab": framed(b"X: a\r\n\tb", method=b"GET"),
            "folded to nothing": framed(b"X: a\r\n \r\nY: b", method=b"GET"),
            "first field folded": b"GET /f HTTP/1.1\r\n X: y\r\n" + HOST + HOME + b"\r\n",
            "space before the first name": b"GET /f HTTP/1.1\r\n Host: evil\r\n" + HOST + HOME + b"\r\n",
            "two empty lines before the request": b"\r\n\r\n" + SMUGGLED,
            "LF before the request": b"\n" + SMUGGLED,
            "space before the request": b" " + SMUGGLED,
            "CR before the request": b"\r" + SMUGGLED,
            "byte order mark": b"\xef\xbb\xbf" + SMUGGLED,
            "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
            "a PROXY header": b"PROXY TCP4 1.2.4.8 192.0.2.1 1 2\r\n" + SMUGGLED,
            "a PROXY header in binary": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + SMUGGLED,
            "a chunk in place of a request": HELLO + SMUGGLED,
            "Connection that is no list": framed(b'Connection: "close"', method=b"GET"),
            "Connection with a semicolon": framed(b"Connection: close; x", method=b"GET"),
        },
    ),
    *[
        (f"name with {bytes([byte])!r}", 400, framed(b"X%cY: a" % byte, method=b"GET"))
        for byte in (*b'"(),/;<=>?@[\\]{} \t', 0x00, 0x01, 0x0B, 0x0D, 0x0A, 0x7F, 0x80, 0xA0, 0xFF)
    ],
    *[
        (f"value with {byte:#04x}", 400, framed(b"X: a%cb" % byte, method=b"GET"))
        for byte in (*range(0x09), 0x0A, 0x0B, 0x0C, 0x0D, *range(0x0E, 0x20), 0x7F)
    ],
    ("too many fields", 431, framed(b"\r\n".join(b"X-%d: y" % i for i in range(99)), method=b"GET")),
    ("too many fields of one name", 431, framed(b"\r\n".join([b"X: y"] * 150), method=b"GET")),
    ("too large a field", 431, framed(b"X: " + b"y" * 33_000, method=b"GET")),
    ("too large a name", 431, framed(b"X" * 33_000 + b": y", method=b"GET")),
    ("too large a head", 431, framed(b"\r\n".join(b"X-%d: %b" % (i, b"y" * 1000) for i in range(40)), method=b"GET")),
    ("too large without an end", 431, b"GET /f HTTP/1.1\r\n" + HOST + HOME + b"X: " + b"y" * 40_000),
    ("too long a target", 414, aimed(b"/" + b"x" * 8192)),
    ("too long a target and head", 414, aimed(b"/" + b"x" * 40_000)),
    ("too long a target without an end", 414, b"GET /" + b"x" * 40_000),
    ("too long a query", 414, aimed(b"/?" + b"x" * 8192)),
]

LINES: list[Case] = [
    *[
        (f"line {line!r}", 400, lined(line))
        for line in (
            *(
                b"GET /f",
                b"GET /f ",
                b"GET",
                b"/f HTTP/1.1",
                b"GET  /f HTTP/1.1",
                b"GET /f  HTTP/1.1",
                b" GET /f HTTP/1.1",
            ),
            *(
                b"GET\t/f HTTP/1.1",
                b"GET /f\tHTTP/1.1",
                b"GET /f HTTP/1.1 ",
                b"GET /f HTTP/1.1\t",
                b"GET /f HTTP/1.1\r",
            ),
            *(b"GET /f HTTP/1.1\0", b"GET /f http/1.1", b"GET /f HTTP/1.1x", b"GET /f HTTP/", b"GET /f HTTP/x.y"),
            *(b"GET /f HTTP /1.1", b"GET /f HTTP/1 .1", b"GET /f HTTP/1.1 HTTP/1.1", b"GET /f x HTTP/1.1"),
            *(b"GET HTTP/1.1", b"G@T /f HTTP/1.1", b"G\0T /f HTTP/1.1", b"(GET) /f HTTP/1.1", b"GET\x0b/f HTTP/1.1"),
            *(
                b"GET /f HTTP/-1.1",
                b"GET /f HTTP/+1.1",
                b"GET /f H\0TTP/1.1",
                b"\xc7ET /f HTTP/1.1",
                b"GET /f HTTP/1,1",
            ),
            *(b"A" * 33 + b" /f HTTP/1.1", b"GET /f HTTPS/1.1", b"GET /f HTTP/1.1\x0c", b"GET /f HTTP/\xb9.1"),
        )
    ],
    *[
        (f"version {version!r}", 505, lined(b"GET /f " + version))
        for version in (
            *(b"HTTP/0.9", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/2", b"HTTP/3", b"HTTP/3.0", b"HTTP/9.9"),
            *(b"HTTP/11", b"HTTP/1", b"HTTP/10.1", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1.01", b"RTSP/1.0", b"ICE/1.0"),
        )
    ],
    ("the HTTP/2 preface", 505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    *[(f"method {method!r}", 405, aimed(b"/f", method)) for method in (b"TRACE", b"CONNECT")],
    ("CONNECT of an authority", 405, aimed(b"storage.example:443", b"CONNECT")),
    ("CONNECT with a body", 405, framed(b"Content-Length: 5", b"hello", method=b"CONNECT")),
    ("TRACE with a body", 405, framed(b"Content-Length: 5", b"hello", method=b"TRACE")),
    *[
        (f"method {method!r}", 501, aimed(b"/f", method))
        for method in (
            b"get",
            b"Get",
            b"GETT",
            b"FOO",
            b"TRACK",
            b"DEBUG",
            b"PRI",
            b"get-",
            b"!",
            b"SOURCE",
            b"DESCRIBE",
        )
    ],
]

TARGETS: list[Case] = [
    *[
        (f"target {target!r}", 400, aimed(target))
        for target in (
            *(b"f", b"*", b"storage.example", b"storage.example:443", b"?x", b"\\f", b".", b"../f", b"", b"&", b"%2f"),
            *(b"/a#b", b"/#", b"#", b"/a?b#c", b"/a b", b"/a\tb", b"/a\0b", b"/a\x0bb", b"/a\x7fb", b"/\xe4", b"/\xff"),
            *(b"/a%00b", b"/a%0db", b"/a%0ab", b"/a%0D%0Ab", b"/%0d%0aSet-Cookie:x", b"/%00", b"/a/%0A"),
            *(b"http://other.example/", b"https://other.example/", b"http://storage.example:81/", b"http:///f"),
            *(
                b"http://u@storage.example/",
                b"http://u:p@storage.example/",
                b"http://storage.example@evil/",
                b"http://",
            ),
            *(b"http://storage.example\\@evil/", b"http://storage.example, evil/", b"http:/storage.example/"),
            *(b"http:storage.example", b"ftp://storage.example/", b"ws://storage.example/", b"file:///etc/passwd"),
            *(b"javascript:x", b"http://storage.example:0/", b"http://storage.example:x/", b"http://[::1/"),
            *(b"http://storage.example#/", b"http://storage.example/#x", b"xhttp://storage.example/", b"://x/"),
            *(b"http://storage.example/%00", b"http://storage%2eexample/", b"httpx://storage.example/"),
        )
    ],
    ("star with POST", 400, aimed(b"*", b"POST")),
    ("star and more with OPTIONS", 400, aimed(b"*/x", b"OPTIONS")),
]

HOSTS: list[Case] = [
    *named(
        400,
        {
            "no Host": b"GET /f HTTP/1.1\r\n" + HOME + b"\r\n",
            "no Host in HTTP/1.0": b"GET /f HTTP/1.0\r\n" + HOME + b"\r\n",
            "no Host with an absolute target": b"GET http://storage.example/ HTTP/1.1\r\n" + HOME + b"\r\n",
            "two Hosts": b"GET /f HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n" + HOME + b"\r\n",
            "two Hosts that agree": b"GET /f HTTP/1.1\r\n" + HOST + HOST + HOME + b"\r\n",
            "two Hosts in odd case": b"GET /f HTTP/1.1\r\n" + HOST + b"hOST: storage.example\r\n" + HOME + b"\r\n",
            "Host and an empty one": b"GET /f HTTP/1.1\r\n" + HOST + b"Host:\r\n" + HOME + b"\r\n",
            "Host with a space before the colon": b"GET /f HTTP/1.1\r\nHost : storage.example\r\n" + HOME + b"\r\n",
            "Host folded": b"GET /f HTTP/1.1\r\nHost:\r\n storage.example\r\n" + HOME + b"\r\n",
        },
    ),
    *[
        (f"Host {host!r}", 400, hosted(host))
        for host in (
            *(b"", b" ", b"a,b", b"storage.example, evil.example", b"storage.example evil", b"storage.example\tevil"),
            *(
                b"u@storage.example",
                b"u:p@storage.example",
                b"storage.example/",
                b"storage.example/x",
                b"/",
                b"@",
                b":",
            ),
            *(b"storage.example?x", b"storage.example#x", b"http://storage.example", b"//storage.example", b":80"),
            *(b"storage.example:", b"storage.example:0", b"storage.example:65536", b"storage.example:x"),
            *(b"storage.example:80:80", b"storage.example:-1", b"storage.example:+80", b"storage.example: 80"),
            *(b"storage.example:080000", b"storage.example:8\xb2", b"storage.example :80", b"storage.example;80"),
            *(b"2130706433", b"0177.1", b"0177.0.0.1", b"127.1", b"127.0.1", b"0x7f.1", b"0x7f000001", b"1.2.3.4.5"),
            *(b"1.2.3.256", b"1.2.3.4.", b"01.2.3.4", b"1.2.3.04", b"1.2.3", b"storage.0x1", b"storage.1", b"0x"),
            *(b"[::ffff:1.2.3.4]", b"[::FFFF:102:304]", b"[0:0:0:0:0:ffff:1.2.3.4]", b"[::1", b"::1]", b"::1", b"[]"),
            *(b"[fe80::1%eth0]", b"[fe80::1%25eth0]", b"[::1]x", b"[::1]:", b"[v1.x]", b"[1.2.3.4]", b"[::g]"),
            *(b"b\xc3\xbccher.example", b"b\xfccher.example", b"ex%61mple.example", b"%", b"*", b"*.example", b"a..b"),
            *(b".a", b".", b"..", b"-a.example", b"a-.example", b"a" * 64 + b".example", b"a." * 127 + b"a"),
            *(b"storage.example\\x", b'"storage.example"', b"storage!example", b"storage.example..", b"a b", b"$h"),
            *(b"storage.example\xe3\x80\x82", b"storage\0.example", b"storage.example\x0b", b"(storage.example)"),
        )
    ],
]

EXPECTATIONS: list[Case] = [
    (f"Expect {value!r}", 417, framed(b"Expect: " + value + b"\r\nContent-Length: 5", b"hello"))
    for value in (
        b"200-ok",
        b"",
        b"100-continue, x",
        b"100-continue;q=1",
        b"100",
        b"x=y",
        b"100-continue, 100-continue",
    )
] + [
    (
        "Expect twice",
        417,
        framed(b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5", b"hello"),
    ),
    ("Expect of something without a body", 417, framed(b"Expect: something", method=b"GET")),
    ("Expect with a bad length", 400, framed(b"Expect: 100-continue\r\nContent-Length: x", b"hello")),
    ("Expect with a bad coding", 501, framed(b"Expect: 100-continue\r\nTransfer-Encoding: gzip", b"hello")),
]

# Only where a rule looks at paths.
PATHS: list[Case] = [
    (f"path {path!r}", 400, aimed(path))
    for path in (
        *(b"/../f", b"/a/../f", b"/a/..", b"/./f", b"/a/.", b"/..", b"/.", b"//f", b"/a//b", b"/a//", b"//"),
        *(b"/%2e%2e/f", b"/%2E./f", b"/.%2e", b"/%2e/f", b"/a/%2e%2e%2ff", b"/a%2fb", b"/a%2Fb", b"/%2f", b"/a%5cb"),
        *(b"/..;/f", b"/a;x=1/b", b"/;", b"/a;", b"/a%3bb", b"/..%3b/f", b"/a\\b", b"/\\..\\f", b"/%5c..%5cf"),
        *(b"/%252e%252e/f", b"/a%252fb", b"/%25%32%65", b"/%", b"/%2", b"/%zz", b"/a%", b"/%c0%ae%c0%ae/f", b"/%c0%af"),
        *(
            b"/%ff",
            b"/%01",
            b"/%1f",
            b"/%7f",
            b"/%ef%bc%9b%ed%a0%80",
            b"/%e0%80%af",
            b"/pay/..%2f..",
            b"http://storage.example//f",
        ),
    )
]

TABLES: dict[str, list[Case]] = {
    "framing": LENGTHS_AND_CODINGS,
    "chunks": CHUNKS,
    "heads": HEADS,
    "lines": LINES,
    "targets": TARGETS,
    "hosts": HOSTS,
    "expectations": EXPECTATIONS,
}


@dataclass
class Scene:
    """A stage for many cases. good: how many requests reached the provider on purpose."""

    stage: Stage
    log: KeptLog
    provider: Recorder
    good: int = 0

    async def ask_well(self) -> None:
        """One good request, which reaches the provider."""
        response = await self.stage.ask(request("/good"))
        assert (response.status, response.body) == (200, b"recorded")
        self.good += 1
        assert self.provider.whole == [(b"GET", b"/good", b"")] * self.good

    async def refuse(self, status: int, pieces: list[bytes]) -> None:
        """Send the pieces and see them refused."""
        before, counted = len(self.log.lines), requests_counted(self.stage).total()
        conversations = len(self.stage.providers["cn"].conversations)
        client = await self.stage.client()
        sending = asyncio.ensure_future(send_pieces(client, pieces))
        response = await client.response()
        assert response.status == status
        assert response.header("connection") == "close"
        assert response.header("content-type") == "application/problem+json"
        assert response.reason
        assert await client.rest() == b""
        await sending
        records = await self.log.wait(before + 1)
        assert len(records) == before + 1
        assert (records[-1]["status"], records[-1]["reason"]) == (status, response.reason)
        assert requests_counted(self.stage).total() == counted + 1
        for conversation in self.stage.providers["cn"].conversations[conversations:]:
            async with asyncio.timeout(PATIENCE):
                await conversation.ended.wait()
        assert self.provider.whole == [(b"GET", b"/good", b"")] * self.good
        client.close()


async def send_pieces(client: Client, pieces: list[bytes]) -> None:
    """Each piece arrives alone, unless the proxy has closed by then."""
    with suppress(ConnectionError):
        for piece in pieces:
            if client.reader.at_eof():
                return
            await client.send(piece)
            await turns(2)


def ways(data: bytes) -> dict[str, list[bytes]]:
    """How a case is sent."""
    head = data.find(b"\r\n\r\n") + 4
    sent = {
        "with another behind it": [data + SMUGGLED],
        "cut after its head": [data[:head], data[head:] + SMUGGLED] if 3 < head < len(data) else [data, SMUGGLED],
    }
    if len(data) < 400 and crc32(data) % 4 == 0:
        sent["byte by byte"] = [data[i : i + 1] for i in range(len(data))] + [SMUGGLED]
    return sent


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scene() -> AsyncIterator[Scene]:
    provider = Recorder()
    async with staged({"cn": provider}) as stage:
        yield Scene(stage, keep_log(stage), provider)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scene_of_paths() -> AsyncIterator[Scene]:
    provider = Recorder()
    rule = "  - {name: paths, when: {home: cn-mainland, path: /forbidden/*}, forbid: any}"
    async with staged({"cn": provider}, rules=rule) as stage:
        assert (await stage.ask(request("/forbidden/x"))).reason == "forbidden"
        yield Scene(stage, keep_log(stage), provider)


@pytest.mark.parametrize(
    ("status", "data"),
    [
        pytest.param(status, data, id=f"{table}: {name}")
        for table, cases in TABLES.items()
        for name, status, data in cases
    ],
)
async def test_it_is_refused_and_reaches_nobody(scene: Scene, status: int, data: bytes) -> None:
    await scene.ask_well()
    for pieces in ways(data).values():
        await scene.refuse(status, pieces)


@pytest.mark.parametrize(("status", "data"), [pytest.param(status, data, id=name) for name, status, data in PATHS])
async def test_a_path_of_two_readings_is_refused_where_a_rule_looks_at_paths(
    scene_of_paths: Scene, status: int, data: bytes
) -> None:
    await scene_of_paths.ask_well()
    for pieces in ways(data).values():
        await scene_of_paths.refuse(status, pieces)


async def test_a_refusal_in_a_pipeline_ends_it_behind_what_was_answered(scene: Scene) -> None:
    await scene.ask_well()
    before = len(scene.log.lines)
    client = await scene.stage.client()
    await client.send(request("/good") * 2 + framed(b"Content-Length: 5, 5", b"hello") + SMUGGLED * 2)
    scene.good += 2
    assert [(await client.response()).status for _ in range(3)] == [200, 200, 400]
    assert await client.closed()
    records = await scene.log.wait(before + 3)
    assert [record["status"] for record in records[before:]] == [200, 200, 400]
    assert scene.provider.whole == [(b"GET", b"/good", b"")] * scene.good


@pytest.mark.parametrize("host", ["other.example", "storage.example.evil", "192.0.2.1", "[::1]"])
async def test_a_host_that_disagrees_with_the_name_in_the_handshake_is_421(scene: Scene, host: str) -> None:
    before = len(scene.log.lines)
    async with entrance(scene.stage, "127.0.0.1", tls=True, sni="storage.example", certificate=0) as connect:
        client = await connect()
        await client.send(request("/good", host="STORAGE.example.:443"))
        scene.good += 1
        assert (await client.response()).status == 200
        await client.send(request("/x", host=host) + SMUGGLED)
        assert (await client.response()).status == 421
        assert await client.closed()
    records = await scene.log.wait(before + 2)
    assert [record["status"] for record in records[before:]] == [200, 421]
    assert scene.provider.whole == [(b"GET", b"/good", b"")] * scene.good
