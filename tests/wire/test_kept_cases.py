"""Inputs that were kept: real hellos and headers, and for each answer the small ones that the fuzzers came to.

cases/READER/ANSWER/NAME: a refusal's name is its reason, with a number where there are several.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.wire.hello import Hello, NotHello, read_hello
from proxy.wire.proxy_header import AUTHORITY, UNIQUE_ID, Header, Malformed, read_proxy_header
from tests.wire import header_promises, hello_promises

CASES = Path(__file__).with_name("cases")
HELLOS = sorted((CASES / "hello").glob("*/*"))
HEADERS = sorted((CASES / "proxy_header").glob("*/*"))


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.name}"


def slug(reason: str) -> str:
    return re.sub("[^a-z0-9]+", "-", reason.lower())


@pytest.mark.parametrize("path", HELLOS, ids=named)
def test_hellos(path: Path) -> None:
    data = path.read_bytes()
    found = read_hello(data)
    assert type(found).__name__ == path.parent.name
    if isinstance(found, NotHello):
        assert slug(found.reason) == path.stem
    hello_promises.keep(data, range(len(data)))


@pytest.mark.parametrize("path", HEADERS, ids=named)
def test_headers(path: Path) -> None:
    data = path.read_bytes()
    found = read_proxy_header(data)
    assert type(found).__name__ == path.parent.name
    if isinstance(found, Malformed):
        assert slug(found.cause) == path.stem
    header_promises.keep(data, range(len(data)))


def test_every_reason_has_its_case() -> None:
    assert {path.stem for path in HELLOS if path.parent.name == "NotHello"} == set(map(slug, hello_promises.REASONS))
    assert {path.stem for path in HEADERS if path.parent.name == "Malformed"} == set(map(slug, header_promises.CAUSES))
    assert {path.parent.name for path in HELLOS} == {"Hello", "Incomplete", "NotHello"}
    assert {path.parent.name for path in HEADERS} == {"Header", "Absent", "Incomplete", "Malformed"}


BROWSERS = {
    "chrome-136": (True, 0x2A2A),
    "firefox-135": (True, None),
    "safari-18": (False, 0xFAFA),
}


@pytest.mark.parametrize("name", BROWSERS)
def test_browsers(name: str) -> None:
    ech, grease = BROWSERS[name]
    found = read_hello((CASES / "hello" / "Hello" / name).read_bytes())
    assert isinstance(found, Hello)
    assert (found.server_name, found.alpn, found.ech) == ("edge.example", (b"h2", b"http/1.1"), ech)
    assert found.versions[: 1 if grease else 0] == ((grease,) if grease else ())
    assert {0x0304, 0x0303} <= set(found.versions)


def test_what_haproxy_sends() -> None:
    def read(name: str) -> Header:
        found = read_proxy_header((CASES / "proxy_header" / "Header" / f"haproxy-{name}").read_bytes())
        assert isinstance(found, Header)
        return found

    for name in ("v1", "v1-ipv6", "v2", "v2-ipv6", "v2-checksum", "v2-unique-id", "v2-tls"):
        source, destination = read(name).source, read(name).destination
        assert source is not None
        assert destination is not None
        assert str(source[0]) == str(destination[0]) == ("::1" if name.endswith("ipv6") else "127.0.0.1")
    assert read("v2-local").local
    fields = dict(read("v2-unique-id").fields)
    assert fields[AUTHORITY] == b"edge.example"
    assert fields[UNIQUE_ID].startswith(b"7F000001:")
    tls = read("v2-tls").tls
    assert tls is not None
    assert (tls.client, tls.verify, dict(tls.fields)[0x21]) == (7, 0, b"TLSv1.3")


def hello(kind: str) -> bytes:
    return (CASES / "hello" / "Hello" / kind).read_bytes()


Reader = Callable[[bytes], hello_promises.Found]

BROKEN: dict[str, Reader] = {
    "reads a hello before it is whole": lambda data: read_hello(data + hello("openssl-tls13")[len(data) :]),
    "asks for more than comes": lambda data: (
        hello_promises.Incomplete(found.needed + 1)
        if isinstance(found := read_hello(data), hello_promises.Incomplete)
        else found
    ),
    "asks for what is there": lambda data: (
        hello_promises.Incomplete(len(data))
        if isinstance(found := read_hello(data), hello_promises.Incomplete)
        else found
    ),
    "refuses what it takes later": lambda data: NotHello("lengths disagree") if len(data) == 100 else read_hello(data),
    "looks at what follows": lambda data: NotHello("lengths disagree") if len(data) > 517 else read_hello(data),
    "reads another name": lambda data: (
        Hello("other.example", found.alpn, found.ech, found.versions)
        if isinstance(found := read_hello(data), Hello)
        else found
    ),
    "quotes": lambda data: NotHello(repr(data)) if len(data) == 517 else read_hello(data),
}


@pytest.mark.parametrize("reader", BROKEN.values(), ids=BROKEN)
def test_a_broken_promise_is_noticed(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    data = hello("openssl-tls13")
    hello_promises.keep(data, range(len(data)))
    monkeypatch.setattr(hello_promises, "read_hello", reader)
    with pytest.raises(AssertionError):
        hello_promises.keep(data, range(len(data)))
