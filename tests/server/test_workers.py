"""Several processes: how they share, what each one's death costs, and how they change policy and program as one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGKILL, SIGTERM, SIGUSR2
from threading import Event, Thread

import pytest

from tests.running import ROOT, Running, refused, start
from tests.server.provided import EDGE, WAIT, Asking, Provider, get, provider

TWO = "workers: 2"


def until(holds: Callable[[], object]) -> None:
    """Until something that is not ours to be told of holds."""
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def connections(proxy: Running, pid: int) -> int:
    """How many of the edge's connections one process holds."""
    port = f"{proxy.port('edge'):04X}"
    inodes = {
        fields[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[1].endswith(f":{port}") and fields[3] == "01"
    }
    held = {os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd") if os.path.islink(entry.path)}
    return len({f"socket:[{inode}]" for inode in inodes} & held)


class Persistent:
    """A client that wants every request answered: on a kept connection, and on a new one where the old was closed
    before a byte of the answer came, as any HTTP client does with a request that may be repeated.

    anew: on a connection of its own each time.
    """

    def __init__(self, port: int, *, anew: bool = False) -> None:
        self._port = port
        self._anew = anew
        self._stop = Event()
        self.answers = 0
        self.failed: list[str] = []
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        connection = self._connection()
        while not self._stop.is_set():
            fresh = connection.sock is None
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                body = answer.read()
                if (answer.status, body) != (200, b"0123456789"):
                    self.failed.append(f"{answer.status} {body!r}")
                self.answers += 1
                if self._anew:
                    connection.close()
            except Exception as error:
                connection.close()
                if fresh:
                    self.failed.append(repr(error))
                connection = self._connection()
        connection.close()

    def _connection(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self._port, timeout=WAIT)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()


def go_on(clients: list[Persistent]) -> None:
    """Until each has had another answer."""
    before = [client.answers for client in clients]
    until(lambda: all(client.failed or client.answers > b for client, b in zip(clients, before, strict=True)))


# -- sharing


def test_workers_share_one_port_one_log_and_one_count(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more=TWO), tmp_path) as proxy:
        pids = proxy.workers()
        assert len(pids) == 2
        held = [socket.create_connection(("127.0.0.1", proxy.port("edge"))) for _ in range(60)]
        until(lambda: sum(connections(proxy, pid) for pid in pids) == 60)
        assert all(connections(proxy, pid) > 5 for pid in pids)
        until(lambda: proxy.metric('domicile_connections{listener="edge"}') == 60)
        assert proxy.status()["listeners"][0]["connections"] == 60
        for each in held:
            each.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while each.recv(65536):
                pass
            each.close()
        until(lambda: len(proxy.records()) == 60)
        assert proxy.metric('domicile_requests_total{listener="edge",provider="own",status="2xx",zone="here"}') == 60
        assert proxy.metric("domicile_workers") == 2
        assert json.loads(proxy.get("/readyz")[1])["ready"] is True


def test_affinity_keeps_each_on_a_processor(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more="workers: {count: 2, affinity: true}"), tmp_path) as proxy:
        kept = [os.sched_getaffinity(pid) for pid in proxy.workers()]
        assert all(len(each) == 1 for each in kept)
        if len(os.sched_getaffinity(0)) > 1:
            assert kept[0] != kept[1]


def test_auto_is_one_for_each_processor(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more="workers: auto"), tmp_path) as proxy:
        assert 1 <= len(proxy.workers()) <= len(os.sched_getaffinity(0))


# -- death


def test_a_killed_worker_costs_its_own_connections_alone_and_is_replaced(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more=TWO), tmp_path) as proxy:
        clients = [Asking(proxy.port("edge")) for _ in range(16)]
        until(lambda: all(client.answers > 5 for client in clients))
        pids = proxy.workers()
        theirs = [connections(proxy, pid) for pid in pids]
        assert sum(theirs) == 16
        counted = 'domicile_requests_total{listener="edge",provider="own",status="2xx",zone="here"}'
        before = proxy.metric(counted)
        os.kill(pids[0], SIGKILL)
        proxy.await_line(f"worker {pids[0]} ended (signal 9)")
        proxy.await_line("serves in its place")
        until(lambda: sum(client.trouble is not None for client in clients) == theirs[0])
        alive = [client for client in clients if client.trouble is None]
        assert len(alive) == theirs[1]
        answers = [client.answers for client in alive]
        until(lambda: all(client.answers > a + 20 for client, a in zip(alive, answers, strict=True)))
        assert proxy.metric(counted) >= before, "counters never go back"
        assert proxy.metric("domicile_worker_restarts_total") == 1
        assert proxy.metric("domicile_workers") == 2
        for client in clients:
            client.stop()
        assert sum(client.trouble is not None for client in clients) == theirs[0]
        for _ in range(20):
            assert get(proxy.port("edge")) == (200, b"0123456789")
        (replaced,) = set(children(proxy.process.pid)) - set(pids)
        until(lambda: connections(proxy, replaced) == 0)


def test_who_connects_while_nobody_serves_waits(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(), tmp_path) as proxy:
        (pid,) = proxy.workers()
        os.kill(pid, signal.SIGSTOP)  # so that its queue is not emptied
        waiting = [socket.create_connection(("127.0.0.1", proxy.port("edge")), timeout=WAIT) for _ in range(20)]
        for each in waiting:
            each.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        os.kill(pid, SIGKILL)
        for each in waiting:
            assert each.recv(12) == b"HTTP/1.1 200"
            each.close()


def test_workers_whose_master_is_killed_finish_what_they_have_and_end(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more=TWO), tmp_path) as proxy:
        pids, port = proxy.workers(), proxy.port("edge")
        slow = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert own.begun.wait(WAIT)
        proxy.process.kill()
        until(lambda: _refused(port))
        own.go.set()
        assert b"".join(iter(lambda: slow.recv(65536), b"")).endswith(b"first-last")
        slow.close()
        until(lambda: not any(_alive(pid) for pid in pids))


def _refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


# -- reload


def test_a_reload_is_everybodys_or_nobodys(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more=TWO), tmp_path) as proxy:
        clients = [Persistent(proxy.port("edge")) for _ in range(8)]
        go_on(clients)
        assert proxy.reload(own.policy(more=TWO, rule=", because: one"))
        digest = proxy.status()["digest"]
        go_on(clients)
        tls = "tls: {certificates: [{certificate: gone.pem, key: gone.key}]}"
        assert not proxy.reload(own.policy(f'{EDGE}\n  - {{name: b, bind: "127.0.0.1:0", {tls}}}', more=TWO))
        assert proxy.status()["digest"] == digest
        go_on(clients)
        more = f'{EDGE}\n  - {{name: other, bind: "127.0.0.1:0"}}'
        assert proxy.reload(own.policy(more, more=TWO, rule=", because: two"))
        for _ in range(20):
            assert get(proxy.port("other"))[0] == 200
        for client in clients:
            client.stop()
        assert [client.failed for client in clients] == [[]] * 8


def test_a_worker_that_begins_after_a_reload_has_the_new_policy(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more=TWO), tmp_path) as proxy:
        assert proxy.reload(own.policy(more=TWO).replace("allow: [here]", "forbid: any"))
        pids = proxy.workers()
        for pid in pids:
            os.kill(pid, SIGKILL)
        until(lambda: sum("serves in its place" in line for line in proxy.said) == 2)
        assert {get(proxy.port("edge"))[0] for _ in range(20)} == {451}


def test_another_number_of_workers_is_said_to_wait(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(), tmp_path) as proxy:
        assert proxy.reload(own.policy(more=TWO))
        proxy.await_line("workers: there are 1 until this program ends or is upgraded")


# -- the program's successor


def test_reloads_and_upgrades_under_load_fail_no_request(tmp_path: Path) -> None:
    more = f"control: control.sock\n{TWO}"
    passed = f'{EDGE}\n  - {{name: passed, bind: "127.0.0.1:0", protocol: tcp}}'
    with provider() as own, start(both_ways(own.policy(passed, more), own), tmp_path) as proxy:
        clients = [Persistent(proxy.port("edge")) for _ in range(6)]
        clients += [Persistent(proxy.port("passed"), anew=True) for _ in range(2)]
        newest = proxy.process.pid
        try:
            go_on(clients)
            for upgrade in range(5):
                for turn in range(10):
                    reload(proxy, newest, f"reload {turn} of program {upgrade}")
                go_on(clients)
                before = len(proxy.said)
                os.kill(newest, SIGUSR2)
                newest = int(proxy.await_line("upgrade: program ", before).split("program ")[1].split()[0])
                proxy.await_line("info ended", before)
                go_on(clients)
                assert proxy.status()["digest"]
            assert proxy.process.wait(WAIT) == 0, "the first program has ended well"
        finally:
            for client in clients:
                client.stop()
            os.kill(newest, SIGTERM)
            until(lambda: not _alive(newest))
        assert [client.failed for client in clients] == [[]] * 8


def both_ways(policy: str, own: Provider) -> str:
    """The policy, its provider reachable for what is passed on too."""
    port = own.server_address[1]
    return policy.replace(f'["http://127.0.0.1:{port}"]', f'["http://127.0.0.1:{port}", "tcp://127.0.0.1:{port}"]')


def reload(proxy: Running, pid: int, remark: str) -> None:
    """Another policy file, which says the same, put in force by the program of this number."""
    changed = proxy.policy.with_suffix(".new")
    changed.write_text(proxy.policy.read_text().partition("\n# ")[0] + f"\n# {remark}\n")
    changed.rename(proxy.policy)
    before = len(proxy.said)
    os.kill(pid, signal.SIGHUP)
    assert "stays" not in proxy.await_line(" in force", before)


def test_the_next_program_may_have_more_workers_and_another_policy(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more="control: control.sock"), tmp_path) as proxy:
        port = proxy.port("edge")
        proxy.policy.write_text(proxy.policy.read_text().replace("workers: 1", "workers: 3"))
        second = upgraded(proxy)
        try:
            until(lambda: proxy.process.poll() == 0)
            assert len(children(second)) == 3
            assert get(port) == (200, b"0123456789")
            assert proxy.metric("domicile_workers") == 3
        finally:
            end(second)


def upgraded(proxy: Running) -> int:
    """`domicile serve --upgrade`, as an operator types it; its process number once it serves."""
    with (proxy.policy.parent / "second.err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy.cli", "serve", "--upgrade", str(proxy.policy)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
        )
    process.returncode = 0  # it outlives this function: whoever waits for it does so by its number
    until(lambda: "info serving" in (proxy.policy.parent / "second.err").read_text() or not _alive(process.pid))
    return process.pid


def _alive(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return Path(f"/proc/{pid}").exists()


def end(pid: int) -> None:
    os.kill(pid, SIGTERM)
    until(lambda: not _alive(pid))


def test_a_next_program_that_cannot_serve_changes_nothing(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more="control: control.sock"), tmp_path) as proxy:
        good = proxy.policy.read_text()
        proxy.policy.write_text(good.replace("allow: [here]", "allow: [nowhere]"))
        proxy.signal(SIGUSR2)
        proxy.await_line("the new program ended before it served; this one serves on")
        assert get(proxy.port("edge")) == (200, b"0123456789")
        proxy.policy.write_text(good)
        assert proxy.reload()
        assert get(proxy.port("edge")) == (200, b"0123456789")


def test_nobody_to_take_over_from(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(), tmp_path) as proxy:
        second = upgraded(proxy)
        assert "cannot be found" in (tmp_path / "second.err").read_text()
        assert not _alive(second)
        assert get(proxy.port("edge"))[0] == 200


def test_a_second_program_is_not_started_beside_the_first_by_mistake(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more="control: control.sock"), tmp_path) as proxy:
        other = tmp_path / "other"
        other.mkdir()
        end = refused(own.policy(more=f"control: {tmp_path}/control.sock"), other)
        assert end.said == [f"control: a program answers at {tmp_path}/control.sock; `serve --upgrade` takes its place"]
        taken = own.policy(f'  - {{name: edge, bind: "127.0.0.1:{proxy.port("edge")}"}}', more=TWO)
        assert "address already in use" in refused(taken, other).said[0]


@pytest.mark.parametrize("workers", ["workers: 1", TWO])
def test_a_drain_ends_with_all_workers_gone(tmp_path: Path, workers: str) -> None:
    with provider() as own, start(own.policy(more=workers), tmp_path) as proxy:
        pids = proxy.workers()
        assert proxy.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
