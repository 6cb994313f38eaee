"""How many workers `auto` means, and their shares of caps."""

import os
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import load
from proxy.policy.balance import Queue
from proxy.policy.policy import Policy
from proxy.server.processors import processors, usable
from proxy.server.sharing import _share, shared_out


@pytest.mark.parametrize(
    ("quota", "most"),
    [("max 100000", 10_000), ("100000 100000", 1), ("150000 100000", 2), ("1000 100000", 1), ("rubbish", 10_000)],
)
def test_a_containers_quota_counts(tmp_path: Path, quota: str, most: int) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(quota + "\n")
    assert usable(path) == min(most, len(os.sched_getaffinity(0)))


def test_without_a_cgroup_all_processors_count(tmp_path: Path) -> None:
    assert usable(tmp_path / "none") == len(processors()) == len(os.sched_getaffinity(0))


@given(st.integers(1, 100_000), st.integers(1, 64))
def test_shares_reach_the_cap_and_pass_it_by_less_than_one_each(cap: int, workers: int) -> None:
    total = _share(cap, workers) * workers
    assert cap <= total < cap + workers


POLICY = """\
version: 1
zones: {here: {countries: ["*"]}}
providers:
  own: {operator: Example Inc, zone: here, endpoints: ["http://127.0.0.1:1"], limits: {connections: 10}}
  other: {operator: Example Inc, zone: here, endpoints: ["http://127.0.0.1:2"]}
  hasty: {operator: Example Inc, zone: here, endpoints: ["http://127.0.0.1:3"], limits: {connections: 1, queue: none}}
rules: [{name: all, allow: [here], when: {home: [here, unknown]}}]
listeners: [{name: edge, bind: "127.0.0.1:0"}]
limits: {connections: 1001}
retries: {least: 3, share: 10%}
rates: {limits: [{name: each, rate: 100, burst: 50}, {name: some, rate: 0.5, burst: 1}]}
overload: {least: 16, most: 10001}
"""


def policy_of(folder: Path, text: str = POLICY, **environ: str) -> Policy:
    path = folder / "policy.yaml"
    path.write_text(text)
    return load(path, environ, 0.0).policy


def test_caps_are_shared_out_and_nothing_else_changes(tmp_path: Path) -> None:
    policy = policy_of(tmp_path)
    assert shared_out(policy, 1) is policy
    shared = shared_out(policy, 4)
    assert shared.limits.connections == 251
    assert [(each.connections, each.queue) for each in shared.providers] == [
        (3, Queue(64, 3.0)),
        (None, Queue()),
        (1, None),
    ]
    assert (shared.retries.least, shared.retries.share) == (0.75, 0.1)
    assert [(each.rate, each.burst) for each in shared.rates.limits] == [(25.0, 13), (0.125, 1)]
    assert (shared.overload.least, shared.overload.most) == (4, 2501)
    untouched = {field.name for field in fields(Policy)} - {
        "limits", "overload", "providers", "rates", "retries",
    }  # fmt: skip
    assert all(getattr(shared, name) == getattr(policy, name) for name in untouched)


def test_what_all_workers_count_together_is_not_shared_out(tmp_path: Path) -> None:
    store = 'store: "redis://127.0.0.1:6379", secret: "${S}", '
    policy = policy_of(tmp_path, POLICY.replace("rates: {", f"rates: {{{store}"), S="0123456789abcdef" * 2)
    shared = shared_out(policy, 4).rates
    assert shared.limits == policy.rates.limits
    # For while the store cannot be asked.
    assert [each.rate for each in shared.alone] == [each.rate / 4 for each in shared.limits]
