"""Processor time of what is passed on: by exchanges, connections and bytes."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.cores import Cores
from benchmarks.figures import Figures, Seen
from benchmarks.load import LoadFailed
from benchmarks.passing.proxies import PASSING_PROXIES, PassingLane
from benchmarks.passing.work import Passing
from benchmarks.rounds import Rounds, Runner, measure
from tests.peers.process import free_port, running

_ROOT = Path(__file__).parents[2]


def measure_passing(
    names: Sequence[str], works: Iterable[Passing], rounds: Rounds, cores: Cores, folder: Path
) -> Figures:
    """Processor time of the named proxies."""
    with ExitStack() as stack:
        provider = stack.enter_context(passing_provider(folder / "provider", cores.load))
        runners = {}
        for name in names:
            lane = PassingLane(free_port(), provider, folder / name, cores.proxy)
            peer = stack.enter_context(PASSING_PROXIES[name](lane))
            runners[name] = Runner(peer, partial(load_passing, lane.listen, cores.load))
        return measure(runners, works, rounds, folder)


@contextmanager
def passing_provider(folder: Path, before: tuple[str, ...]) -> Iterator[int]:
    """Run the provider until the block is left; where it listens."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [*before, sys.executable, "-m", "benchmarks.passing.provider_program", port]
    with running("provider", command, folder, [port], environ={"PYTHONPATH": str(_ROOT)}):
        yield port


def load_passing(port: int, before: tuple[str, ...], work: Passing, seconds: int) -> Seen:
    """Run the work for some seconds; before: words before the command, such as `taskset -c 1`."""
    words = [str(word) for word in (port, work.answer, work.connections, seconds, "keep" if work.keep else "new")]
    command = [*before, sys.executable, "-m", "benchmarks.passing.load_program", *words]
    run = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise LoadFailed(f"{work.name}: {run.stdout}{run.stderr}")
    told = json.loads(run.stdout)
    if told["failed"] or not told["answers"]:
        raise LoadFailed(f"{work.name}: {told['failed']} connections failed, {told['answers']} answers came")
    return Seen(told["answers"] * work.pieces, told["seconds"])
