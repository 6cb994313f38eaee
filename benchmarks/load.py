"""wrk, as a value: one run of some work against one port.

wrk keeps every connection busy with one request at a time, as fast as answers come, or after a pause where the
work has one. A latency counts from the moment when the request is written, so the pause is not part of it.
"""

import json
import os
import subprocess
from pathlib import Path

from benchmarks.figures import Seen
from benchmarks.work import HEADERS, Work
from tests.peers.process import program

_SCRIPTS = Path(__file__).parent / "wrk"


class LoadFailed(Exception):
    """The load failed, or some of its work did: such a figure says nothing."""


def load(work: Work, port: int, seconds: int, before: tuple[str, ...]) -> Seen:
    """Run the work for some seconds; before: words before the command, such as `taskset -c 1`.

    What is done are requests, all answered with 2xx.
    """
    command = [*before, program("wrk"), "-t", "1", "-c", str(work.connections), "-d", f"{seconds}s", "--timeout", "10s"]
    command += ["-s", str(_SCRIPTS / f"{work.script}.lua")]
    for name, value in HEADERS:
        command += ["-H", f"{name}: {value}"]
    if not work.keep_alive:
        command += ["-H", "Connection: close"]
    command.append(f"{'https' if work.tls else 'http'}://127.0.0.1:{port}{work.path}")
    environ = dict(os.environ, DOMICILE_BENCH_REPORT=str(_SCRIPTS / "report.lua"), DOMICILE_BENCH_THINK=str(work.think))
    run = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise LoadFailed(f"wrk: {run.stdout}{run.stderr}")
    figures = json.loads(run.stdout.rstrip().rpartition("\n")[2])
    if figures["failed"] or not figures["requests"]:
        raise LoadFailed(f"{work.name}: {figures['failed']} requests failed, {figures['requests']} did not")
    return Seen(figures["requests"], figures["microseconds"] / 1e6, figures["p99"] / 1e6)
