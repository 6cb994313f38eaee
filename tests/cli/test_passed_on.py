"""What `check` and `explain` say of listeners that pass connections on."""

import json
from pathlib import Path

import pytest

from tests.cli.policies import run, run_json, write

PASSING = """\
version: 1
zones:
  eu: {countries: [EEA]}
  rest: {countries: ["*"]}
providers:
  web: {operator: Ours Inc, zone: eu, endpoints: ["https://web.example", "tls://web.example:443"]}
  pg: {operator: Ours Inc, zone: eu, endpoints: ["tcp://pg.example:5432"], send_proxy: v2}
  far: {operator: Ours Inc, zone: rest, endpoints: ["https://far.example"]}
subject:
  trusted_proxies: 10.0.0.0/8
  sources: [{location: {}}]
  stated: [{when: {listener: pg-eu}, home: eu}]
rules:
  - {name: europe, when: {home: eu}, allow: {providers: [web, pg]}}
  - {name: others, when: {home: rest}, allow: rest}
  - {name: named, when: {home: eu, host: web.example}, only: {providers: web}}
  - {name: reading, when: {home: eu, path: /pay/*}, only: {providers: web}}
listeners:
  - {name: edge, bind: "127.0.0.1:8080"}
  - {name: pass, bind: "127.0.0.1:9443", protocol: tls}
  - {name: pg-eu, bind: "127.0.0.1:5432", protocol: tcp, proxy_protocol: optional}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return write(tmp_path, PASSING)


def test_check_prints_what_is_passed_on_and_finds_who_is_not_served(policy: Path) -> None:
    result = run("check", policy)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "  pg   Ours Inc, in eu    tcp://pg.example:5432" in lines
    assert "  pass   tls, passed on  127.0.0.1:9443" in lines
    assert "  pg-eu  tcp, passed on  127.0.0.1:5432" in lines
    said = "no endpoint of the providers that are permitted to home rest serves tls listeners"
    assert f"{policy}:20:5: {said}" in lines
    assert result.stderr.endswith("policy.yaml: 1 finding\n")


def test_the_same_as_json(policy: Path) -> None:
    result = run("check", policy, "--json")
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert (shown["ok"], shown["mistakes"], [each["line"] for each in shown["findings"]]) == (False, [], [20])
    assert shown["providers"][1]["endpoints"] == ["tcp://pg.example:5432"]
    assert [each["send_proxy"] for each in shown["providers"]] == ["none", "v2", "none"]
    assert [(each["protocol"], each["proxy_protocol"]) for each in shown["listeners"]] == [
        ("http", "none"),
        ("tls", "none"),
        ("tcp", "optional"),
    ]


@pytest.mark.parametrize(
    ("given", "permitted"),
    [
        ({"listener": "pass", "host": "other.example", "ech": True}, ["web"]),
        ({"listener": "pass", "source": "directory"}, ["web"]),
        ({"listener": "pg-eu", "source": "stated"}, ["web"]),
        ({"listener": "pg-eu", "upgrade": False, "client": "192.0.2.1"}, ["web"]),
        ({"listener": "edge", "host": "other.example", "path": "/"}, ["web", "pg"]),
        # Without a listener all facts may be known.
        ({"host": "other.example", "path": "/", "method": "GET"}, ["web", "pg"]),
    ],
)
def test_explain_decides_what_a_connection_can_have(
    policy: Path, given: dict[str, object], permitted: list[str]
) -> None:
    shown = run_json("explain", policy, "--facts", "-", stdin=json.dumps({"home": "eu"} | given))
    assert shown["permitted"] == permitted


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listener", "pass", "--path", "/x"], ["--path: {pass} have none, leave it out"]),
        (["--listener", "pass", "--upgrade"], ["--upgrade: {pass} have none, leave it out"]),
        (["--listener", "pass", "--source", "jwt"], ["--source: {pass} show nothing to `jwt`, leave it out"]),
        (["--listener", "pass", "--source", "home_cookie"], ["--source: {pass} show nothing to `home_cookie`"]),
        (["--listener", "pg-eu", "--source", "directory"], ["--source: {pg} show nothing to `directory`"]),
        (["--listener", "pg-eu", "--host", "a.example"], ["--host: {pg} have none, leave it out"]),
        (["--listener", "pg-eu", "--no-ech"], ["--ech: {pg} have none, leave it out"]),
        (
            ["--method", "GET", "--path", "/x", "--listener", "pg-eu"],
            ["--path: {pg} have none", "--method: {pg} have none"],
        ),
    ],
)
def test_explain_refuses_what_no_connection_has(policy: Path, arguments: list[str], said: list[str]) -> None:
    whose = {
        "pass": "connections of listener `pass`, protocol tls,",
        "pg": "connections of listener `pg-eu`, protocol tcp,",
    }
    result = run("explain", policy, *arguments)
    assert result.exit_code == 2
    for each in said:
        assert each.format_map(whose) in result.stderr


def test_a_line_of_facts_is_refused_with_its_place(policy: Path, tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text('{"home": "eu"}\n{"listener": "pass", "path": "/x", "method": "GET"}\n')
    result = run("explain", policy, "--facts", str(file))
    assert result.exit_code == 2
    whose = "connections of listener `pass`, protocol tls, have none, leave it out"
    assert result.stderr.splitlines() == [f"{file}:2: path: {whose}", f"{file}:2: method: {whose}"]


def test_a_request_comes_in_by_a_listener_that_reads_requests(policy: Path) -> None:
    request = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
    asked = ("explain", policy, "--request", "-", "--client", "192.0.2.1")
    result = run(*asked, "--listener", "pass", stdin=request)
    assert result.exit_code == 2
    assert "--listener: pass passes tls on and reads no requests" in result.stderr
    without = policy.read_text().replace('  - {name: edge, bind: "127.0.0.1:8080"}\n', "")
    policy.write_text(without)
    result = run(*asked, stdin=request)
    assert result.exit_code == 2
    assert "no listener that a request could come in by" in result.stderr
