"""Which core runs what: the proxies one, load and provider another. And with what rights: a proxy has none."""

import os
from dataclasses import dataclass

from tests.peers.process import program


@dataclass(frozen=True, slots=True)
class Cores:
    """Words to put before a command, so that it runs on its core.

    proxy: without capabilities too, as proxies are run: large pipes, for one, run out then. pair: the same on two
    cores, for what has two workers.
    """

    proxy: tuple[str, ...]
    pair: tuple[str, ...]
    load: tuple[str, ...]


def choose_cores() -> Cores:
    """The first two cores that this process may use; with one alone, all share it. The pair shares with load."""
    usable = sorted(os.sched_getaffinity(0))
    pin = (program("taskset"), "-c")
    first, second = usable[0], usable[1 if len(usable) > 1 else 0]
    plain = _without_rights()
    return Cores((*plain, *pin, str(first)), (*plain, *pin, f"{first},{second}"), (*pin, str(second)))


def _without_rights() -> tuple[str, ...]:
    """Words that take a superuser's capabilities from a command, which still owns his files. Others have none."""
    return (program("setpriv"), "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
