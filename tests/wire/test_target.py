"""Authorities and absolute forms, each for itself."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.target import Authority, read_authority, split_absolute


@pytest.mark.parametrize(
    ("host", "port", "wire"),
    [
        ("a.example", "", b"a.example"),
        ("a.example", "80", b"a.example:80"),
        ("::1", "", b"[::1]"),
        ("2001:db8::1", "8443", b"[2001:db8::1]:8443"),
        ("192.0.2.1", "1", b"192.0.2.1:1"),
    ],
)
def test_an_authority_on_the_wire(host: str, port: str, wire: bytes) -> None:
    assert Authority(host, port).wire == wire
    assert read_authority(wire) == Authority(host, port)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"http://a", (b"a", b"")),
        (b"http://a/", (b"a", b"/")),
        (b"https://a:1?x/y", (b"a:1", b"?x/y")),
        (b"HtTpS://u@a//b", (b"u@a", b"//b")),
        (b"http://", (b"", b"")),
        (b"http:///x", (b"", b"/x")),
        (b"http:/a", None),
        (b"http//a", None),
        (b"httpx://a", None),
        (b"ws://a", None),
        (b"/http://a", None),
        (b"", None),
    ],
)
def test_an_absolute_form_is_taken_apart(target: bytes, parts: tuple[bytes, bytes] | None) -> None:
    assert split_absolute(target) == parts


@settings(deadline=None)
@given(st.binary(max_size=40) | st.from_regex(rb"[A-Za-z0-9._:\[\]-]{1,40}", fullmatch=True))
def test_whatever_is_an_authority_is_one_in_one_way(value: bytes) -> None:
    authority = read_authority(value)
    if authority is not None:
        assert read_authority(authority.wire) == authority
        assert authority.wire == authority.wire.lower()
        assert set(authority.wire) <= set(b"abcdefghijklmnopqrstuvwxyz0123456789.:-_[]")
