"""How many processors this program may use."""

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def processors() -> list[int]:
    """The processors that we may run on, by number."""
    return sorted(os.sched_getaffinity(0))


def usable(quota: Path = _QUOTA) -> int:
    """How many workers `auto` means: as many as processors, or as the container's quota (cgroup v2) pays for."""
    found = len(processors())
    try:
        most, _, period = quota.read_text().partition(" ")
        return min(found, -(-int(most) // int(period)))
    except (OSError, ValueError):  # no cgroup, or `max`
        return found
