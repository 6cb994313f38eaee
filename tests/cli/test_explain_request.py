"""`domicile explain --request`: who is asked about a raw request, what they say, and what follows."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.asking import read_head
from tests.cli.policies import run
from tests.identity import tokens
from tests.identity.bad_inputs.cookies import KEY
from tests.identity.bad_inputs.cookies import made as cookie
from tests.identity.bad_inputs.tokens import made as token
from tests.identity.key_server import KeyServer
from tests.identity.threaded import Issuer

JWT = "issuer: 'https://id.example', audience: storage, home_claim: residency, actor_claim: act.role"
POLICY = """\
version: 1
zones:
  eu: {countries: [EEA]}
  cn: {countries: [CN]}
  rest: {countries: ["*"]}
providers:
  ours: {operator: Ours Inc, zone: eu, endpoints: ["https://ours.example"]}
  telecom: {operator: China Telecom, zone: cn, endpoints: ["https://ct.example"]}
subject:
  trusted_proxies: [10.0.0.0/8]
  sources:
    - jwt: {jwks: JWKS, CLAIMS}
    - home_cookie: {keys: home.key}
    - location: {accounts: false}
  stated: [{when: {host: stated.example}, home: eu}]
  actors: [support]
rules:
  - {name: china, when: {home: cn}, allow: cn}
  - {name: europe, when: {home: eu}, allow: eu}
  - {name: payments, when: {home: eu, path: /pay/*}, allow: eu}
listeners:
  - {name: edge, bind: "0.0.0.0:8443"}
  - {name: inner, bind: "0.0.0.0:8444"}
"""


def written(folder: Path, jwks: str = "jwks.json") -> Path:
    tokens.written(folder, tokens.all_keys())
    (folder / "home.key").write_bytes(KEY)
    path = folder / "policy.yaml"
    path.write_text(POLICY.replace("JWKS", jwks).replace("CLAIMS", JWT))
    return path


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return written(tmp_path)


def head(*lines: str, target: str = "/", host: str = "storage.example") -> str:
    return "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {host}", *lines, "", ""])


def asked(policy: Path, request: str, *options: str, client: str = "192.0.2.1") -> Any:
    file = policy.parent / "request.txt"
    file.write_bytes(request.encode("latin-1"))
    result = run("explain", policy, "--request", file, "--client", client, "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def said(shown: Any) -> list[tuple[str, str, str | None]]:
    return [(each["source"], each["answer"], each["why"]) for each in shown["sources"]]


def bearer(text: str) -> str:
    return "Authorization: Bearer " + text


NONE = ("jwt", "silent", "no-credential")
NO_COOKIE = ("home_cookie", "silent", "no-credential")


def test_a_home_and_its_decision(policy: Path) -> None:
    shown = asked(policy, head(bearer(token())))
    assert shown["sources"] == [{"source": "jwt", "answer": "home", "why": None, "home": "cn", "actor": "subject"}]
    assert (shown["outcome"], shown["permitted"], shown["home"]) == ("permit", ["telecom"], "cn")
    assert [rule["rule"] for rule in shown["rules"]] == ["china", "europe", "payments"]
    assert shown["request"] == {
        "listener": "edge",
        "tls": False,
        "peer": "192.0.2.1",
        "trusted": False,
        "client": "192.0.2.1",
        "country": "unknown",
        "method": "GET",
        "host": "storage.example",
        "path": "/",
    }


@pytest.mark.parametrize(
    ("lines", "sources", "outcome"),
    [
        ([], [NONE, NO_COOKIE, ("location", "home", None)], ("permit", None)),
        (
            ["Authorization: Basic eDp5"],
            [("jwt", "silent", "other-scheme"), NO_COOKIE, ("location", "home", None)],
            ("permit", None),
        ),
        ([bearer(token()[:-4] + "AAAA")], [("jwt", "invalid", "signature")], ("refusal", "credential-invalid")),
        ([bearer(token(residency="ZZ"))], [("jwt", "invalid", "home")], ("refusal", "credential-invalid")),
        ([f"Cookie: __Host-home={cookie('eu')}"], [NONE, ("home_cookie", "home", None)], ("permit", None)),
        (["Cookie: __Host-home=x"], [NONE, ("home_cookie", "invalid", "signature")], ("refusal", "credential-invalid")),
    ],
    ids=range(6),
)
def test_who_is_asked(policy: Path, lines: list[str], sources: Any, outcome: tuple[str, str | None]) -> None:
    shown = asked(policy, head(*lines), client="1.2.4.8")
    assert said(shown) == sources
    assert (shown["outcome"], shown["reason"]) == outcome
    assert ("permitted" in shown) is (outcome[0] == "permit")


def test_staff_and_accounts(policy: Path) -> None:
    staff = asked(policy, head(bearer(token(act={"role": "support"}))), client="1.2.4.8")
    assert said(staff)[0] == ("jwt", "silent", "staff")
    assert staff["sources"][0]["actor"] == "support"
    assert (staff["outcome"], staff["reason"]) == ("denial", "home-unknown")
    account = asked(policy, head(bearer(token(residency=...)), f"Cookie: __Host-home={cookie()}"), client="1.2.4.8")
    assert said(account)[:2] == [("jwt", "silent", "no-home"), ("home_cookie", "silent", "account")]
    assert said(account)[2][:2] == ("location", "silent")


def test_a_stated_home_is_shown(policy: Path) -> None:
    shown = asked(policy, head(bearer(token()), host="Stated.Example:8443"))
    assert (shown["home"], said(shown)) == ("eu", [("jwt", "home", None)])
    text = run("explain", policy, "--request", "-", "--client", "192.0.2.1", stdin=head(host="stated.example")).stdout
    assert "stated: home eu, before any source" in text


def test_the_address_behind_trusted_proxies(policy: Path) -> None:
    shown = asked(policy, head("X-Forwarded-For: 9.9.9.9, 1.2.4.8, 10.0.0.7"), client="10.0.0.1")
    assert (shown["request"]["client"], shown["request"]["country"]) == ("1.2.4.8", "CN")
    assert shown["request"]["trusted"] is True
    assert shown["home"] == "cn"
    forged = asked(policy, head("X-Forwarded-For: 1.2.4.8"), client="192.0.2.1")
    assert (forged["request"]["client"], forged["request"]["country"]) == ("192.0.2.1", "unknown")


def test_what_never_is_asked(policy: Path) -> None:
    for request, status, reason in (
        ("GET / HTTP/1.1\r\n\r\n", 400, "host-missing"),
        (head("Transfer-Encoding: x"), 501, None),
        (head(target="/a/%2e%2e/pay/x"), 400, "path-ambiguous"),
        (head("X: " + "y" * 40_000), 431, "head-too-large"),
    ):
        shown = asked(policy, request)
        assert (shown["outcome"], shown["status"]) == ("refusal", status)
        assert reason in (None, shown["reason"])
        assert shown["sources"] == []
    misdirected = asked(policy, head(), "--tls", "--sni", "other.example")
    assert (misdirected["status"], misdirected["reason"]) == (421, "host-disagrees-with-sni")
    assert asked(policy, head(), "--tls", "--sni", "STORAGE.example.")["request"]["tls"] is True


def test_when_and_where(policy: Path) -> None:
    later = "2100-01-01T00:00:00Z"
    assert said(asked(policy, head(bearer(token())), "--time", later)) == [("jwt", "invalid", "expired")]
    assert asked(policy, head(), "--listener", "inner")["request"]["listener"] == "inner"


def test_no_credential_is_shown(policy: Path) -> None:
    secret = token(sub="acct-secret-7")
    value = cookie()
    request = head(bearer(secret), f"Cookie: __Host-home={value}", "X-Token: hidden")
    for options in ((), ("--json",)):
        text = run("explain", policy, "--request", "-", "--client", "192.0.2.1", *options, stdin=request).output
        assert "acct-secret" not in text
        assert not any(part in text for part in (*secret.split("."), value.rpartition(".")[2], "hidden"))


def test_for_people(policy: Path) -> None:
    result = run("explain", policy, "--request", "-", "--client", "192.0.2.1", stdin=head(bearer(token())))
    lines = result.stdout.splitlines()
    assert lines[:4] == ["listener: edge", "tls: false", "peer: 192.0.2.1", "trusted: false"]
    assert "source jwt: home cn (verified: subject)" in lines
    assert "permit: telecom" in lines
    refused = run("explain", policy, "--request", "-", "--client", "192.0.2.1", stdin=head(bearer("x")))
    assert refused.exit_code == 0
    assert "source jwt: invalid, malformed\nrefusal: 401 credential-invalid\n" in refused.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--request", "-"], "--request needs --client"),
        (["--request", "-", "--client", "x"], "--client: `x` is no address"),
        (["--request", "-", "--client", "192.0.2.1", "--home", "eu"], "takes the place of --home"),
        (["--request", "-", "--client", "192.0.2.1", "--facts", "-"], "takes the place of --facts"),
        (["--request", "absent", "--client", "192.0.2.1"], "--request: absent cannot be read"),
        (["--request", "-", "--client", "192.0.2.1", "--listener", "egde"], "did you mean `edge`?"),
        (["--request", "-", "--client", "192.0.2.1", "--sni", "a b"], "--sni: `a b` is no host"),
        (["--request", "-", "--client", "192.0.2.1", "--certificate", "absent"], "--certificate: absent"),
        (["--home", "eu", "--offline"], "--offline without --request"),
        (["--home", "eu", "--sni", "a", "--tls"], "--sni, --tls without --request"),
    ],
)
def test_usage(policy: Path, options: list[str], text: str) -> None:
    result = run("explain", policy, *options, stdin=head())
    assert result.exit_code == 2
    assert text in result.output


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\nHost: a\n",
        b"GET / HTTP/1.1\r\nHost: a",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nbody: x\r\n\r\n",
    ],
)
def test_heads_in_files(text: bytes) -> None:
    assert read_head(text) == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[KeyServer]:
    with Issuer(tmp_path) as server:
        yield server


def test_keys_by_url_are_really_fetched_and_may_be_left_out(tmp_path: Path, issuer: KeyServer) -> None:
    policy = written(tmp_path, f"{{url: '{issuer.url}', ca: {issuer.ca}, timeout: 5s}}")
    offline = asked(policy, head(bearer(token())), "--offline", client="1.2.4.8")
    assert said(offline)[0] == ("jwt", "not-asked", "offline")
    assert said(offline)[2] == ("location", "home", None), "as if it were silent"
    assert issuer.fetches == []
    shown = asked(policy, head(bearer(token())))
    assert said(shown) == [("jwt", "home", None)]
    assert len(issuer.fetches) == 1


def test_an_issuer_that_is_away_is_no_reason_to_wait_long(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        policy = written(tmp_path, f"{{url: 'http://127.0.0.1:{silent.getsockname()[1]}/', timeout: 300ms}}")
        began = time.monotonic()
        shown = asked(policy, head(bearer(token())), client="1.2.4.8")
        assert time.monotonic() - began < 20
        assert said(shown) == [("jwt", "unavailable", "key-set")]
        assert (shown["outcome"], shown["status"], shown["reason"]) == ("refusal", 503, "source-unavailable")
