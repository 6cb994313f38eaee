"""What workers report, summed."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from proxy.admin import ProviderReport, WorkerReport, provider_statuses, provider_words, summed
from proxy.policy.settings import Provider, ProviderTimeouts, ProviderTls
from proxy.telemetry.snapshot import Snapshot

NAMES = st.sampled_from(["own-eu", "own-cloud", "china-telecom"])
REPORTS = st.builds(
    WorkerReport,
    st.dictionaries(NAMES, st.builds(ProviderReport, st.booleans(), st.integers(0, 9))),
    st.dictionaries(st.sampled_from(["edge", "pass"]), st.integers(0, 9)),
    st.none() | st.sampled_from(["Broken pipe"]),
)


def provider(name: str) -> Provider:
    return Provider(
        name=name,
        operator="Example Inc",
        zone="eu",
        endpoints=(),
        dial=(),
        host="preserve",
        headers=(),
        tls=ProviderTls(),
        timeouts=ProviderTimeouts(3, 30, 60),
        plaintext=False,
        connections=None,
    )


@given(st.lists(REPORTS, max_size=4))
def test_each_figure_is_the_sum_of_the_workers(reports):
    total = summed(reports)

    for name in ("own-eu", "own-cloud", "china-telecom"):
        said = [report.providers[name] for report in reports if name in report.providers]
        words = provider_words([provider(name)], total)
        assert words == {name: "healthy" if any(each.healthy for each in said) else "down"}
        (status,) = provider_statuses([provider(name)], total, Snapshot({}))
        assert (status.state, status.connections) == (words[name], sum(each.connections for each in said))
    for name in ("edge", "pass"):
        assert total.connections.get(name, 0) == sum(report.connections.get(name, 0) for report in reports)
    assert total.open_connections == sum(report.open_connections for report in reports)
    assert (total.log_problem is None) == all(report.log_problem is None for report in reports)


@given(st.lists(REPORTS, max_size=3), st.lists(REPORTS, max_size=3))
def test_sums_can_be_summed(some, others):
    assert summed([summed(some), summed(others)]) == summed([*some, *others])


@given(REPORTS)
def test_a_report_goes_through_a_pickle(report):
    assert pickle.loads(pickle.dumps(report)) == report


def test_before_the_first_report_providers_are_down():
    assert provider_words([provider("own-eu")], summed([])) == {"own-eu": "down"}
