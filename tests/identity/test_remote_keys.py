"""Key sets by URL, against a real server: fetched before they are needed, kept while it is away, at a bounded rate."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.identity.answers import Answer, Home, Invalid, Pending, Silent, Unavailable
from proxy.identity.counts import SourceCount
from proxy.identity.evidence import Evidence
from proxy.identity.jwt import JwtSource
from proxy.identity.keyset import LARGEST_KEY_SET
from proxy.identity.refused import SourceRefused
from proxy.identity.remote_keys import FIRST_RETRY, INTERVAL, RemoteKeys
from proxy.policy.subject import Jwt, KeySetUrl
from tests.authority import make_authority
from tests.identity import tokens
from tests.identity.key_server import Answer as Said
from tests.identity.key_server import KeyServer, endless, key_server, redirected, saying, silent
from tests.identity.tokens import NOW, token

HOME = Home("CN", "acct-7f3a", "subject", NOW + 630)
ANOTHER = "https://other.example"


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Opened:
    """A source whose keys a server publishes."""

    def __init__(self, jwks: KeySetUrl, **changes: Any) -> None:
        settings = {
            "jwks": jwks,
            "issuer": tokens.ISSUER,
            "audience": tokens.AUDIENCE,
            "subject_claim": "sub",
            "home_claim": "residency",
            "actor_claim": "act.role",
            "leeway": 30.0,
            "forward": True,
        }
        self.clock = Clock()
        self.count = SourceCount()
        self.keys = RemoteKeys(jwks, tokens.ISSUER, self.count, self.clock)
        definition = Jwt(**(settings | changes))
        self.source = JwtSource(definition, self.keys, frozenset({"support"}), frozenset({ANOTHER}), self.count)

    def ask(self, text: bytes) -> Answer:
        return self.source.answer(Evidence(((b"authorization", b"Bearer " + text),)), Silent(), NOW)

    async def answer(self, text: bytes) -> Answer:
        """The answer, once nothing is awaited any more."""
        for _ in range(4):
            answer = self.ask(text)
            if not isinstance(answer, Pending):
                return answer
            async with asyncio.timeout(20):
                await answer.ready
        raise AssertionError("it is awaited for ever")

    async def fetched(self) -> None:
        """Until no fetch is under way."""
        while (ready := self.keys.coming()) is not None:
            await ready


@asynccontextmanager
async def by_url(issuer: KeyServer, **changes: Any) -> AsyncIterator[Opened]:
    opened = Opened(issuer.settings(**changes))
    try:
        yield opened
    finally:
        await opened.source.close()


def signed_by(which: int, kid: str, **claims: Any) -> bytes:
    """A token by the which-th Ed25519 key."""
    header = {"alg": "EdDSA", "kid": kid}
    return tokens.sealed(
        json.dumps(header).encode(), json.dumps(tokens.claims(**claims)).encode(), lambda it: tokens.eddsa(it, which)
    )


async def test_a_token_waits_for_the_first_set(tmp_path: Path) -> None:
    async with key_server(tmp_path) as issuer, by_url(issuer) as opened:
        issuer.gate.clear()
        opened.source.begin()
        first, second = opened.ask(token()), opened.ask(token(sub="another"))
        assert isinstance(first, Pending)
        assert isinstance(second, Pending)
        assert first.ready is second.ready, "one fetch for all"
        issuer.gate.set()
        assert await opened.answer(token()) == HOME
        assert len(issuer.fetches) == 1
        assert opened.keys.age() == 0
        assert sum(opened.count.counts) == 1


async def test_other_credentials_do_not_wait(tmp_path: Path) -> None:
    async with key_server(tmp_path) as issuer, by_url(issuer) as opened:
        issuer.gate.clear()
        opened.source.begin()
        assert isinstance(opened.ask(token()), Pending), "keys are awaited"
        assert opened.ask(b"a.b") == Invalid("jwt", "malformed")
        assert opened.ask(token(iss=ANOTHER)) == Silent(), "another source's, whatever our issuer does"
        assert opened.source.answer(Evidence(()), Silent(), NOW) == Silent()
        assert opened.ask(token(header={"alg": "none"})) == Invalid("jwt", "algorithm")


async def test_what_it_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with key_server(tmp_path) as issuer, by_url(issuer) as opened:
        issuer.answer = saying(issuer.content, **{"Set-Cookie": "a=b; Path=/"})
        assert await opened.answer(token()) == HOME
        opened.clock.now += INTERVAL
        assert await opened.answer(token(header={"kid": "new"})) == Invalid("jwt", "key")
        assert len(issuer.fetches) == 2
        for head in issuer.fetches:
            assert head["Accept-Encoding"] == "identity"
            assert not {"Cookie", "Authorization", "Proxy-Authorization"} & set(head)


async def test_a_key_set_on_loopback_without_tls(tmp_path: Path) -> None:
    async with key_server(tmp_path, tls=False) as issuer, by_url(issuer) as opened:
        assert await opened.answer(token()) == HOME


async def test_rotation_at_a_bounded_rate(tmp_path: Path) -> None:
    async with key_server(tmp_path) as issuer, by_url(issuer) as opened:
        assert await opened.answer(token()) == HOME
        issuer.publish(tokens.ed_jwk(kid="d"), tokens.ed_jwk(1, kid="new"))
        rotated = signed_by(1, "new")
        assert await opened.answer(rotated) == Invalid("jwt", "key"), "it was fetched a moment ago"
        assert len(issuer.fetches) == 1
        opened.clock.now += INTERVAL
        issuer.gate.clear()
        waiting = [opened.ask(signed_by(1, f"made-up-{number}")) for number in range(100)]
        assert all(isinstance(each, Pending) for each in waiting), "while one refresh runs"
        assert opened.ask(token()) == HOME, "known keys do not wait"
        issuer.gate.set()
        assert await opened.answer(rotated) == HOME
        for number in range(100):
            assert await opened.answer(signed_by(1, f"made-up-{number}")) == Invalid("jwt", "key")
        assert len(issuer.fetches) == 2, "whatever strangers send"
        issuer.publish(tokens.ed_jwk(1, kid="new"))
        opened.clock.now += INTERVAL
        assert await opened.answer(signed_by(1, "third")) == Invalid("jwt", "key")
        assert await opened.answer(token()) == Invalid("jwt", "key"), (
            "a key that was taken away, and remembered tokens with it"
        )
        assert await opened.answer(rotated) == HOME


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 31},
        {"aud": "another"},
        {"iss": "https://stranger.example"},
        {"sub": ""},
        {"act": {"role": "king"}},
        {"header": {"kid": 7}},
        {"header": {"kid": "d", "alg": "ES256"}},
    ],
)
async def test_nobody_is_asked_about_tokens_that_would_not_do(tmp_path: Path, changes: dict[str, Any]) -> None:
    async with key_server(tmp_path) as issuer, by_url(issuer) as opened:
        assert await opened.answer(token()) == HOME
        opened.clock.now += INTERVAL
        header = changes.pop("header", {"kid": "new"})
        assert opened.ask(token(header=header, **changes)) == Invalid("jwt", "key")
        assert len(issuer.fetches) == 1
        assert isinstance(opened.ask(token(header={"kid": "new"})), Pending), "about a good one it would be"


async def test_places_of_keys_in_a_token_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    async with key_server(tmp_path) as issuer, key_server(tmp_path / "evil") as evil, by_url(issuer) as opened:
        evil.publish(tokens.ed_jwk(1, kid="evil"))
        assert await opened.answer(token()) == HOME
        opened.clock.now += INTERVAL
        for name in ("jku", "x5u"):
            text = token(header={"kid": "evil", name: evil.url})
            assert await opened.answer(text) == Invalid("jwt", "key")
            assert await opened.answer(token(header={name: evil.url})) == HOME
        assert evil.fetches == []
        async with by_url(evil) as other:
            assert await other.answer(signed_by(1, "evil")) == HOME, "it could be reached"


FAULTS: dict[str, tuple[Said, str]] = {
    "redirect": (redirected, "redirect"),
    "server error": (saying(b"", 500), "status"),
    "not found": (saying(b"", 404), "status"),
    "no content": (saying(b"", 204), "status"),
    "garbage": (saying(b"<html>"), "judged"),
    "empty": (saying(b""), "judged"),
    "a name twice": (saying(b'{"keys": [], "keys": []}'), "judged"),
    "no usable key": (saying(tokens.key_set(tokens.ed_jwk(kid="d", use="enc"))), "judged"),
    "a private key": (saying(tokens.key_set(tokens.ed_jwk(kid="d", d="AAAA"))), "judged"),
    "a symmetric key": (saying(tokens.key_set({"kty": "oct", "k": "AAAA"}, tokens.ed_jwk(kid="d"))), "judged"),
    "one kid twice": (saying(tokens.key_set(tokens.ed_jwk(kid="d"), tokens.ed_jwk(1, kid="d"))), "judged"),
    "huge": (saying(b" " * LARGEST_KEY_SET + tokens.key_set(tokens.ed_jwk(kid="d"))), "oversize"),
    "endless": (endless, "oversize"),
    "compressed": (saying(b"\x1f\x8b\x08", **{"Content-Encoding": "gzip"}), "judged"),
    "slow": (silent, "timeout"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_bad_answer_changes_nothing(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    answer, fault = FAULTS[name]
    async with key_server(tmp_path) as issuer, by_url(issuer, timeout=0.5, keep=3600.0) as opened:
        good = issuer.answer
        issuer.answer = answer
        with caplog.at_level(logging.INFO, "domicile.identity"):
            assert await opened.answer(token()) == Unavailable("jwt", "key-set"), "there never was a set"
        assert f"({fault})" in caplog.text
        assert "/elsewhere" not in caplog.text
        issuer.answer = good
        opened.clock.now += INTERVAL
        assert opened.keys.look_again() is not None
        assert await opened.answer(token()) == HOME
        issuer.answer = answer
        opened.clock.now += INTERVAL
        fetches = len(issuer.fetches)
        unknown = await opened.answer(token(header={"kid": "new"}))
        assert unknown == Unavailable("jwt", "key-set"), "the issuer may have such a key, and nobody can tell"
        assert len(issuer.fetches) == fetches + 1, "a redirect is not followed"
        assert await opened.answer(token()) == HOME, "the keys that are here go on"
        opened.clock.now += 3600
        assert opened.ask(token()) == Unavailable("jwt", "key-set"), "for as long as the policy says"
        assert opened.keys.age() is None


async def test_an_outage_and_its_end(tmp_path: Path) -> None:
    async with key_server(tmp_path) as issuer, by_url(issuer, keep=100.0, max_age=0.4, timeout=0.3) as opened:
        assert await opened.answer(token()) == HOME
        await issuer.stop()
        while not opened.keys.failing:
            await asyncio.sleep(0.02)
        opened.clock.now += 99
        assert opened.ask(token()) == HOME
        opened.clock.now += 1
        assert await opened.answer(token()) == Unavailable("jwt", "key-set")
        await issuer.start()
        while opened.keys.failing:
            await asyncio.sleep(0.02)
        assert await opened.answer(token()) == HOME


async def test_it_is_fetched_again_before_it_is_too_old(tmp_path: Path) -> None:
    async with key_server(tmp_path) as issuer, by_url(issuer, max_age=0.2, timeout=0.1) as opened:
        opened.source.begin()
        opened.source.begin()
        async with asyncio.timeout(20):
            while len(issuer.fetches) < 4:
                await asyncio.sleep(0.02)
        assert await opened.answer(token()) == HOME, "and nobody had to ask"


@pytest.mark.parametrize("case", ["another authority", "another name"])
async def test_a_server_that_is_not_verified(tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "other").mkdir()
    other = make_authority(tmp_path / "other").certificate
    async with key_server(tmp_path, names=case != "another name") as issuer:
        changes = {"ca": other} if case == "another authority" else {}
        async with by_url(issuer, **changes) as opened:
            assert await opened.answer(token()) == Unavailable("jwt", "key-set")
            assert "(tls)" in caplog.text
            assert issuer.fetches == []


async def test_nobody_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with key_server(tmp_path) as issuer, by_url(issuer) as opened:
        await issuer.stop()
        assert await opened.answer(token()) == Unavailable("jwt", "key-set")
        assert opened.ask(token()) == Unavailable("jwt", "key-set"), "at once, until the next try"
        assert "(unreachable)" in caplog.text
        await issuer.start()
        async with asyncio.timeout(FIRST_RETRY + 20):
            while opened.keys.failing:
                await asyncio.sleep(0.02)
        assert await opened.answer(token()) == HOME


async def test_who_waits_is_told_when_it_is_closed(tmp_path: Path) -> None:
    async with key_server(tmp_path) as issuer:
        issuer.gate.clear()
        opened = Opened(issuer.settings())
        waiting = opened.ask(token())
        assert isinstance(waiting, Pending)
        await issuer.met.wait()
        await opened.source.close()
        async with asyncio.timeout(5):
            await waiting.ready
        assert opened.ask(token()) == Unavailable("jwt", "key-set")
        await opened.source.close()
        assert len(issuer.fetches) == 1


def test_an_authority_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    for path in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(SourceRefused, match=r"cannot be used as a CA"):
            RemoteKeys(KeySetUrl("https://id.example/", path), tokens.ISSUER, SourceCount())
