"""`domicile explain`: decisions, traces, facts from files, and its exit status."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.policies import GOOD, run, run_json, write

OPTIONS: dict[str, tuple[str, ...]] = {
    "--home": ("eu", "cn", "DE", "aq", "unknown", "x"),
    "--country": ("de", "US", "unknown", "XX"),
    "--class": ("payment", "unclassified", "pay"),
    "--host": ("Fast.Example:443", "[::1]:80", "a b"),
    "--path": ("/pay/x", "/%70ay/x?q", "pay", "/a/../b"),
    "--method": ("GET", "put", "read"),
    "--listener": ("edge", "egde"),
    "--client": ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1/24"),
    "--source": ("jwt", "stated", "none", "token"),
    "--actor": ("support", "subject", "unknown", "root"),
    "--time": ("2031-12-27T00:00:00Z", "2031-12-27", "now"),
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("policy"))


def explain(policy: Path, *arguments: str) -> Any:
    return run_json("explain", policy, *arguments, "--json")


def test_a_permit(policy: Path) -> None:
    shown = explain(policy, "--home", "eu", "--host", "FAST.example:8443", "--path", "/x")
    assert (shown["outcome"], shown["reason"]) == ("permit", None)
    assert shown["permitted"] == ["ours", "far"]
    assert shown["route"] == ["far", "ours"]
    assert (shown["home"], shown["class"]) == ("eu", "unclassified")
    assert [say["rule"] for say in shown["rules"]] == ["china", "europe", "others", "payments", "support-reads"]
    assert shown["rules"][1] == {
        "rule": "europe",
        "applies": True,
        "granted": ["ours", "far"],
        "narrowed": ["telecom"],
        "forbade": [],
        "because": "GDPR art. 44",
        "authority": "https://law.example/gdpr",
        "why_not": None,
    }
    assert shown["rules"][0]["why_not"] == "home is eu, not cn"
    assert shown["digest"].startswith("sha256:")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--home", "AQ"], "no-zone"),
        ([], "home-unknown"),
        (["--home", "eu", "--actor", "support", "--method", "PUT", "--country", "US"], "forbidden"),
    ],
)
def test_denials_exit_0_too(policy: Path, arguments: list[str], reason: str) -> None:
    shown = explain(policy, *arguments)
    assert (shown["outcome"], shown["reason"], shown["permitted"], shown["route"]) == ("denial", reason, [], [])


@pytest.mark.parametrize(
    ("arguments", "home"),
    [("cn", "cn"), ("CN", "cn"), ("de", "eu"), ("US", "rest"), ("aq", "AQ"), ("unknown", "unknown")],
)
def test_homes_are_zones_or_codes_in_any_case(policy: Path, arguments: str, home: str) -> None:
    assert explain(policy, "--home", arguments)["home"] == home


def test_facts_are_made_canonical_like_live_traffic(policy: Path) -> None:
    for path in ("/pay/x", "/%70ay/x", "/pay/?q=1", "/pay"):
        assert explain(policy, "--home", "eu", "--path", path)["class"] == "payment"
    assert explain(policy, "--home", "eu", "--path", "/Pay/x")["class"] == "unclassified"
    upgraded = ["--home", "eu", "--actor", "support", "--method", "GET", "--country", "us"]
    assert explain(policy, *upgraded)["outcome"] == "permit"
    assert explain(policy, *upgraded, "--upgrade")["reason"] == "forbidden"


def test_the_class_may_be_given(policy: Path) -> None:
    assert explain(policy, "--home", "eu", "--class", "payment", "--path", "/x")["permitted"] == ["ours"]


def test_the_trace_is_plain_when_piped(policy: Path) -> None:
    result = run(
        "explain",
        policy,
        "--home",
        "eu",
        "--host",
        "fast.example",
        "--path",
        "/x",
        "--time",
        "2031-01-01T00:00:00+08:00",
    )
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:-1] == [
        "permit: ours, far",
        "facts: home eu, country unknown, host fast.example, path /x, actor unknown, time 2030-12-31T16:00:00Z",
        "class: unclassified",
        "rule china (PIPL art. 40): does not apply, home is eu, not cn",
        "rule europe (GDPR art. 44): grants ours, far; leaves out telecom",
        "rule others: does not apply, home is eu, not rest",
        "rule payments: does not apply, class is unclassified, not payment",
        "rule support-reads: does not apply, actor is unknown, not support",
        "route: far 25%, ours 75% (by route 1)",
    ]


LIMITED = (
    GOOD
    + """\
rates:
  limits:
    - {name: each, rate: 0.5, burst: 20}
    - {name: writes, rate: 5, by: network, when: {method: write}}
    - {name: payments, rate: 1, when: {class: payment}}
"""
)


def test_limits_of_rate_that_what_is_permitted_has_to_pass(tmp_path: Path) -> None:
    policy = write(tmp_path, LIMITED)
    arguments = ("--home", "eu", "--host", "slow.example", "--path", "/x")
    assert explain(policy, *arguments, "--method", "GET")["limits"] == ["each"]
    assert explain(policy, *arguments)["limits"] == ["each", "writes"]  # the method is not known
    assert explain(policy, "--home", "AQ", *arguments[2:])["limits"] == []
    lines = run("explain", policy, *arguments).stdout.splitlines()
    assert lines[-3:-1] == [
        "limit each: 0.5 a second and 20 at once for each subject, or network where none is known",
        "limit writes: 5 a second and 5 at once for each network",
    ]


def test_a_denials_trace_names_its_laws(policy: Path) -> None:
    result = run("explain", policy, "--home", "eu", "--actor", "support", "--method", "PUT", "--country", "US")
    assert result.stdout.startswith("denial: forbidden, what the rules allowed is forbidden (by support-reads)\n")
    assert "rule support-reads: forbids ours, telecom, far\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--home", "europe"], "--home: `europe` is no home, write a zone (eu, cn, rest), an ISO code, or unknown"),
        (["--home", "euu"], "did you mean `eu`?"),
        (["--country", "UK"], "the United Kingdom is GB"),
        (["--class", "pay"], "`pay` is no class of the policy, did you mean `payment`?"),
        (["--host", "a b"], "`a b` is no host"),
        (["--path", "pay"], "`pay` has no canonical form, begin it with /"),
        (["--path", "/a/../b"], "is refused where a rule looks at paths"),
        (["--path", "/a b"], "has no canonical form"),
        (["--method", "get"], "`get` is no method, write `GET`"),
        (["--method", "write"], "requests have one method"),
        (["--listener", "egde"], "did you mean `edge`?"),
        (["--client", "10.0.0.0/8"], "is no address"),
        (["--client", "fe80::1%eth0"], "has a zone id"),
        (["--source", "token"], "is not among the choices"),
        (["--actor", "root"], "there are: subject, unknown, support"),
        (["--time", "2031-12-27"], "is a day, not a moment"),
        (["--time", "2031-12-27T00:00:00"], "has no offset"),
        (["--home", "eu", "--facts", "x"], "--facts takes the place of --home"),
        (["--frobnicate"], "No such option"),
        (["--facts", "absent.jsonl"], "absent.jsonl cannot be read: No such file or directory"),
    ],
)
def test_bad_facts_are_usage_errors_with_a_hint(policy: Path, arguments: list[str], said: str) -> None:
    result = run("explain", policy, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_all_bad_facts_at_once(policy: Path) -> None:
    result = run("explain", policy, "--home", "xx", "--method", "get", "--time", "now")
    assert [line.split(":")[0] for line in result.stderr.splitlines()[-3:]] == ["Error", "--method", "--time"]


def test_a_policy_with_mistakes_exits_1(tmp_path: Path) -> None:
    result = run("explain", write(tmp_path, "version: 2\n"), "--home", "nonsense", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "policy.yaml:1:10: version `2`" in result.stderr


def test_facts_from_a_file_one_line_out_for_each(policy: Path, tmp_path: Path) -> None:
    lines = [
        {"home": "cn"},
        {"home": "DE", "path": "/pay/x", "upgrade": False, "ech": True, "client": "192.0.2.1", "country": None},
        {"time": "2031-12-27T00:00:00Z", "source": "none", "listener": "edge"},
    ]
    file = tmp_path / "facts.jsonl"
    file.write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    result = run("explain", policy, "--facts", file)
    assert result.exit_code == 0
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["permitted"] for each in shown] == [["telecom"], ["ours"], []]
    assert shown[2]["reason"] == "home-unknown"
    piped = run("explain", policy, "--facts", "-", "--json", stdin=file.read_text())
    assert piped.stdout == result.stdout


def test_bad_lines_are_all_named_and_nothing_is_decided(policy: Path, tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text(
        '{"home": "cn"}\n{"home": 1, "hme": "x"}\n[]\n{"home": "cn", "home": "eu"}\n{oops}\n'
        '{"ech": "maybe"}\n{"upgrade": 1}\n'
    )
    result = run("explain", policy, "--facts", file)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{file}:2: home: `1` is not text, write it in quotes",
        f"{file}:2: hme: no such fact, did you mean `home`?",
        f'{file}:3: facts: not an object, write one such as {{"home": "eu"}}',
        f"{file}:4: facts: `home` is given twice",
        f"{file}:5: facts: not JSON, write one object on each line",
        f"{file}:6: ech: `maybe` is neither true nor false, write true or false",
        f"{file}:7: upgrade: `1` is neither true nor false, write true or false",
    ]


def test_a_file_that_is_not_utf_8(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "facts").write_bytes(b"\xff\n")
    assert "is not UTF-8" in run("explain", policy, "--facts", tmp_path / "facts").stderr


def test_many_facts(policy: Path) -> None:
    homes = ["eu", "cn", "rest"] * 1000
    result = run("explain", policy, "--facts", "-", stdin="".join(f'{{"home": "{home}"}}\n' for home in homes))
    assert [json.loads(line)["home"] for line in result.stdout.splitlines()] == homes


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from([name[2:] for name in OPTIONS] + ["upgrade", "ech", "other"]),
        st.one_of(
            st.sampled_from([value for values in OPTIONS.values() for value in values]),
            st.text(max_size=8),
            st.none(),
            st.booleans(),
            st.integers(),
            st.lists(st.integers(), max_size=2),
        ),
        max_size=5,
    )
)
def test_whatever_facts_there_are_there_is_no_traceback(policy: Path, facts: dict[str, Any]) -> None:
    result = run("explain", policy, "--facts", "-", stdin=json.dumps(facts))
    assert result.exit_code in (0, 2)
    assert bool(result.stdout) == (result.exit_code == 0)


def test_the_policy_of_these_tests_is_good(policy: Path) -> None:
    assert policy.read_text() == GOOD
    assert run("check", policy).exit_code == 0
