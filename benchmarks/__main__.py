"""`python -m benchmarks`: measure, print the tables, and after a full run write RESULTS.md."""

import argparse
import os
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks.cores import choose_cores
from benchmarks.grids import summary
from benchmarks.groups import GROUPS, LINES, Choice, measure_groups
from benchmarks.idle import WANTED
from benchmarks.machine import describe_machine
from benchmarks.proxies import PROXIES
from benchmarks.rounds import Rounds
from benchmarks.table import results
from tests.peers.process import PeerFailed

RESULTS = Path(__file__).parent / "RESULTS.md"
ROUNDS = 5
SECONDS = 3
QUICK_IDLE = 500


def main() -> int:
    """Exit 0 when everything that was asked for has a figure, else 1."""
    options = _parser().parse_args()
    choice = Choice(options.group, options.only, options.work)
    number, seconds, idle = (1, 1, QUICK_IDLE) if options.quick else (options.rounds, options.seconds, WANTED)
    console, progress = Console(), Console(stderr=True, highlight=False)
    busy = os.getloadavg()[0]
    # Stopping is the same by keyboard and by a supervisor: every block is left, every process ends.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="domicile-benchmark-") as folder:
            rounds = Rounds(number, seconds, progress.print)
            report = measure_groups(choice, rounds, choose_cores(), Path(folder), idle)
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running and nothing was written.")
        return 130
    except PeerFailed as failure:
        console.print(str(failure), markup=False)
        return 1
    grids = report.grids()
    for grid in grids:
        grid.show(console)
    if options.quick or number < ROUNDS or report.failed or not choice.all:
        console.print(f"{RESULTS.name} is left as it is: it is written by full runs only.")
    else:
        date = datetime.now(UTC).strftime("%d %B %Y")
        machine = (*describe_machine(), ("load before", f"{busy:.2f}"))
        RESULTS.write_text(results(grids, machine, date, number, seconds), encoding="utf-8")
        console.print(f"Written to benchmarks/{RESULTS.name}.")
    console.print(summary(report.budget()), style="bold", highlight=False)
    return 1 if report.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--seconds", type=int, default=SECONDS, metavar="N", help="of load in each round")
    parser.add_argument("--group", nargs="+", default=(), choices=GROUPS, help="these groups alone")
    parser.add_argument("--only", nargs="+", default=(), choices=tuple(PROXIES), help="these proxies alone")
    parser.add_argument("--work", nargs="+", default=(), choices=LINES, help="these lines alone")
    parser.add_argument("--quick", action="store_true", help="one round of a second: does the harness work?")
    return parser


if __name__ == "__main__":
    sys.exit(main())
