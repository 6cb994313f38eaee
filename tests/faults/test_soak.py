"""The soak for two minutes; `make soak` runs it for an hour. And how it reads what it saw."""

import random
from pathlib import Path

import pytest

from tests.faults.soak import slope, soak

SECONDS = 120.0


@pytest.mark.timeout(400)
async def test_random_faults_reloads_and_load_leave_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.randrange(1_000_000)
    report = await soak(tmp_path, SECONDS, seed)
    with capsys.disabled():
        print(f"\nseed {seed}", *report.lines, sep="\n")
    report.judge()


TIMES = [float(second) for second in range(60)]


@pytest.mark.parametrize("leak", [0.0, 0.02])
@pytest.mark.parametrize("step", [0, 5, 15, 30, 45, 55, 60])
def test_a_leak_is_its_own_slope_and_a_step_is_at_most_what_it_is_high(leak: float, step: int) -> None:
    sizes = [80 + leak * at + 4 * (at >= step) for at in TIMES]
    assert leak <= slope(TIMES, sizes) <= leak + (4 / 50 if 15 <= step <= 45 else 0.005)


def test_a_peak_is_no_growth() -> None:
    assert slope(TIMES, [80 + 9 * (20 <= at < 30) for at in TIMES]) == 0
