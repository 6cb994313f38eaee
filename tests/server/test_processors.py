"""How many workers `auto` means, and their shares of caps."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import load
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


def test_caps_are_shared_out_and_nothing_else_changes(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        'version: 1\nzones: {here: {countries: ["*"]}}\n'
        'providers: {own: {operator: Example Inc, zone: here, endpoints: ["http://127.0.0.1:1"], '
        "limits: {connections: 10}}}\n"
        "rules: [{name: all, allow: [here], when: {home: [here, unknown]}}]\n"
        'listeners: [{name: edge, bind: "127.0.0.1:0"}]\nlimits: {connections: 1001}\n'
    )
    policy = load(path, {}, 0.0).policy
    assert shared_out(policy, 1) is policy
    shared = shared_out(policy, 4)
    assert shared.limits.connections == 251
    assert shared.providers[0].connections == 3
    assert (shared.digest, shared.rules, shared.listeners) == (policy.digest, policy.rules, policy.listeners)
