"""What /status makes of what was counted."""

import json
from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from proxy.admin import (
    EndpointStatus,
    ProviderReport,
    WorkerReport,
    ZoneStatus,
    load_status,
    provider_statuses,
    summed,
    whole,
    zone_statuses,
)
from proxy.policy.settings import Zone
from proxy.telemetry import families
from proxy.telemetry.fleet import EndpointReport, FleetReport
from proxy.telemetry.histogram import BOUNDS, Histogram, quantile
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.snapshot import Snapshot
from tests.admin.test_reports import provider

PLACE = ("own-eu", "eu")
WELL = WorkerReport({"own-eu": ProviderReport(True, 3)}, {"edge": 1})


def counting() -> Metrics:
    metrics = Metrics()
    for listener, size in (("edge", 100), ("other", 1)):
        cell = metrics.requests(listener, *PLACE)
        cell.status[2] += 3
        cell.status[5] += 1
        cell.to_provider += size
        cell.to_client += 2 * size
    metrics.requests("edge", "own-cloud", "elsewhere").status[5] += 50
    metrics.requests("edge", "none", "none").status[4] += 7
    metrics.passed("pass", *PLACE, "completed").count += 4
    metrics.passed("pass", *PLACE, "reset").count += 1
    metrics.retries(*PLACE).count += 2
    metrics.breaker_trips(*PLACE, "b.example:443").count += 9
    metrics.timings(*PLACE).first_byte.observe(0.004)
    metrics.fleet(
        lambda: FleetReport(
            [
                EndpointReport(*PLACE, "a.example:443", "closed", "ok", 0.01),
                EndpointReport(*PLACE, "b.example:443", "open"),
                EndpointReport("own-cloud", "elsewhere", "c.example:443", "closed"),
            ],
            [(*PLACE, 6)],
        )
    )
    return metrics


def test_a_providers_figures_are_those_of_all_listeners_and_of_no_other_provider():
    (status,) = provider_statuses([provider("own-eu")], WELL, counting().snapshot())

    assert (status.state, status.connections, status.waiting) == ("healthy", 3, 6)
    assert (status.requests, status.failed, status.passed, status.retries) == (8, 2, 5, 2)
    assert (status.to_provider, status.to_client) == (101, 202)
    assert 0.002 < (status.first_byte.p50 or 0) <= 0.005
    assert sum(status.first_byte.counts) == 1
    assert status.endpoints == (
        EndpointStatus("a.example:443", "closed", 0, "ok", 0.01),
        EndpointStatus("b.example:443", "open", 9, None, None),
    )


def test_a_provider_of_which_nothing_is_known_has_zeros():
    (status,) = provider_statuses([provider("own-eu")], summed([]), Snapshot({}))

    assert (status.state, status.requests, status.first_byte.p50, status.endpoints) == ("down", 0, None, ())


def test_a_zone_is_as_well_as_its_best_provider():
    zones = [Zone(name, frozenset()) for name in ("eu", "elsewhere")]
    providers = [provider("own-eu"), provider("other-eu")]

    assert zone_statuses(zones, providers, WELL) == (
        ZoneStatus("eu", "healthy", ("own-eu", "other-eu")),
        ZoneStatus("elsewhere", "empty", ()),
    )
    assert zone_statuses(zones, providers, summed([]))[0].state == "down"


def test_the_load_is_that_of_all_listeners():
    metrics = counting()
    metrics.denials("edge", "no-zone").count += 3
    metrics.denials("other", "no-zone").count += 1
    metrics.denials("other", "unavailable").count += 5
    metrics.shed("edge").count += 2
    metrics.rate_limited("edge", "uploads").count += 1
    metrics.rate_limited("other", "uploads").count += 1
    metrics.overload(lambda: (64, 5))
    metrics.loop_lag.observe(0.001)

    load = load_status(metrics.snapshot())
    assert load.requests == 65
    assert {reason: number for reason, number in load.denials.items() if number} == {"no-zone": 4, "unavailable": 5}
    assert (load.shed, load.rate_limited, load.under_way, load.limit) == (2, 2, 5, 64)
    assert sum(load.loop_lag.counts) == 1


def test_one_familys_sum():
    metrics = Metrics()
    metrics.log_dropped(lambda: 7)

    assert whole(metrics.snapshot(), families.LOG_DROPPED) == 7
    assert whole(Snapshot({}), families.LOG_DROPPED) == 0


def test_all_of_it_is_json():
    counted = counting().snapshot()

    assert json.loads(json.dumps(asdict(load_status(counted))))["requests"] == 65
    (status,) = provider_statuses([provider("own-eu")], WELL, counted)
    assert json.loads(json.dumps(asdict(status)))["endpoints"][1]["state"] == "open"


@given(st.lists(st.floats(0, 200), min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_duration_that_it_estimates(durations, q):
    histogram = Histogram()
    for duration in durations:
        histogram.observe(duration)
    # The q-quantile of n is the ceil(q * n)-th smallest.
    exact = sorted(durations)[max(0, -int(-q * len(durations) // 1) - 1)]

    found = quantile(q, histogram.counts)

    assert found is not None
    edges = (0.0, *BOUNDS)
    bucket = sum(bound < exact for bound in BOUNDS)
    if bucket == len(BOUNDS):
        assert found == BOUNDS[-1]
    else:
        assert edges[bucket] <= found <= BOUNDS[bucket] * (1 + 1e-9)


def test_no_durations_have_no_quantile():
    assert quantile(0.5, Histogram().counts) is None
