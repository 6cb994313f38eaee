"""What is frozen stays out of sight; what comes later goes soon, though it has grown old."""

import subprocess
import sys

YOUNG = 100

PROGRAM = f"""
import gc, weakref
from proxy.server.garbage import OLDER, set_aside

class Policy:
    def __init__(self):
        self.itself = self

loaded = [[each] for each in range(200_000)]
set_aside({YOUNG})
assert gc.get_freeze_count() > len(loaded)

retired = Policy()
gc.collect(1)  # it is old now, and the old are not looked through yet
seen = weakref.ref(retired)
del retired
made = []
while seen() is not None:
    made.append([])
    assert len(made) <= 2 * {YOUNG} * (OLDER + 1) ** 2, len(made)
print(len(made))
"""


def test_a_retired_policy_goes_after_a_few_looks_however_much_was_loaded() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > YOUNG
