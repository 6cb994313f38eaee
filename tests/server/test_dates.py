"""The dates of a policy, and clocks that are set."""

import asyncio
from pathlib import Path

import pytest

from proxy.config import load
from proxy.policy.policy import Policy
from proxy.server import dates
from proxy.server.dates import Dates
from tests.server.staged import until

POLICY = """
version: 1
zones: {{here: {{countries: ["*"]}}}}
providers: {{own: {{operator: Example Inc, zone: here, endpoints: ["http://127.0.0.1:1"]}}}}
rules:
  - {{name: all, allow: [here], when: {{home: [here, unknown]}}{dates}}}
listeners: [{{name: edge, bind: "127.0.0.1:0"}}]
"""


class Clock:
    """The world's clock, as it is set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def policy(folder: Path, between: str) -> Policy:
    path = folder / "policy.yaml"
    path.write_text(POLICY.format(dates=between))
    return load(path, {}, 0.0).policy


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dates, "CLOCK", 0.005)


async def test_a_date_decides_again_once(tmp_path: Path) -> None:
    clock, times = Clock(1_900_000_000.0), []
    watched = Dates(lambda: times.append(clock.now), clock)
    watched.watch(policy(tmp_path, ", until: 2031-01-01T00:00:00Z"))
    await asyncio.sleep(0.03)
    assert times == []
    clock.now = 1_924_992_000.0  # 2031-01-01
    await until(lambda: len(times) == 1)
    await asyncio.sleep(0.03)
    assert len(times) == 1
    watched.end()


async def test_a_clock_that_is_set_back_decides_again(tmp_path: Path) -> None:
    clock, times = Clock(1_930_000_000.0), []
    watched = Dates(lambda: times.append(clock.now), clock)
    watched.watch(policy(tmp_path, ", until: 2031-01-01T00:00:00Z"))
    clock.now = 1_900_000_000.0
    await until(lambda: len(times) == 1)
    clock.now = 1_930_000_000.0
    await until(lambda: len(times) == 2)
    watched.end()


async def test_without_dates_nobody_looks(tmp_path: Path) -> None:
    clock, times = Clock(1_900_000_000.0), []
    watched = Dates(lambda: times.append(clock.now), clock)
    watched.watch(policy(tmp_path, ""))
    clock.now = 0.0
    await asyncio.sleep(0.03)
    assert times == []


async def test_another_policy_takes_the_place(tmp_path: Path) -> None:
    clock, times = Clock(1_900_000_000.0), []
    watched = Dates(lambda: times.append(clock.now), clock)
    watched.watch(policy(tmp_path, ", until: 2031-01-01T00:00:00Z"))
    watched.watch(policy(tmp_path, ""))
    clock.now = 1_930_000_000.0
    await asyncio.sleep(0.03)
    assert times == []
