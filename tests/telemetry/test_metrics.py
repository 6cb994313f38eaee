"""Cells and the families that a scrape makes of them."""

import gc
import subprocess
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from proxy.policy.decision import Reason
from proxy.providers import breaker, evidence, retry_budget
from proxy.telemetry.exposition import SLICE
from proxy.telemetry.fleet import EndpointReport, FleetReport
from proxy.telemetry.histogram import BOUNDS, Histogram
from proxy.telemetry.metrics import NONE, Attempt, Metrics, Outcome
from proxy.telemetry.sources import LookUps, SourceReport
from proxy.telemetry.words import Hindrance, State, Verdict
from tests.peers.process import program

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"

DESIGNED = {
    "domicile_requests_total": {"listener", "provider", "zone", "status"},
    "domicile_bytes_total": {"listener", "provider", "zone", "direction"},
    "domicile_request_duration_seconds_bucket": {"provider", "zone", "le"},
    "domicile_first_byte_seconds_bucket": {"provider", "zone", "le"},
    "domicile_connect_duration_seconds_bucket": {"provider", "zone", "le"},
    "domicile_denials_total": {"listener", "reason"},
    "domicile_decisions_total": {"rule"},
    "domicile_provider_healthy": {"provider", "zone"},
    "domicile_connections": {"listener"},
    "domicile_connections_refused_total": {"listener", "cause"},
    "domicile_policy_info": {"digest"},
    "domicile_policy_reloads_total": {"result"},
    "domicile_certificate_expiry_timestamp_seconds": {"name"},
    "domicile_log_dropped_total": set(),
    "domicile_withdrawn_total": {"listener", "provider"},
    "domicile_attempts_total": {"provider", "zone", "result"},
    "domicile_retries_total": {"provider", "zone"},
    "domicile_retries_refused_total": {"reason"},
    "domicile_hedges_total": {"provider", "zone"},
    "domicile_endpoint_state": {"provider", "zone", "endpoint", "state"},
    "domicile_breaker_trips_total": {"provider", "zone", "endpoint"},
    "domicile_checks_total": {"provider", "zone", "endpoint", "result"},
    "domicile_check_rtt_seconds": {"provider", "zone", "endpoint"},
    "domicile_evidence": {"provider", "zone", "endpoint", "verdict"},
    "domicile_queue_waiting": {"provider", "zone"},
    "domicile_queue_ended_total": {"provider", "zone", "outcome"},
    "domicile_name_answers_total": {"provider", "zone", "result"},
    "domicile_shed_total": {"listener"},
    "domicile_rate_limited_total": {"listener", "limit"},
    "domicile_rate_store_unanswered_total": set(),
    "domicile_concurrency_limit": set(),
    "domicile_under_way": set(),
    "domicile_loop_lag_seconds_bucket": {"le"},
    "domicile_passed_connections_total": {"listener", "provider", "zone", "outcome"},
    "domicile_workers": set(),
    "domicile_worker_restarts_total": set(),
    "domicile_worker_processor_seconds_total": set(),
    "domicile_worker_resident_bytes": set(),
    "domicile_source_answers_total": {"source", "answer"},
    "domicile_source_duration_seconds_bucket": {"source", "le"},
    "domicile_source_cache_total": {"source", "result"},
    "domicile_key_set_age_seconds": {"issuer"},
    "domicile_geoip_age_seconds": {"database"},
    "domicile_geoip_replacements_total": {"database", "result"},
}
"""Every sample name of DESIGN's Metrics and of docs/metrics.md, with its labels."""


def scraped(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = metrics.render()[1].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in read_text(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, /, **labels: str) -> float:
    return scraped(metrics)[name, frozenset(labels.items())]


SOURCES = SourceReport(
    answers=[(("jwt", "home"), 3), (("jwt", "silent"), 1)],
    cache=[(("jwt", "hit"), 2), (("jwt", "miss"), 2)],
    look_ups=[LookUps("jwt", (0.1, 1.0), [3, 1, 2], 12.5)],
    key_sets=[(("https://id.example",), 7.0)],
    databases=[(("country.mmdb",), 86400.0)],
    replaced=[(("country.mmdb", "loaded"), 1), (("country.mmdb", "refused"), 0)],
)


ENDPOINT = ("china-telecom", "cn-mainland", "ct.example:443")
FLEET = FleetReport(
    endpoints=[EndpointReport(*ENDPOINT, "half-open", "country-mismatch", 0.004)],
    queues=[("china-telecom", "cn-mainland", 2)],
)


def filled(*, worker: bool = True) -> Metrics:
    metrics = Metrics(worker=worker)
    metrics.requests("edge", "china-telecom", "cn-mainland")
    metrics.timings("china-telecom", "cn-mainland")
    metrics.withdrawn("edge", "china-telecom")
    metrics.attempts("china-telecom", "cn-mainland", "answered")
    metrics.retries("china-telecom", "cn-mainland")
    metrics.passed("pass", "china-telecom", "cn-mainland", "completed")
    metrics.hedges("china-telecom", "cn-mainland")
    metrics.breaker_trips(*ENDPOINT)
    metrics.checks(*ENDPOINT, "good")
    metrics.queue_ended("china-telecom", "cn-mainland", "late")
    metrics.name_answers("china-telecom", "cn-mainland", "fresh")
    metrics.rate_limited("edge", "uploads")
    metrics.fleet(lambda: FLEET)
    metrics.overload(lambda: (100, 3))
    metrics.loop_lag.observe(0.002)
    metrics.workers(lambda: 2)
    metrics.policy("sha256:00", ["mainland"])
    metrics.certificates({"edge.pem": 1.9e9})
    metrics.refused(lambda: [("edge", "turned-away", 1)])
    metrics.healthy(lambda: [("china-telecom", "cn-mainland", True), ("own-cloud", "elsewhere", False)])
    metrics.sources(lambda: SOURCES)
    return metrics


def test_every_family_has_the_designed_name_and_labels():
    seen: dict[str, set[str]] = {}
    for name, labels in scraped(filled()):
        if name.startswith("domicile_") and not name.endswith(("_count", "_sum")):
            seen.setdefault(name, set()).update(key for key, _ in labels)

    assert seen == DESIGNED


def test_sources():
    metrics = filled()
    assert value(metrics, "domicile_source_answers_total", source="jwt", answer="home") == 3
    assert value(metrics, "domicile_key_set_age_seconds", issuer="https://id.example") == 7
    name = "domicile_source_duration_seconds"
    buckets = [value(metrics, f"{name}_bucket", source="jwt", le=le) for le in ("0.1", "1.0", "+Inf")]
    assert buckets == [3, 4, 6]
    assert value(metrics, f"{name}_count", source="jwt") == 6
    assert value(metrics, f"{name}_sum", source="jwt") == 12.5


def test_requests_and_bytes():
    metrics = Metrics()
    cell = metrics.requests("edge", "own-eu", "eu")
    cell.status[200 // 100] += 3
    cell.status[504 // 100] += 1
    cell.status[0] += 2
    cell.to_provider += 10
    cell.to_client += 2**53

    place = {"listener": "edge", "provider": "own-eu", "zone": "eu"}
    counts = [
        value(metrics, "domicile_requests_total", **place, status=s) for s in ("none", "1xx", "2xx", "4xx", "5xx")
    ]
    assert counts == [2, 0, 3, 0, 1]
    assert value(metrics, "domicile_bytes_total", **place, direction="to_provider") == 10
    assert value(metrics, "domicile_bytes_total", **place, direction="to_client") == 2**53
    assert metrics.requests("edge", "own-eu", "eu") is cell


def test_a_listener_shows_at_zero_from_the_first_time_it_is_named():
    metrics = Metrics()
    metrics.connections("edge")

    assert value(metrics, "domicile_connections", listener="edge") == 0
    assert value(metrics, "domicile_requests_total", listener="edge", provider=NONE, zone=NONE, status="4xx") == 0
    for reason in (*get_args(Reason), "unavailable"):
        assert value(metrics, "domicile_denials_total", listener="edge", reason=reason) == 0


def test_a_provider_shows_every_result_of_a_try_at_zero():
    metrics = Metrics()
    metrics.attempts("own-eu", "eu", "tls").count += 1

    shown = {
        r: value(metrics, "domicile_attempts_total", provider="own-eu", zone="eu", result=r) for r in get_args(Attempt)
    }
    assert shown == {result: float(result == "tls") for result in get_args(Attempt)}


def test_a_passed_connection_shows_every_outcome_at_zero():
    metrics = Metrics()
    metrics.passed("pass", "own-eu", "eu", "idle").count += 1

    place = {"listener": "pass", "provider": "own-eu", "zone": "eu"}
    shown = {o: value(metrics, "domicile_passed_connections_total", **place, outcome=o) for o in get_args(Outcome)}
    assert shown == {outcome: float(outcome == "idle") for outcome in get_args(Outcome)}
    assert value(metrics, "domicile_connections", listener="pass") == 0


def test_an_endpoint_is_in_one_state_and_has_one_verdict():
    metrics = filled()
    place = dict(zip(("provider", "zone", "endpoint"), ENDPOINT, strict=True))

    states = {state: value(metrics, "domicile_endpoint_state", **place, state=state) for state in get_args(State)}
    assert states == {"closed": 0, "slow-start": 0, "half-open": 1, "open": 0}
    verdicts = {word: value(metrics, "domicile_evidence", **place, verdict=word) for word in get_args(Verdict)}
    assert verdicts == {"unknown": 0, "ok": 0, "country-mismatch": 1, "distance-impossible": 0}
    assert value(metrics, "domicile_check_rtt_seconds", **place) == 0.004


def test_what_nobody_looked_for_is_not_shown():
    metrics = Metrics()
    metrics.fleet(lambda: FleetReport(endpoints=[EndpointReport(*ENDPOINT, "closed")]))

    shown = {name for name, _ in scraped(metrics)}
    assert "domicile_endpoint_state" in shown
    assert not shown & {"domicile_evidence", "domicile_check_rtt_seconds", "domicile_concurrency_limit"}


def test_the_words_are_those_of_what_is_counted():
    assert set(get_args(State)) == set(get_args(breaker.Kind))
    assert set(get_args(Verdict)) == set(get_args(evidence.Verdict))
    assert get_args(Hindrance) == get_args(retry_budget.Hindrance)


def test_reasons_not_to_try_again_show_at_zero():
    metrics = Metrics()
    metrics.retries_refused("sent").count += 1

    shown = {reason: value(metrics, "domicile_retries_refused_total", reason=reason) for reason in get_args(Hindrance)}
    assert shown == {reason: float(reason == "sent") for reason in get_args(Hindrance)}


def test_requests_under_way_and_how_many_may_be():
    metrics = Metrics()
    limit, under_way = 64, 12
    metrics.overload(lambda: (limit, under_way))
    assert value(metrics, "domicile_concurrency_limit") == 64
    under_way = 13
    assert value(metrics, "domicile_under_way") == 13


def test_what_was_turned_away():
    metrics = Metrics()
    metrics.connections("edge")
    assert value(metrics, "domicile_shed_total", listener="edge") == 0
    metrics.shed("edge").count += 2
    metrics.rate_limited("edge", "uploads").count += 1

    assert value(metrics, "domicile_shed_total", listener="edge") == 2
    assert value(metrics, "domicile_rate_limited_total", listener="edge", limit="uploads") == 1


def test_certificates_that_providers_showed_stand_beside_those_of_the_policy():
    metrics = Metrics()
    seen = {"own-eu eu.example:443": 2e9}
    metrics.certificates({"edge.pem": 1.9e9})
    metrics.seen_certificates(lambda: seen)

    name = "domicile_certificate_expiry_timestamp_seconds"
    assert value(metrics, name, name="edge.pem") == 1.9e9
    assert value(metrics, name, name="own-eu eu.example:443") == 2e9


def test_workers_and_their_restarts():
    metrics = Metrics()
    assert value(metrics, "domicile_worker_restarts_total") == 0
    metrics.workers(lambda: 3, lambda: 1)

    assert value(metrics, "domicile_workers") == 3
    assert value(metrics, "domicile_worker_restarts_total") == 1


def test_a_word_that_is_no_reason_is_refused():
    with pytest.raises(ValueError, match="not a reason"):
        Metrics().denials("edge", "alice@example.org")


def test_connections_fall_too():
    metrics = Metrics()
    metrics.connections("edge").count += 2
    metrics.connections("edge").count -= 1

    assert value(metrics, "domicile_connections", listener="edge") == 1


def test_a_policy_replaces_its_digest_and_keeps_the_rules_counts():
    metrics = Metrics()
    metrics.policy("sha256:01", ["mainland"])
    metrics.rules(("mainland",)).count += 4
    metrics.policy("sha256:02", ["europe"])

    shown = scraped(metrics)
    assert [labels for name, labels in shown if name == "domicile_policy_info"] == [
        frozenset({("digest", "sha256:02")})
    ]
    assert value(metrics, "domicile_decisions_total", rule="mainland") == 4
    assert value(metrics, "domicile_decisions_total", rule="europe") == 0


@given(st.lists(st.tuples(st.frozensets(st.sampled_from("abcd"), max_size=3), st.integers(0, 5), st.booleans())))
def test_each_rule_gets_the_sum_of_its_sets_whether_held_or_let_go(counted):
    metrics = Metrics()
    metrics.policy("sha256:00", "abcd")
    held = []
    wanted = dict.fromkeys("abcd", 0)
    for rules, count, keep in counted:
        cell = metrics.rules(tuple(sorted(rules)))
        cell.count += count
        if keep:
            held.append(cell)
        for rule in rules:
            wanted[rule] += count
    del counted

    assert {rule: value(metrics, "domicile_decisions_total", rule=rule) for rule in "abcd"} == wanted


def test_sets_of_rules_that_nobody_holds_take_no_memory():
    metrics = Metrics()
    for number in range(500):
        metrics.rules((f"rule-{number % 7}", f"set-{number}")).count += 1
    gc.collect()

    assert len(metrics._rule_sets) == 0
    assert value(metrics, "domicile_decisions_total", rule="rule-3") == len(range(3, 500, 7))


def test_what_others_know_is_asked_at_each_scrape():
    metrics = Metrics()
    dropped, unanswered, well = 0, 0, True
    metrics.log_dropped(lambda: dropped)
    metrics.rate_store_unanswered(lambda: unanswered)
    metrics.healthy(lambda: [("own-eu", "eu", well)])
    assert value(metrics, "domicile_log_dropped_total") == 0
    assert value(metrics, "domicile_provider_healthy", provider="own-eu", zone="eu") == 1

    dropped, unanswered, well = 7, 2, False

    assert value(metrics, "domicile_log_dropped_total") == 7
    assert value(metrics, "domicile_rate_store_unanswered_total") == 2
    assert value(metrics, "domicile_provider_healthy", provider="own-eu", zone="eu") == 0


def test_reloads_and_certificates():
    metrics = Metrics()
    metrics.reloaded("refused")
    metrics.certificates({"old.pem": 1.0})
    metrics.certificates({"edge.pem": 1893456000.0})

    assert value(metrics, "domicile_policy_reloads_total", result="loaded") == 0
    assert value(metrics, "domicile_policy_reloads_total", result="refused") == 1
    names = [labels for name, labels in scraped(metrics) if name.startswith("domicile_certificate")]
    assert names == [frozenset({("name", "edge.pem")})]
    assert value(metrics, "domicile_certificate_expiry_timestamp_seconds", name="edge.pem") == 1893456000


@given(st.lists(st.sampled_from(BOUNDS) | st.floats(0, 200), max_size=50))
def test_a_histogram_counts_every_duration_in_the_buckets_that_hold_it(durations):
    metrics = Metrics()
    histogram = metrics.timings("own-eu", "eu").request
    for duration in durations:
        histogram.observe(duration)

    shown = scraped(metrics)
    name, place = "domicile_request_duration_seconds", {("provider", "own-eu"), ("zone", "eu")}
    for bound in (*BOUNDS, float("inf")):
        le = "+Inf" if bound == float("inf") else str(bound)
        assert shown[f"{name}_bucket", frozenset(place | {("le", le)})] == sum(d <= bound for d in durations)
    assert shown[f"{name}_count", frozenset(place)] == len(durations)
    assert shown[f"{name}_sum", frozenset(place)] == pytest.approx(sum(durations))


@pytest.mark.parametrize("seconds", [0.0003, 0.001, 0.0042, 0.03, 0.7, 9.0, 60.0])
def test_no_bucket_is_wider_than_two_and_a_half_times_its_start(seconds):
    histogram = Histogram()
    histogram.observe(seconds)

    index = histogram.counts.index(1)
    assert BOUNDS[index] / BOUNDS[index - 1] <= 2.5001


@pytest.mark.parametrize(("accept", "reader"), [("", read_text), (OPENMETRICS, read_openmetrics)])
def test_pieces_join_into_all_samples(accept, reader):
    metrics = filled(worker=False)
    for number in range(3 * SLICE):
        metrics.requests("edge", f"provider-{number}", "eu").status[2] += number
        metrics.timings(f"provider-{number}", "eu").request.observe(number / 100)

    content_type, text = metrics.render(accept)

    assert content_type.startswith("application/openmetrics-text" if accept else "text/plain")
    own = [family for family in reader(text.decode()) if family.name.startswith("domicile_")]
    whole = {metric.name: list(samples) for metric, samples in metrics.families()}
    assert len(own) == len(whole) == len({family.name for family in own})
    for family in own:
        plain = whole[family.name.removesuffix("_info") if not accept else family.name]
        read = {(s.name, frozenset(s.labels.items())): s.value for s in family.samples}
        assert read == {(s.name, frozenset(s.labels.items())): s.value for s in plain}


def test_cells_may_be_made_between_two_pieces():
    metrics = filled()
    _, pieces = metrics.pieces()
    for number, _ in enumerate(pieces):
        metrics.requests(f"listener-{number}", "own-eu", "eu")
        metrics.timings(f"provider-{number}", "eu")
        metrics.rules((f"rule-{number}",)).count += 1


@pytest.mark.parametrize("metrics", [Metrics(), filled()], ids=["empty", "filled"])
def test_promtool_finds_nothing_to_say(metrics):
    linted = subprocess.run(
        [program("promtool"), "check", "metrics"], input=metrics.render()[1], capture_output=True, check=False
    )

    assert (linted.returncode, linted.stdout, linted.stderr) == (0, b"", b"")


def test_promtool_would_have_something_to_say():
    text = b"# TYPE domicile_took_milliseconds counter\ndomicile_took_milliseconds 1\n"

    linted = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)

    assert linted.returncode != 0


def test_the_process_is_shown_too():
    shown = {name for name, _ in scraped(Metrics())}

    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= shown


ACCEPT_WORDS = [
    "text/plain",
    "application/openmetrics-text",
    ";",
    "=",
    ",",
    "version",
    "1.0.0",
    "escaping",
    "q",
    "é",
    " ",
]


@given(st.lists(st.sampled_from(ACCEPT_WORDS)))
def test_any_accept_header_gets_an_exposition(parts):
    content_type, text = Metrics().render("".join(parts))

    assert content_type.startswith(("text/plain", "application/openmetrics-text"))
    assert b"\ndomicile_log_dropped_total 0.0\n" in text
