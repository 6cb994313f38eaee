"""Which core runs what: the proxies one, load and provider another."""

import os
from dataclasses import dataclass

from tests.peers.process import program


@dataclass(frozen=True, slots=True)
class Cores:
    """Words to put before a command, so that it runs on its core."""

    proxy: tuple[str, ...]
    load: tuple[str, ...]


def choose_cores() -> Cores:
    """The first two cores that this process may use; with one alone, all share it."""
    usable = sorted(os.sched_getaffinity(0))
    pin = (program("taskset"), "-c")
    return Cores((*pin, str(usable[0])), (*pin, str(usable[1 if len(usable) > 1 else 0])))
