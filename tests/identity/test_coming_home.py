"""Before and after somebody signs in, over real sockets: sign-in pages, the home cookie, staff, and what is counted."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.http1.staging import MAINLAND, Response, answering, request
from tests.identity import tokens
from tests.identity.house import PROXY, house
from tests.identity.key_server import key_server

GERMANY = "193.99.144.80"
KEY = "0123456789abcdefghijklmnopqrstuv"
JWT = (
    "{jwks: jwks.json, issuer: 'https://id.example', audience: storage, home_claim: residency, actor_claim: act.role%s}"
)
SOURCES = f"""
  sources:
    - jwt: {JWT % ", forward: false"}
    - home_cookie: {{keys: [home.key]}}
"""
SIGN_IN = """
  - {name: sign-in, when: {home: unknown, path: /sign-in/*}, allow: {providers: open}}
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    tokens.written(tmp_path, tokens.all_keys())
    (tmp_path / "home.key").write_text(KEY)


def bearer(**claims: Any) -> str:
    """The field of a token that is good now."""
    now = time.time()
    text = tokens.token(**({"exp": now + 600, "iat": now - 10} | claims))
    return "Authorization: Bearer " + text.decode()


def cookie_of(response: Response) -> str | None:
    """What the device remembers after this answer: the cookie to send, "" to send none; None: as before."""
    line = response.header("set-cookie")
    if line is None:
        return None
    assert line.endswith("; Path=/; Secure; HttpOnly; SameSite=Lax")
    pair, age = line.split("; ")[:2]
    return "" if age == "Max-Age=0" else f"Cookie: {pair}"


def held(cookie: str | None) -> str:
    """A cookie that must be there."""
    assert cookie
    return cookie


async def test_sign_in_at_a_neutral_provider_while_all_else_waits_for_a_home(tmp_path: Path) -> None:
    async with house(tmp_path, SOURCES, SIGN_IN) as home:
        page = await home.ask(request("/sign-in/form", xff=None), "secure")
        assert (page.status, page.body) == (200, b"open")
        assert page.header("set-cookie") is None, "nobody's home is known"
        for path in ("/", "/photos/1", "/sign-in%2f..%2fphotos", "/Sign-in/", "/sign-in/../photos"):
            waits = await home.ask(request(path, xff=None), "secure")
            assert waits.status in (451, 400)
            assert waits.reason in ("home-unknown", "path-ambiguous")
        assert home.touched() == {"open": 1}
        records = await home.records(6)
        assert [record["source"] for record in records] == ["none"] * 6


async def test_a_device_comes_home_after_it_was_known_once(tmp_path: Path) -> None:
    async with house(tmp_path, SOURCES, SIGN_IN) as home:
        first = await home.ask(request("/", xff=None, headers=bearer()), "secure")
        assert (first.status, first.body) == (200, b"cn")
        assert re.search(rb'\r\nCache-Control: no-cache="Set-Cookie"\r\n', first.raw_head)
        cookie = held(cookie_of(first))
        assert "acct-7f3a" not in cookie
        assert b"Authorization" not in home.last("cn"), "forward: false"

        roaming = await home.ask(request("/", xff=None, headers=f"Cookie: a=b; {cookie[8:]}; c=d"), "secure")
        assert (roaming.status, roaming.body) == (200, b"cn"), "before it signs in again, wherever it is"
        assert roaming.header("set-cookie") is None
        assert b"Cookie: a=b; c=d\r\n" in home.last("cn"), "only the others go on"
        alone = await home.ask(request("/sign-in/", xff=None, headers=cookie), "secure")
        assert alone.body == b"cn", "a rule for unknown homes is not for known ones"
        assert b"cookie" not in home.last("cn").lower()

        known = await home.ask(request("/", xff=None, headers=f"{bearer()}\r\n{cookie}"), "secure")
        assert known.header("set-cookie") is None, "it remembers already"
        moved = await home.ask(request("/", xff=None, headers=f"{bearer(residency='DE')}\r\n{cookie}"), "secure")
        assert moved.body == b"eu", "it never outranks a stronger source"
        anew = held(cookie_of(moved))
        assert (await home.ask(request("/", xff=None, headers=anew), "secure")).body == b"eu"

        records = await home.records(6)
        assert [record["source"] for record in records] == [
            "jwt",
            "home_cookie",
            "home_cookie",
            "jwt",
            "jwt",
            "home_cookie",
        ]
        text = (tmp_path / "access.log").read_text()
        assert cookie.partition("=")[2] not in text
        assert home.metric("domicile_source_answers_total", source="home_cookie", answer="home") == 3
        assert home.metric("domicile_source_answers_total", source="jwt", answer="home") == 3
        assert home.metric("domicile_source_answers_total", source="jwt", answer="silent") == 3


async def test_a_repeated_request_counts_each_time(tmp_path: Path) -> None:
    async with house(tmp_path, SOURCES) as home:
        client = await home.client("secure")
        for _ in range(5):
            await client.send(request("/", xff=None, headers=(said := bearer(exp=4e9, iat=1e9))))
            assert (await client.response()).status == 200
        assert said
        assert home.metric("domicile_source_answers_total", source="jwt", answer="home") == 5
        assert home.metric("domicile_source_cache_total", source="jwt") == 2, "the others are whole heads again"
        home.reload(SOURCES, SIGN_IN)
        await home.ask(request("/", xff=None, headers=said), "secure")
        assert home.metric("domicile_source_answers_total", source="jwt", answer="home") == 6
        assert home.metric("domicile_source_cache_total", source="jwt", result="hit") == 2, "the source carried over"


FORGED = {
    "of strangers": lambda cookie: cookie[:-2] + ("AA" if not cookie.endswith("AA") else "BB"),
    "another home": lambda cookie: cookie.replace(".cn-mainland.", ".eu."),
    "twice": lambda cookie: f"{cookie}; {cookie[8:]}",
    "empty": lambda cookie: "Cookie: __Host-home=",
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_cookie_is_a_401_that_takes_it_away(tmp_path: Path, name: str) -> None:
    sources = SOURCES + "    - location: {accounts: false}\n"
    async with house(tmp_path, sources) as home:
        known = await home.ask(request("/", xff=None, headers=bearer()), "secure")
        cookie = held(cookie_of(known))
        assert home.touched() == {"cn": 1}
        refused = await home.ask(request("/", xff=None, headers=FORGED[name](cookie)), "secure")
        assert (refused.status, refused.reason) == (401, "credential-invalid")
        assert refused.header("www-authenticate") == "Cookie"
        assert cookie_of(refused) == "", "so that the device can go on"
        assert home.touched() == {"cn": 1}
        assert [record["source"] for record in await home.records(2)] == ["jwt", "home_cookie"]
        mended = await home.ask(request("/", xff=None, headers=f"{bearer()}\r\n{FORGED[name](cookie)}"), "secure")
        assert (mended.status, mended.body) == (200, b"cn")
        assert cookie_of(mended), "and a stronger source sets it anew"


async def test_a_cookie_of_another_host_is_foreign(tmp_path: Path) -> None:
    async with house(tmp_path, SOURCES) as home:
        cookie = held(cookie_of(await home.ask(request("/", xff=None, headers=bearer()), "secure")))
        elsewhere = await home.client("secure", name="other.example")
        await elsewhere.send(request("/", xff=None, host="other.example", headers=cookie))
        assert (await elsewhere.response()).status == 401
        with_port = await home.ask(request("/", xff=None, host="STORAGE.example:8443", headers=cookie), "secure")
        assert with_port.status == 200, "cookies know no ports"


@pytest.mark.parametrize(
    ("claims", "headers", "listener", "source", "remembered"),
    [
        ({}, "", "secure", None, True),
        ({}, "", "edge", None, False),
        ({}, "X-Forwarded-Proto: https", "edge", None, False),
        ({}, "X-Forwarded-Proto: https", "edge", PROXY, True),
        ({}, "X-Forwarded-Proto: http", "secure", PROXY, False),
        ({}, "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http", "edge", PROXY, False),
        ({"act": {"role": "support"}}, "", "secure", None, False),
        ({"residency": ...}, "", "secure", None, False),
    ],
)
async def test_who_is_given_a_cookie(
    tmp_path: Path, claims: dict[str, Any], headers: str, listener: str, source: str | None, remembered: bool
) -> None:
    rules = "  - {name: anybody, when: {home: unknown}, allow: {providers: open}}\n"
    async with house(tmp_path, SOURCES, rules) as home:
        lines = "\r\n".join(filter(None, (bearer(**claims), headers)))
        asked = request("/", xff=None, headers=lines)
        response = await (home.ask(asked, listener, source) if source else home.ask(asked, listener))
        assert response.status == 200
        assert bool(cookie_of(response)) is remembered


async def test_homes_that_are_stated_or_guessed_are_not_remembered(tmp_path: Path) -> None:
    sources = SOURCES + "    - location: {accounts: false}\n  stated: [{when: {listener: intranet}, home: eu}]\n"
    https = "X-Forwarded-Proto: https"
    async with house(tmp_path, sources) as home:
        stated = await home.ask(request("/", xff=None, headers=f"{bearer()}\r\n{https}"), "intranet", PROXY)
        assert (stated.body, stated.header("set-cookie")) == (b"eu", None)
        guessed = await home.ask(request("/", xff=GERMANY, headers=https), "edge", PROXY)
        assert (guessed.body, guessed.header("set-cookie")) == (b"eu", None)
        told = await home.ask(request("/", xff=GERMANY, headers=f"{bearer()}\r\n{https}"), "edge", PROXY)
        assert (told.body, bool(cookie_of(told))) == (b"cn", True), "it would be"
        cookie = held(cookie_of(told))
        abroad = await home.ask(request("/", xff=GERMANY, headers=f"{cookie}\r\n{https}"), "edge", PROXY)
        assert abroad.body == b"cn", "and goes before the address"
        records = await home.records(4)
        assert [record["source"] for record in records] == ["stated", "location", "jwt", "home_cookie"]


async def test_an_expired_cookie_is_silence_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = (
        SOURCES.replace("keys: [home.key]", "keys: [home.key], max_age: 1h") + "    - location: {accounts: false}\n"
    )
    https = "X-Forwarded-Proto: https"
    async with house(tmp_path, sources) as home:
        cookies = home.plane.line.sources.home_cookies
        assert cookies is not None
        past = cookies.line("cn-mainland", "storage.example", time.time() - 7200).decode().split("; ")[0]
        expired = past.replace("Set-Cookie", "Cookie")
        answer = await home.ask(request("/", xff=GERMANY, headers=f"{expired}\r\n{https}"), "edge", PROXY)
        assert (answer.status, answer.body) == (200, b"eu"), "the next source is asked"
        assert cookie_of(answer) == ""
        half = cookies.line("cn-mainland", "storage.example", time.time() - 2400).decode().split("; ")[0]
        late = f"{half.replace('Set-Cookie', 'Cookie')}\r\n{https}"
        used = await home.ask(request("/", xff=GERMANY, headers=late), "edge", PROXY)
        assert (used.body, cookie_of(used)) == (b"cn", None), "no request of its own prolongs it"
        renewed = await home.ask(request("/", xff=GERMANY, headers=f"{bearer()}\r\n{late}"), "edge", PROXY)
        assert cookie_of(renewed), "a stronger source does, past half of its life"


async def test_keys_rotate_over_a_reload(tmp_path: Path) -> None:
    (tmp_path / "next.key").write_text(KEY[::-1])
    async with house(tmp_path, SOURCES) as home:
        old = held(cookie_of(await home.ask(request("/", xff=None, headers=bearer()), "secure")))
        home.reload(SOURCES.replace("[home.key]", "[next.key, home.key]"))
        assert (await home.ask(request("/", xff=None, headers=old), "secure")).body == b"cn"
        home.reload(SOURCES.replace("[home.key]", "[next.key]"))
        gone = await home.ask(request("/", xff=None, headers=old), "secure")
        assert (gone.status, cookie_of(gone)) == (401, "")
        assert (await home.ask(request("/", xff=None), "secure")).reason == "home-unknown", "and without it, as before"


async def test_a_provider_cannot_set_it(tmp_path: Path) -> None:
    async with house(tmp_path, SOURCES) as home:
        lines = b"Set-Cookie: __Host-home=1.x; Path=/; Secure\r\nset-cookie:__Host-home =y\r\nSet-Cookie: session=1\r\n"
        home.providers["cn"].script = answering(b"cn", head=lines)
        cookie = held(cookie_of(await home.ask(request("/", xff=None, headers=bearer(residency="DE")), "secure")))
        told = await home.ask(request("/", xff=None, headers=f"{bearer()}\r\n{cookie}"), "secure")
        fields = [value for name, value in told.headers if name == "set-cookie"]
        assert len(fields) == 2
        assert fields[0] == "session=1"
        assert ".cn-mainland." in fields[1], "ours alone"


async def test_staff_abroad_read_and_do_not_write(tmp_path: Path) -> None:
    sources = f"""
  sources:
    - jwt: {JWT % ""}
    - location: {{accounts: true}}
  stated: [{{when: {{listener: intranet}}, home: eu}}]
"""
    rules = """
  - {name: support-reads-only, when: {home: eu, actor: support, method: write}, unless: {country: EEA}, forbid: any}
"""
    staff = bearer(act={"role": "support"})
    async with house(tmp_path, sources, rules) as home:
        for method, where, status in (
            ("GET", MAINLAND, 200),
            ("HEAD", MAINLAND, 200),
            ("PUT", MAINLAND, 451),
            ("DELETE", MAINLAND, 451),
            ("PUT", GERMANY, 200),
            ("PUT", "unknown", 451),
        ):
            client = await home.client("intranet", PROXY)
            await client.send(request("/", method=method, xff=where, headers=staff, body=b""))
            response = await client.response(method)
            assert response.status == status, (method, where)
        assert home.touched() == {"eu": 3}
        guessing = await home.ask(request("/", xff=GERMANY, headers=staff), "edge", PROXY)
        assert guessing.reason == "home-unknown", "where staff are says nothing of whose data it is"
        own = await home.ask(request("/", method="PUT", xff=MAINLAND, headers=bearer(), body=b""), "intranet", PROXY)
        assert own.body == b"eu", "the subject may write from anywhere"


async def test_an_account_without_a_home_is_not_where_its_device_is(tmp_path: Path) -> None:
    sources = SOURCES + "    - location: {accounts: false}\n"
    async with house(tmp_path, sources) as home:
        cookie = held(cookie_of(await home.ask(request("/", xff=None, headers=bearer()), "secure")))
        lines = f"{bearer(residency=..., sub='another')}\r\n{cookie}"
        answer = await home.ask(request("/", xff=GERMANY, headers=lines), "edge", PROXY)
        assert (answer.status, answer.reason) == (451, "home-unknown"), "nor where its device was at home once"


async def test_a_reload_while_a_request_waits_for_keys(tmp_path: Path) -> None:
    async with key_server(tmp_path) as issuer:
        issuer.gate.clear()
        by_url = JWT.replace("jwks.json", f'{{url: "{issuer.url}", ca: {issuer.ca}, timeout: 5s}}') % ""
        sources = f"  sources:\n    - jwt: {by_url}\n"
        async with house(tmp_path, sources) as home:
            client = await home.client()
            await client.send(request("/", xff=None, headers=bearer()))
            await issuer.met.wait()
            issuer.met.clear()
            home.reload(sources.replace("timeout: 5s", "timeout: 6s"))
            await issuer.met.wait()
            issuer.gate.set()
            assert (await client.response()).body == b"cn", "by the keys of the policy that is in force"
            assert home.touched() == {"cn": 1}
            assert len(issuer.fetches) == 2


async def test_keys_by_url_over_real_sockets(tmp_path: Path) -> None:
    async with key_server(tmp_path) as issuer:
        issuer.gate.clear()
        by_url = JWT.replace("jwks.json", f'{{url: "{issuer.url}", ca: {issuer.ca}, timeout: 2s}}') % ""
        sources = f"  sources:\n    - jwt: {by_url}\n    - location: {{accounts: false}}\n"
        async with house(tmp_path, sources) as home:
            asked = request("/", xff=GERMANY, headers=bearer())
            client = await home.client("edge", PROXY)
            await client.send(asked)
            await issuer.met.wait()
            others = await home.ask(request("/", xff=GERMANY), "edge", PROXY)
            assert others.body == b"eu", "who shows no token does not wait"
            issuer.gate.set()
            assert (await client.response()).body == b"cn", "once the first set is there"
            assert home.metric("domicile_key_set_age_seconds", issuer="https://id.example") < 60
            assert home.metric("domicile_source_duration_seconds_count", source="jwt") == 1
            home.reload(sources, SIGN_IN)
            assert (await home.ask(asked, "edge", PROXY)).body == b"cn"
            assert len(issuer.fetches) == 1, "the key set carried over"
            issuer.gate.clear()
            home.reload(sources.replace("timeout: 2s", "timeout: 1s"), SIGN_IN)
            await issuer.stop()
            issuer.gate.set()
            failing = await home.ask(request("/", xff=GERMANY, headers=bearer(sub="b")), "edge", PROXY)
            assert (failing.status, failing.reason) == (503, "source-unavailable"), "never where the address is"
            assert failing.header("retry-after") is not None
            assert home.touched() == {"cn": 2, "eu": 1}
            await issuer.start()
