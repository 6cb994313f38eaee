"""What a process and all that it started take: processor time, with the scheduler's own precision, and memory."""

import resource
import time
from pathlib import Path

# A process's CPU-time clock, as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED of the whole thread group, in
# nanoseconds. The utime and stime of /proc/PID/stat count in ticks of 10 ms.
_CPUCLOCK_SCHED = 2


def family(pid: int) -> tuple[int, ...]:
    """A process and its living descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return tuple(found)


def processor_time(pids: tuple[int, ...]) -> float:
    """Seconds that these processes have run, in user space and in the kernel."""
    return sum(time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids)


def resident(pids: tuple[int, ...]) -> int:
    """Bytes that these processes have resident; what they share counts for each."""
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return sum(pages) * resource.getpagesize()
