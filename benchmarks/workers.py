"""What a second worker costs: processor time a request of Domicile with two workers and with one, at the same load."""

from functools import partial
from pathlib import Path

from benchmarks.cores import Cores
from benchmarks.figures import Figures
from benchmarks.proxies.domicile import domicile_proxy
from benchmarks.requests import running
from benchmarks.rounds import Rounds, measure
from benchmarks.work import Work

ONE = "one worker"
TWO = "two workers"

WORKERS = Work("12 B, by workers", "/12", connections=16)
"""Both have the same two cores."""


def measure_workers(rounds: Rounds, cores: Cores, folder: Path) -> Figures:
    """Processor time a request, the master's included."""
    starts = {ONE: partial(domicile_proxy, workers=1), TWO: partial(domicile_proxy, workers=2)}
    with running(starts, cores.pair, cores, folder) as runners:
        return measure(runners, [WORKERS], rounds, folder)
