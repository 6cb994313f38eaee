"""What lives inside a process of the soak, told when it is asked by a signal.

Python imports this by itself where it is on PYTHONPATH. Each process writes FOLDER/PID: a line for each of our own
classes, and for tasks that are not done, with how many there are; and how many KiB are in use, at most.
"""

import ctypes
import os
import signal
import sys
from types import FrameType

FOLDER = os.environ.get("DOMICILE_CENSUS")

LARGEST_BLOCK = 512
"""Bytes. What is larger, Python has from malloc."""


class _Info(ctypes.Structure):
    """mallinfo2(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _in_use() -> int:
    """Bytes that somebody holds: memory that was given back, and is kept by an allocator, is no leak."""
    malloc = ctypes.CDLL(None).mallinfo2
    malloc.restype = _Info
    info = malloc()
    return int(info.uordblks) + int(info.hblkhd) + sys.getallocatedblocks() * LARGEST_BLOCK


def _census(number: int, frame: FrameType | None) -> None:
    import asyncio
    import gc
    from collections import Counter

    gc.collect()
    counted: Counter[str] = Counter()
    for each in gc.get_objects():
        kind = type(each)
        module = str(kind.__module__)
        if module.startswith("proxy."):
            counted[f"{module}.{kind.__qualname__}"] += 1
        elif isinstance(each, asyncio.Task) and not each.done():
            counted[f"task {each.get_coro().__qualname__}"] += 1
    counted["KiB in use"] = _in_use() >> 10
    path = f"{FOLDER}/{os.getpid()}"
    with open(f"{path}.new", "w") as file:
        file.writelines(f"{count} {name}\n" for name, count in sorted(counted.items()))
    os.rename(f"{path}.new", path)


if FOLDER:
    _in_use()
    signal.signal(signal.SIGRTMIN + 1, _census)
