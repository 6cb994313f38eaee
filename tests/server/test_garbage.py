"""What is frozen stays out of sight; what comes later goes soon, though it has grown old."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable

from proxy.server.garbage import RETIRED, collect_retired

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


class Retired:
    def __init__(self) -> None:
        self.itself = self


class Later:
    """A loop that remembers what it is to call, and after how many seconds."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        self.calls.append((seconds, callback))


def test_what_a_reload_retires_goes_though_nothing_else_is_made() -> None:
    retired = Retired()
    gc.collect()  # it is old now
    seen, loop = weakref.ref(retired), Later()
    collect_retired(loop)  # type: ignore[arg-type]
    del retired
    ((seconds, callback),) = loop.calls
    assert seen() is not None
    assert seconds == RETIRED
    callback()
    assert seen() is None
