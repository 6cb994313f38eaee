"""That the harness works, on one small round; never how fast anything is."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cores import choose_cores
from benchmarks.load import LoadFailed, load
from benchmarks.processor import family, processor_time
from benchmarks.rounds import measure
from benchmarks.work import COST, Work
from tests.peers.nginx import nginx
from tests.peers.process import free_port

SPINS = "while True: pass"
STARTS_ONE_THAT_SPINS = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPINS!r}])"


@pytest.fixture
def grandparent() -> Iterator[int]:
    """The process id of one that waits for a child that spins."""
    process = subprocess.Popen([sys.executable, "-c", STARTS_ONE_THAT_SPINS], start_new_session=True)
    yield process.pid
    os.killpg(process.pid, 9)
    process.wait()


def test_processor_time_counts_children(grandparent: int) -> None:
    while len(family(grandparent)) < 2:
        pass
    pids = family(grandparent)
    before = processor_time(pids)
    while processor_time(pids) < before + 0.05:
        pass
    assert processor_time(pids[1:]) > processor_time(pids[:1]) / 10


def test_the_work_is_named_once() -> None:
    assert len({work.name for work in COST}) == len(COST)


@pytest.mark.debian
def test_a_small_round_measures_nginx_and_domicile(tmp_path: Path) -> None:
    said: list[str] = []
    names = ["Domicile", "nginx"]
    works = [work for work in COST if work.name in ("12 B", "1 MiB upload", "12 B, TLS both sides")]
    figures = measure(
        names, works, rounds=1, seconds=1, cores=choose_cores(), folder=tmp_path, say=said.append, warm_up=0
    )
    assert figures.failures == {}
    assert figures.proxies() == names
    for work in works:
        ratio = figures.ratio(work.name, "Domicile", "nginx")
        assert ratio is not None
        assert ratio > 0
    assert len(said) == len(names) * len(works)


@pytest.mark.debian
def test_a_failed_request_is_no_figure(tmp_path: Path) -> None:
    port = free_port()
    answers = "location = /12 { return 500; } location = /ok { return 200; }"
    with nginx(f"server {{ listen 127.0.0.1:{port}; {answers} }}", [port], tmp_path):
        assert load(Work("good", "/ok", connections=1), port, 1, ()).requests > 0
        with pytest.raises(LoadFailed, match="requests failed"):
            load(Work("bad", "/12", connections=1), port, 1, ())
