"""As a user without privileges: large pipes run out after 63, and nothing fails for that."""

import json
import os
import subprocess
import sys
from pathlib import Path

from proxy.tcp.vessels import LARGE

ROOT = Path(__file__).parents[2]


def test_more_slow_receivers_than_large_pipes() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.tcp.slow_receivers", "100"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["whole"]
    used = {int(size): count for size, count in told["used"].items()}
    assert sum(used.values()) == 100
    # What the system gives to one user: 64 pipes of 1 MiB, less what others of that user hold.
    large = used.get(LARGE, 0)
    assert large <= 64
    assert large > 0 or os.geteuid() != 0
    assert used.get(65536, 0) + used.get(0, 0) == 100 - large
