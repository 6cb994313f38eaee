"""A real Prometheus scrapes, and answers what an operator asks; the documentation's queries among it."""

import asyncio
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import get_args

import pytest
import uvloop
import yaml

from proxy.policy.decision import Reason
from proxy.telemetry.metrics import UNAVAILABLE, Attempt, Outcome, Reload
from proxy.telemetry.record import line, static_part
from proxy.telemetry.words import CHECKS, HINDRANCES, NAME_ANSWERS, STATES, VERDICTS, WAITED
from tests.peers.process import program
from tests.peers.prometheus import Prometheus, prometheus
from tests.telemetry.traffic import PLACES, Traffic

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"
QUERIES = re.findall(r"\n([^\n]+):\n\n```promql\n(.*?)\n```", (ROOT / "docs" / "metrics.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def scraping(tmp_path_factory) -> Iterator[Prometheus]:
    traffic, started = Traffic(), threading.Event()
    loop, stop = uvloop.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[traffic.serve(started, stop)])
    thread.start()
    try:
        assert started.wait(10)
        folder = tmp_path_factory.mktemp("prometheus")
        shutil.copy(RULES / "rules.yml", folder)
        with prometheus([f"127.0.0.1:{traffic.port}"], folder, rules=[folder / "rules.yml"]) as server:
            server.await_scrapes(4)
            yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def by(label: str, server: Prometheus, query: str) -> dict[str, float]:
    return {series.labels[label]: series.value for series in server.query(query)}


def test_bandwidth_by_provider(scraping):
    query = 'sum by (provider) (rate(domicile_bytes_total{direction="to_client", provider!="none"}[5m]))'

    bandwidth = by("provider", scraping, query)

    assert bandwidth.keys() == PLACES.keys()
    assert bandwidth["own-cloud"] > 0
    assert bandwidth["china-telecom"] / bandwidth["own-eu"] == pytest.approx(10)
    assert bandwidth["own-eu"] / bandwidth["own-cloud"] == pytest.approx(100)


def test_p99_by_zone(scraping):
    query = "histogram_quantile(0.99, sum by (zone, le) (rate(domicile_request_duration_seconds_bucket[5m])))"

    p99 = by("zone", scraping, query)

    assert 0.001 < p99["cn-mainland"] <= 0.002
    assert 0.02 < p99["elsewhere"] <= 0.05
    assert 2 < p99["eu"] <= 5


@pytest.mark.parametrize(("question", "query"), QUERIES, ids=[question for question, _ in QUERIES])
def test_a_documented_query_has_an_answer(scraping, question, query):
    answer = scraping.query(query)

    assert answer, question
    assert all(series.value == series.value for series in answer if series.labels.get("provider") != "none"), "NaN"


def test_the_documentation_has_queries():
    assert len(QUERIES) == (ROOT / "docs" / "metrics.md").read_text().count("```promql") >= 10


def test_a_query_that_is_wrong_is_refused(scraping):
    with pytest.raises(ValueError, match="parse error"):
        scraping.query("sum by (")


def test_the_alert_rules_run_in_it(scraping):
    firing = 'ALERTS{alertname="DomicileCertificateExpiresNow", name="edge.pem", alertstate="firing"}'

    scraping.await_scrapes(2)

    assert len(scraping.query(firing)) == 1


def test_the_alert_rules_hold_their_tests():
    tested = subprocess.run([program("promtool"), "test", "rules", "rules_test.yml"], cwd=RULES, capture_output=True)

    assert tested.returncode == 0, tested.stderr.decode() + tested.stdout.decode()


def test_every_alert_is_tested_to_fire_and_not_to():
    rules = yaml.safe_load((RULES / "rules.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    tests = yaml.safe_load((RULES / "rules_test.yml").read_text())
    cases = [case for test in tests["tests"] for case in test["alert_rule_test"]]

    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} | {"DomicileCertificateExpires"} == alerts


def test_the_documentation_explains_every_alert_and_how_much_it_matters():
    text = (ROOT / "docs" / "metrics.md").read_text().partition("## Alerts")[2].partition("\n## ")[0]
    rules = yaml.safe_load((RULES / "rules.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]

    named = re.findall(r"(\*\*)?`(Domicile\w+)`", text)
    assert sorted(named, key=lambda each: each[1]) == sorted(
        (("**" if rule["labels"]["severity"] == "critical" else "", rule["alert"]) for rule in alerts),
        key=lambda each: each[1],
    )


def test_the_rules_ask_for_families_that_exist():
    text = (RULES / "rules.yml").read_text()
    asked = set(re.findall(r"\b(domicile_\w+)\b", text))
    sampled = {sample.name for _, samples in Traffic().metrics.families() for sample in samples}
    assert asked
    assert asked <= sampled


def test_the_scrape_file_is_valid():
    checked = subprocess.run([program("promtool"), "check", "config", "prometheus.yml"], cwd=RULES, capture_output=True)

    assert checked.returncode == 0, checked.stderr.decode()


def test_the_documentation_lists_every_family_with_its_labels():
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(domicile_\w+)` \|([^|]*)\|", text, re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    traffic = Traffic()
    traffic.metrics.withdrawn("edge", "own-eu")
    traffic.metrics.rate_limited("edge", "uploads")
    traffic.metrics.retries("own-eu", "eu")
    traffic.metrics.passed("pass", "own-eu", "eu", "completed")

    made: dict[str, set[str]] = {}
    for metric, samples in traffic.metrics.families():
        for sample in samples:
            name = metric.name if metric.type == "histogram" else sample.name
            made.setdefault(name, set()).update(sample.labels.keys() - {"le"})

    assert documented == {name: labels for name, labels in made.items() if name.startswith("domicile_")}


def test_the_documentation_explains_every_word_of_a_label():
    text = (ROOT / "docs" / "metrics.md").read_text()
    words = {
        *(*STATES, *VERDICTS, *CHECKS, *HINDRANCES, *WAITED, *NAME_ANSWERS),
        *get_args(Attempt),
        *get_args(Outcome),
        *get_args(Reload),
        *get_args(Reason),
        UNAVAILABLE,
        "none",
        "to_provider",
        "to_client",
    }

    assert {word for word in words if f"`{word}`" not in text} == set()


def test_the_access_logs_documentation_is_the_record():
    text = (ROOT / "docs" / "access-log.md").read_text()
    example = re.search(r"```json\n(.*?\n)```", text, re.DOTALL)
    fields = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)

    static = static_part(
        listener="edge",
        method=b"GET",
        host=b"storage.example",
        home="cn-mainland",
        source="jwt",
        country="CN",
        zone="cn-mainland",
        provider="china-telecom",
        rules=("mainland",),
        client=ip_address("203.0.113.77"),
    )
    identity = b"4bf92f3577b34da6a3ce929d0e0e4736"
    record = line(static, 1767225600.25, identity, 200, None, 0, 12, 0.0015, 0.0011, 0.0004, 1)

    assert example is not None
    assert example[1] == record.decode()
    assert fields == [*json.loads(record), "subject"]
