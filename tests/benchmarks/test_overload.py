"""The two ends of the benchmark of overload understand each other, and its load is as open as it says."""

import json
import subprocess
import sys
from pathlib import Path

from tests.peers.process import free_port, running

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "benchmarks.overload_program")


def test_an_open_load_on_a_provider_that_takes_its_time(tmp_path: Path) -> None:
    port = free_port()
    provider = [*PROGRAM, "provider", port, 20]
    with running("provider", provider, tmp_path, (port,), environ={"PYTHONPATH": str(ROOT)}):
        # Ten connections of 20 ms do 500 requests a second at most; twice as many are due, and wait longer and longer.
        load = [str(word) for word in (*PROGRAM, "load", port, 1000, 1, 10)]
        run = subprocess.run(load, cwd=ROOT, capture_output=True, text=True, check=True)
    (answered,) = json.loads(run.stdout).values()
    assert 10 <= answered["count"] <= 550
    assert 0.02 <= answered["p50"] < answered["p99"]
    assert answered["p99"] > 0.2
