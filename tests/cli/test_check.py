"""`domicile check`: what it prints, and its exit status."""

import json
from pathlib import Path

from proxy.policy.countries import EEA
from tests.cli.policies import GOOD, run, run_json, write

BAD = GOOD.replace("home: cn}, allow", "home: china}, allow").replace("[EEA]", "[eea]")
BROKEN = GOOD.replace("home: rest}, allow: rest", "home: rest}, allow: any")


def test_a_good_file_is_shown_as_what_it_became(tmp_path: Path) -> None:
    result = run("check", write(tmp_path))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert f"  eu    37 countries   {' '.join(sorted(EEA))}" in lines
    assert "  cn    1 country      CN" in lines
    assert any(line.startswith("  rest  210 countries  AD AE") and " AQ " not in line for line in lines)
    assert "  telecom  China Telecom, in cn  https://ct.example:443 https://[2001:db8::1]:8443" in lines
    assert f"  edge  http  0.0.0.0:8443 [::]:8443 unix:{tmp_path / 'edge.sock'}" in lines
    assert "5 rules, 1 route, 1 guarantee proved" in lines
    assert lines[-1].startswith("sha256:")
    assert result.stderr.endswith("policy.yaml: good\n")


def test_the_same_as_json(tmp_path: Path) -> None:
    shown = run_json("check", write(tmp_path), "--json")
    assert (shown["ok"], shown["mistakes"], shown["findings"]) == (True, [], [])
    assert shown["zones"]["eu"] == sorted(EEA)
    assert [each["name"] for each in shown["providers"]] == ["ours", "telecom", "far"]
    assert shown["providers"][1]["endpoints"] == ["https://ct.example:443", "https://[2001:db8::1]:8443"]
    assert shown["listeners"][0]["name"] == "edge"
    assert (shown["rules"], shown["routes"], shown["guarantees"]) == (5, 1, 1)
    assert len(shown["digest"]) == len("sha256:") + 64


def test_every_mistake_is_printed_and_the_exit_is_1(tmp_path: Path) -> None:
    path = write(tmp_path, BAD)
    result = run("check", path)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{path}:3:20: `eea` is no country code, write EEA",
        f"{path}:15:55: `china` is no zone, there are: eu, cn, rest, unknown",
    ]
    assert result.stderr.endswith("policy.yaml: refused, 2 mistakes\n")
    shown = run("check", path, "--json")
    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["mistakes"][0] == {
        "file": str(path),
        "line": 3,
        "column": 20,
        "what": "`eea` is no country code",
        "hint": "write EEA",
    }


def test_a_broken_guarantee_is_printed_with_the_facts_that_break_it(tmp_path: Path) -> None:
    result = run("check", write(tmp_path, BROKEN))
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    assert "policy.yaml:23:5: broken: provider telecom is reached by home rest" in line
    assert "let by others" in line


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    result = run("check", tmp_path / "none.yaml")
    assert result.exit_code == 1
    assert "none.yaml:1:1: cannot be read: No such file or directory" in result.stdout


def test_variables_come_from_the_environment(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("operator: China Telecom,", 'operator: "${TELECOM}",'))
    assert run("check", path, TELECOM="China Telecom").exit_code == 0
    result = run("check", path, TELECOM="Telecom of the secret name")
    assert result.exit_code == 1
    assert "secret name" not in result.output
    assert "environment variable `TELECOM` is not set" in run("check", path).stdout


def test_usage(tmp_path: Path) -> None:
    assert run("check").exit_code == 2
    assert run("check", write(tmp_path), "--frobnicate").exit_code == 2
    assert run("check", "a", "b").exit_code == 2


def test_findings_are_printed_and_the_exit_is_1(tmp_path: Path) -> None:
    expired = GOOD.replace("home: rest}, allow: rest", "home: rest}, allow: rest, until: 2020-01-01T00:00:00Z")
    path = write(tmp_path, expired)
    result = run("check", path)
    assert result.exit_code == 1
    assert f"{path}:5:3: no provider is permitted" in result.stdout
    assert f"{path}:17:5: rule others expired" in result.stdout
    assert "5 rules" in result.stdout
    assert "refused" not in result.stderr
    shown = run("check", path, "--json")
    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["ok"] is False
    assert json.loads(shown.stdout)["mistakes"] == []
    assert json.loads(shown.stdout)["findings"]
    assert run("explain", path, "--home", "eu").exit_code == 0
