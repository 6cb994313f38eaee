"""The home cookie: what it holds, whom it is good for, when, where, and what is forged."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.identity.answers import Home, Invalid, Silent
from proxy.identity.evidence import Evidence
from proxy.identity.home_cookie import LARGEST_KEY, SMALLEST_KEY, HomeCookies, HomeCookieSource, Shown, open_home_cookie
from proxy.identity.refused import SourceRefused
from proxy.policy.settings import Secret
from proxy.policy.subject import HomeCookie
from tests.identity.tokens import NOW

OLD, NEW, STRANGERS = b"o" * 16 + b"0123456789abcdef", b"n" * 16 + b"0123456789abcdef", b"s" * 16 + b"0123456789abcdef"
HOST = "storage.example"
DAY = 86400.0
NAME = "__Host-home"
NOBODY = Silent()


def cookies(*keys: bytes, max_age: float = 30 * DAY, name: str = NAME) -> HomeCookies:
    return HomeCookies(name, keys or (NEW, OLD), max_age)


def value(line: bytes) -> bytes:
    """What the device sends back."""
    return line.removeprefix(b"Set-Cookie: ").partition(b";")[0].partition(b"=")[2]


def made(*keys: bytes, home: str = "eu", host: str = HOST, now: float = NOW, **changes: Any) -> bytes:
    return value(cookies(*keys, **changes).line(home, host, now))


def sent(cookie: bytes, name: str = NAME) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"host", HOST.encode()), (b"cookie", name.encode() + b"=" + cookie))


def read(cookie: bytes, *keys: bytes, host: str = HOST, now: float = NOW) -> Shown:
    return cookies(*keys).read(sent(cookie), host, now)


def test_the_field() -> None:
    line = cookies().line("cn-mainland", HOST, NOW)
    first, second = line.split(b"\r\n")
    pair, *attributes = first.removeprefix(b"Set-Cookie: ").split(b"; ")
    assert pair.startswith(b"__Host-home=1.")
    assert sorted(attributes) == sorted([attributes[0], b"Path=/", b"Secure", b"HttpOnly", b"SameSite=Lax"])
    age = int(attributes[0].removeprefix(b"Max-Age="))
    assert 29 * DAY <= age <= 30 * DAY
    assert second == b'Cache-Control: no-cache="Set-Cookie"', "no cache hands it to another device"
    assert value(line).count(b".") == 4
    assert b"cn-mainland" in pair
    assert (
        cookies().clearing().startswith(b"Set-Cookie: __Host-home=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax")
    )


@pytest.mark.parametrize("home", ["eu", "cn-mainland", "US", "z" * 64])
@pytest.mark.parametrize("keys", [(NEW, OLD), (NEW,)])
def test_what_was_made_is_read(home: str, keys: tuple[bytes, ...]) -> None:
    shown = read(made(*keys, home=home), *keys)
    assert (shown.state, shown.home) == ("good", home)
    assert NOW + 29 * DAY <= shown.end <= NOW + 30 * DAY


def test_keys_rotate() -> None:
    before = made(OLD)
    assert read(before, NEW, OLD).state == "good", "all verify"
    assert made(NEW, OLD) != before, "the first signs"
    assert read(made(NEW, OLD), NEW).state == "good"
    assert read(before, NEW).state == "wrong", "a key that is gone"


def test_it_ends() -> None:
    shown = read(made())
    assert read(made(), now=shown.end - 1).state == "good"
    assert read(made(), now=shown.end).state == "ended"
    assert read(made(max_age=60.0), now=NOW + 60).state == "ended"
    forged = made(STRANGERS, now=NOW - 365 * DAY)
    assert read(forged).state == "wrong", "whether it ended is for those to say that verify"


def test_nobody_is_told_apart_by_it() -> None:
    within_a_day = {made(now=NOW // DAY * DAY + second) for second in range(0, int(DAY), 600)}
    assert len(within_a_day) == 1
    assert len({made(now=NOW + second, max_age=8 * 3600.0) for second in range(0, 3600, 10)}) <= 2
    assert made(home="eu") != made(home="us")


OTHERS = {
    "another host": lambda: made(host="other.example"),
    "a host below": lambda: made(host=f"a.{HOST}"),
    "a host above": lambda: made(host="example"),
    "another name": lambda: made(name="__Host-hom"),
    "a stranger's key": lambda: made(STRANGERS),
    "a stranger's key under our key's name": lambda: made()[:10] + made(STRANGERS)[10:],
    "another home": lambda: made().replace(b".eu.", b".cn."),
    "a later end": lambda: made().replace(b"." + made().split(b".")[3] + b".", b".7fffffff."),
    "empty": lambda: b"",
    "quoted": lambda: b'"' + made() + b'"',
    "another version": lambda: b"2" + made()[1:],
    "no signature": lambda: made().rpartition(b".")[0] + b".",
    "a short signature": lambda: made()[:-1],
    "a long signature": lambda: made() + b"A",
    "a trailing part": lambda: made() + b".x",
    "upper-case figures": lambda: made().replace(made().split(b".")[3], made().split(b".")[3].upper()),
    "a sign": lambda: made().replace(b".eu.", b".eu.+"),
    "bytes": lambda: b"\xff\x00",
    "long": lambda: b"1." * 4000,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_ours(name: str) -> None:
    cookie = OTHERS[name]()
    if cookie == made():
        pytest.fail("this is ours")
    assert read(cookie) == Shown("wrong")
    assert answer(sent(cookie)) == Invalid("home_cookie", "signature")


@given(at=st.integers(0, 200), byte=st.integers(0, 255))
@settings(max_examples=200)
def test_no_byte_can_be_changed(at: int, byte: int) -> None:
    good = made()
    place = at % len(good)
    changed = good[:place] + bytes([byte]) + good[place + 1 :]
    if changed != good and b";" not in changed and changed.strip(b" \t") == changed:
        assert read(changed).state == "wrong"


FIELDS: dict[str, tuple[tuple[tuple[bytes, bytes], ...], str]] = {
    "among others": (((b"cookie", b"a=b; __Host-home=" + made() + b"; c=d"),), "good"),
    "in a second field": (((b"cookie", b"a=b"), (b"cookie", b"__Host-home=" + made())), "good"),
    "with white space": (((b"cookie", b"a=b;\t__Host-home = " + made() + b" "),), "good"),
    "twice": (((b"cookie", b"__Host-home=" + made() + b"; __Host-home=" + made()),), "wrong"),
    "twice, in two fields": (((b"cookie", b"__Host-home=" + made()), (b"cookie", b"__Host-home=x")), "wrong"),
    "in another case": (((b"cookie", b"__host-home=" + made()),), "none"),
    "a longer name": (((b"cookie", b"a__Host-home=" + made() + b"; __Host-home2=x"),), "none"),
    "a value": (((b"cookie", b"a=__Host-home"),), "none"),
    "a name alone": (((b"cookie", b"__Host-home"),), "none"),
    "in another field": (((b"x-cookie", b"__Host-home=" + made()),), "none"),
    "no cookies": ((), "none"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_where_it_is_looked_for(name: str) -> None:
    fields, state = FIELDS[name]
    assert cookies().read(fields, HOST, NOW).state == state


def answer(fields: tuple[tuple[bytes, bytes], ...], known: Silent = NOBODY, now: float = NOW) -> Any:
    return HomeCookieSource(cookies(), False).answer(Evidence(fields, host=HOST), known, now)


def test_answers() -> None:
    end = read(made()).end
    assert answer(sent(made())) == Home("eu", None, "unknown", end)
    assert answer(()).why == "no-credential"
    assert answer(sent(made()), now=end).why == "expired"
    for known in (Silent("acct", "subject"), Silent("acct", "support"), Silent(account=True)):
        silent = answer(sent(made()), known)
        assert (silent, silent.why) == (Silent(), "account")
        assert answer(sent(b"x"), known) == Invalid("home_cookie", "signature")


def test_keys_from_files_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(OLD + b"\n")
    source = open_home_cookie(HomeCookie(NAME, (Secret(NEW.decode()), tmp_path / "key"), DAY, True))
    assert source.cookies.read(sent(made(OLD)), HOST, NOW).state == "good"
    assert source.cookies.read(sent(made(NEW)), HOST, NOW).state == "good"
    assert source.hidden_cookies == frozenset()
    hidden = open_home_cookie(HomeCookie(NAME, (Secret(NEW.decode()),), DAY, False))
    assert hidden.hidden_cookies == {NAME.encode()}
    shown = repr((source, hidden, read(made()), HomeCookie(NAME, (Secret(NEW.decode()),), DAY, False)))
    assert NEW.decode() not in shown


@pytest.mark.parametrize("key", [b"", b"k" * (SMALLEST_KEY - 1), b"k" * (LARGEST_KEY + 1), None])
def test_keys_that_are_refused(tmp_path: Path, key: bytes | None) -> None:
    if key is not None:
        (tmp_path / "key").write_bytes(key)
        with pytest.raises(SourceRefused, match="a key"):
            open_home_cookie(HomeCookie(NAME, (Secret(key.decode()),), DAY, False))
    with pytest.raises(SourceRefused, match=str(tmp_path)):
        open_home_cookie(HomeCookie(NAME, (tmp_path / "key",), DAY, False))
