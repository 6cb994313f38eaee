"""`python -m benchmarks`: measure, print the tables, and after a full run write RESULTS.md."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks import decide
from benchmarks.cores import choose_cores
from benchmarks.decide import Cost
from benchmarks.figures import Figures
from benchmarks.machine import describe_machine
from benchmarks.proxies import DOMICILE, PROXIES
from benchmarks.rounds import measure
from benchmarks.table import Grid, budget_grid, cost_grid, decision_grid, latency_grid, ratio_grid, results, spread_grid
from benchmarks.work import COST, PACED
from tests.peers.process import PeerFailed

RESULTS = Path(__file__).parent / "RESULTS.md"
ROUNDS = 5
SECONDS = 3


def main() -> int:
    """Exit 0 when everything that was asked for has a figure, else 1."""
    options = _parser().parse_args()
    names = [name for name in PROXIES if not options.only or name in options.only]
    works = [work for work in (*COST, PACED) if not options.work or work.name in options.work]
    rounds, seconds = (1, 1) if options.quick else (options.rounds, options.seconds)
    console = Console()
    busy = os.getloadavg()[0]
    # Stopping is the same by keyboard and by a supervisor: every block is left, every process ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="domicile-benchmark-") as folder:
            progress = Console(stderr=True, highlight=False)
            figures = measure(names, works, rounds, seconds, choose_cores(), Path(folder), progress.print)
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running and nothing was written.")
        return 130
    except PeerFailed as failure:
        console.print(str(failure), markup=False)
        return 1
    grids = _grids(figures, [] if options.work or options.only else decide.measure())
    for grid in grids:
        grid.show(console)
    partial = options.quick or options.only or options.work or rounds < ROUNDS or figures.failures
    if partial:
        console.print(f"{RESULTS.name} is left as it is: it is written by full runs only.")
    else:
        date = datetime.now(UTC).strftime("%d %B %Y")
        RESULTS.write_text(
            results(grids, (*describe_machine(), ("load before", f"{busy:.2f}")), date, rounds, seconds),
            encoding="utf-8",
        )
        console.print(f"Written to benchmarks/{RESULTS.name}.")
    return 1 if figures.failures else 0


def _grids(figures: Figures, decisions: Sequence[Cost]) -> tuple[Grid, ...]:
    grids = [cost_grid(figures), spread_grid(figures)]
    if PACED.name in figures.works():
        grids.insert(1, latency_grid(figures))
    if DOMICILE in figures.proxies():
        grids[:0] = ratio_grid(figures), budget_grid(figures, decisions)
    if decisions:
        grids.append(decision_grid(decisions))
    return tuple(grids)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--seconds", type=int, default=SECONDS, metavar="N", help="of load in each round")
    parser.add_argument("--only", nargs="+", choices=tuple(PROXIES), help="these proxies alone")
    parser.add_argument("--work", nargs="+", choices=[work.name for work in (*COST, PACED)], help="these lines alone")
    parser.add_argument("--quick", action="store_true", help="one round of a second: does the harness work?")
    return parser


if __name__ == "__main__":
    sys.exit(main())
