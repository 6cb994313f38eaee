"""Key sets by URL, as `domicile serve` runs them: starting without an issuer, reloading, counting, ending."""

import urllib.request
from pathlib import Path

import pytest

from tests.http1.staging import request
from tests.identity.bad_inputs.tokens import bearer, made
from tests.identity.key_server import KeyServer
from tests.identity.threaded import Issuer, ask, provider
from tests.running import Running, start

POLICY = """
version: 1
zones: {cn: {countries: [CN]}, rest: {countries: ["*"]}}
providers:
  telecom: {operator: China Telecom, zone: cn, endpoints: ["http://127.0.0.1:PORT"]}
subject:
  sources:
    - jwt:
        jwks: {url: "URL", ca: CA, timeout: 2s}
        issuer: https://id.example
        audience: storage
        home_claim: residency
    - location: {accounts: false}
rules: [{name: china, when: {home: cn}, allow: cn}]
listeners: [{name: edge, bind: "127.0.0.1:0"}]
log: {path: access.log}
admin: {bind: "127.0.0.1:0"}
"""


def policy(issuer: KeyServer, telecom: int, *, away: bool = False) -> str:
    url = issuer.url.replace(f":{issuer.port}/", ":1/") if away else issuer.url
    return POLICY.replace("URL", url).replace("CA", str(issuer.ca)).replace("PORT", str(telecom))


def metrics(proxy: Running) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{proxy.admin}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


ANSWERS = 'domicile_source_answers_total{answer="%s",source="jwt"}'
FETCHES = 'domicile_source_duration_seconds_count{source="jwt"}'


@pytest.mark.parametrize("away", [False, True])
def test_it_starts_reloads_and_ends(tmp_path: Path, away: bool) -> None:
    with (
        Issuer(tmp_path) as issuer,
        provider() as telecom,
        start(policy(issuer, telecom, away=away), tmp_path) as proxy,
    ):
        if away:
            assert ask(proxy, bearer(made())) == 503, "it serves, and tells whoever shows a token"
            assert ask(proxy, request("/", xff=None)) == 451
            proxy.await_line("key set of https://id.example: cannot be fetched (unreachable), there are none")
            assert proxy.reload(policy(issuer, telecom))
        assert ask(proxy, bearer(made())) == 200
        assert ask(proxy, bearer(made()[:-4] + "AAAA")) == 401
        before = metrics(proxy)
        assert before[ANSWERS % "home"] == 1
        assert before[ANSWERS % "invalid"] == 1
        assert before[ANSWERS % "unavailable"] == away
        assert before[FETCHES] >= 1 + away
        assert 0 <= before['domicile_key_set_age_seconds{issuer="https://id.example"}'] < 60
        assert len(issuer.fetches) == 1
        assert proxy.reload(policy(issuer, telecom) + "# the same\n")
        assert ask(proxy, bearer(made(sub="another"))) == 200
        after = metrics(proxy)
        assert after[ANSWERS % "home"] == 2, "counters go on"
        assert len(issuer.fetches) == 1, "and so do keys"
        assert not proxy.reload(policy(issuer, telecom).replace("cn: {", "cn: [", 1)), "a reload that is refused"
        assert ask(proxy, bearer(made(sub="third"))) == 200
        said = "\n".join(proxy.said) + proxy.log.read_text()
        assert not any(part in said for part in made().split("."))
        assert "acct-7f3a" not in said
