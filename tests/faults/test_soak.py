"""The soak for less than a minute; `make soak` runs it for an hour."""

import random
from pathlib import Path

import pytest

from tests.faults.soak import soak

SECONDS = 40.0


async def test_random_faults_reloads_and_load_leave_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.randrange(1_000_000)
    report = await soak(tmp_path, SECONDS, seed)
    with capsys.disabled():
        print(f"\nseed {seed}", *report.lines, sep="\n")
    report.judge()
