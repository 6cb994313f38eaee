"""That the harness works, on one small round; never how fast anything is."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import overload
from benchmarks.cores import choose_cores
from benchmarks.groups import GROUPS, LINES, Choice
from benchmarks.idle import ended, measure_idle
from benchmarks.load import LoadFailed, load
from benchmarks.passing.measure import load_passing, measure_passing
from benchmarks.passing.proxies import PASSING_PROXIES
from benchmarks.passing.work import PASSING, Passing
from benchmarks.processor import family, processor_time, resident
from benchmarks.requests import measure_requests
from benchmarks.rounds import Rounds
from benchmarks.work import COST, Work
from benchmarks.workers import ONE, TWO, WORKERS, measure_workers
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


def test_memory_counts_children(grandparent: int) -> None:
    while len(family(grandparent)) < 2:
        pass
    pids = family(grandparent)
    assert resident(pids) > resident(pids[:1]) > 0


def test_the_work_is_named_once() -> None:
    assert len(set(LINES)) == len(LINES)


def one_round(said: list[str]) -> Rounds:
    return Rounds(1, 1, said.append, warm_up=0)


def quiet(said: str) -> None:
    """Whom progress is told that nobody reads."""


@pytest.mark.debian
def test_a_small_round_measures_nginx_and_domicile(tmp_path: Path) -> None:
    said: list[str] = []
    names = ["Domicile", "nginx"]
    works = [work for work in COST if work.name in ("12 B", "1 MiB upload", "12 B, TLS both sides")]
    figures = measure_requests(names, works, one_round(said), choose_cores(), tmp_path)
    assert figures.failures == {}
    assert figures.proxies() == names
    for work in works:
        ratio = figures.ratio(work.name, "Domicile", "nginx")
        assert ratio is not None
        assert ratio > 0
    assert len(said) == len(names) * len(works)


@pytest.mark.debian
def test_a_small_round_measures_all_that_is_passed_on(tmp_path: Path) -> None:
    said: list[str] = []
    figures = measure_passing(list(PASSING_PROXIES), PASSING, one_round(said), choose_cores(), tmp_path)
    assert figures.failures == {}
    for name in PASSING_PROXIES:
        assert all(figures.cost(work.name, name) for work in PASSING), said


@pytest.mark.debian
def test_a_small_round_measures_one_worker_and_two(tmp_path: Path) -> None:
    figures = measure_workers(one_round([]), choose_cores(), tmp_path)
    assert figures.failures == {}
    assert figures.ratio(WORKERS.name, TWO, ONE)


@pytest.mark.debian
def test_idle_connections_are_held_by_all_and_counted(tmp_path: Path) -> None:
    idle = measure_idle(["Domicile", "HAProxy", "nginx"], choose_cores(), tmp_path, quiet, wanted=200)
    assert idle.failures == {}
    assert {(each.kind, each.proxy) for each in idle.rows} == {
        (kind, name) for kind in ("passed on", "HTTP keep-alive") for name in ("Domicile", "HAProxy", "nginx")
    }
    assert all(each.connections == 200 for each in idle.rows)


@pytest.mark.debian
def test_a_small_storm_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "CROWD", 60)
    monkeypatch.setattr(overload, "BUSY", 20)
    monkeypatch.setattr(overload, "PROBES", 20)
    monkeypatch.setattr(overload, "SETTLES", 1.0)
    found = overload.measure(choose_cores(), 1.0, 1)
    (only,) = found.rounds
    assert found.capacity > 100
    assert only.unloaded.done > overload.PROBES / 2
    assert only.ratio > 0


def test_an_idle_connection_that_ends_is_no_figure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        served = server.accept()[0]
        assert ended([client]) == 0
        served.close()
        while not ended([client]):
            pass


def test_a_load_whose_connections_end_early_has_failed() -> None:
    port = free_port()
    work = Passing("passed, 12 B", 12, connections=2, keep=True, per="an exchange")
    with pytest.raises(LoadFailed, match="2 connections failed, 0 answers"):
        load_passing(port, (), work, 1)


def test_what_is_named_decides_which_groups_are_measured() -> None:
    def groups(choice: Choice) -> set[str]:
        return {group for group in GROUPS if choice.has(group)}

    assert groups(Choice()) == set(GROUPS)
    assert groups(Choice(groups=("idle", "workers"))) == {"idle", "workers"}
    assert groups(Choice(only=("nginx",))) == {"requests", "passing", "idle"}
    assert groups(Choice(works=("12 B",))) == {"requests", "passing", "workers"}
    assert groups(Choice(groups=("workers",), only=("Domicile",))) == {"workers"}
    assert Choice(only=("nginx",)).proxies(tuple(PASSING_PROXIES)) == ["nginx"]
    assert [line for line in LINES if Choice(works=("passed, 12 B",)).asks(line)] == ["passed, 12 B"]


@pytest.mark.debian
def test_a_failed_request_is_no_figure(tmp_path: Path) -> None:
    port = free_port()
    answers = "location = /12 { return 500; } location = /ok { return 200; }"
    with nginx(f"server {{ listen 127.0.0.1:{port}; {answers} }}", [port], tmp_path):
        assert load(Work("good", "/ok", connections=1), port, 1, ()).done > 0
        with pytest.raises(LoadFailed, match="requests failed"):
            load(Work("bad", "/12", connections=1), port, 1, ())
