"""The service as a process: start, reload, signals, the end."""

import hashlib
import http.client
import os
import re
import socket
import ssl
import time
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR1

import pytest

from tests.running import Running, refused, start
from tests.server.minted import mint, serial_of, trusting_anything
from tests.server.provided import EDGE, WAIT, Asking, Provider, get, provider


def until(holds: object) -> None:
    """Until something that is not ours to be told of holds; `holds` is called again and again."""
    assert callable(holds)
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# -- start


def test_startup_has_a_line_for_each_listener_and_provider(tmp_path: Path) -> None:
    two = f'{EDGE}\n  - {{name: inner, bind: ["127.0.0.1:0", "[::1]:0", "unix:inner.sock"]}}'
    with provider() as own, start(own.policy(two), tmp_path) as proxy:
        texts = [line.split(" ", 1)[1] for line in proxy.said]
        assert texts[0] == f"info provider own: Example Inc in here, http://127.0.0.1:{own.server_address[1]}"
        assert texts[1] == f"info listener edge: http on 127.0.0.1:{proxy.port('edge')}"
        assert texts[2] == (
            f"info listener inner: http on 127.0.0.1:{proxy.port('inner')}, [::1]:{proxy.port('inner', 1)}, "
            f"unix:{tmp_path}/inner.sock"
        )
        assert texts[3] == f"info admin: http on {proxy.admin}"
        assert re.fullmatch(r"info workers: \d+", texts[4])
        assert texts[5].startswith(f"info serving {tmp_path}/policy.yaml, policy sha256:")
        assert get(proxy.port("edge")) == (200, b"0123456789")
        assert get(proxy.port("inner", 1), host="::1") == (200, b"0123456789")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "inner.sock"))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(15) == b"HTTP/1.1 200 OK"
    assert not (tmp_path / "inner.sock").exists()


def test_admin_endpoints(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(), tmp_path) as proxy:
        assert proxy.get("/healthz")[0] == 200
        status, body = proxy.get("/readyz")
        assert status == 200
        assert b'"ready": true' in body
        known = proxy.status()
        assert known["listeners"] == [
            {"name": "edge", "protocol": "http", "binds": proxy.addresses["edge"], "connections": 0}
        ]
        assert proxy.metric(f'domicile_policy_info{{digest="{known["digest"]}"}}') == 1
        assert proxy.metric('domicile_provider_healthy{provider="own",zone="here"}') == 1
        with socket.create_connection(("127.0.0.1", proxy.port("edge"))):
            until(lambda: proxy.metric('domicile_connections{listener="edge"}') == 1)
        until(lambda: proxy.metric('domicile_connections{listener="edge"}') == 0)


def test_startup_lines_leave_the_log_alone_on_standard_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as stdout, provider() as own:
        with start(own.policy(more="log: {path: stdout}"), tmp_path, stdout=stdout.fileno()) as proxy:
            get(proxy.port("edge"))
        assert out.read_text().count("\n") == 1
        assert out.read_text().startswith("{")


def test_every_mistake_is_printed_and_the_status_is_1(tmp_path: Path) -> None:
    with provider() as own:
        end = refused(own.policy().replace("allow: [here]", "allow: [nowhere]") + "\nnonsense: 1\n", tmp_path)
    assert end.status == 1
    assert len(end.said) == 2
    assert all(line.startswith(f"{tmp_path}/policy.yaml:") for line in end.said)


def test_files_that_do_not_serve_are_told_all_at_once(tmp_path: Path) -> None:
    one, two = mint(tmp_path, "one", "a.example", serial=1), mint(tmp_path, "two", "b.example", serial=2)
    two.key.write_bytes(one.key.read_bytes())
    tls = "tls: {certificates: [{certificate: two.pem, key: two.key}]}"
    listeners = f'{EDGE}\n  - {{name: a, bind: "127.0.0.1:0", {tls}}}\n  - {{name: b, bind: "127.0.0.1:0", {tls}}}'
    with provider() as own:
        end = refused(own.policy(listeners), tmp_path)
    assert end.status == 1
    assert len(end.said) == 2, end.said


def test_a_taken_bind_is_told_in_one_line(tmp_path: Path) -> None:
    with provider() as own:
        taken = own.server_address[1]
        end = refused(own.policy(f'{EDGE}\n  - {{name: inner, bind: "127.0.0.1:{taken}"}}'), tmp_path)
        assert end.status == 1
        assert end.said == [f"listener inner: cannot bind 127.0.0.1:{taken}: address already in use"]
        end = refused(own.policy(more=f'admin: {{bind: "127.0.0.1:{taken}"}}'), tmp_path)
        assert end.said == [f"admin: cannot bind 127.0.0.1:{taken}: address already in use"]


def test_a_log_that_cannot_be_opened(tmp_path: Path) -> None:
    with provider() as own:
        end = refused(own.policy(more="log: {path: gone/access.log}"), tmp_path)
    assert end.status == 1
    assert len(end.said) == 1


def test_a_policy_without_listeners_is_refused(tmp_path: Path) -> None:
    with provider() as own:
        end = refused(own.policy().replace("listeners:\n" + EDGE, ""), tmp_path)
    assert end.status == 1
    assert "listeners" in end.said[0]


def test_findings_are_warnings(tmp_path: Path) -> None:
    with provider() as own:
        dated = own.policy(rule="}\n  - {name: gone, when: {home: here}, forbid: [here], until: 2020-01-01T00:00:00Z")
        with start(dated, tmp_path) as proxy:
            assert any(" warning " in line and "policy.yaml:" in line for line in proxy.said), proxy.said


# -- reload


def test_reloads_under_load_fail_no_request(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(), tmp_path) as proxy:
        port = proxy.port("edge")
        clients = [Asking(port) for _ in range(8)]

        def all_go_on() -> None:
            before = [client.answers for client in clients]
            until(lambda: all(c.trouble or c.answers > b for c, b in zip(clients, before, strict=True)))

        all_go_on()
        digests = {proxy.status()["digest"]}
        for turn in range(2):
            assert proxy.reload(own.policy(rule=f", because: turn {turn}"))
            digests.add(proxy.status()["digest"])
            all_go_on()
            assert not proxy.reload(own.policy(rule=", allowed: [here]"))
            all_go_on()
            assert not proxy.reload(own.policy(listeners=f'{EDGE}\n  - {{name: b, bind: "127.0.0.1:{port}"}}'))
            all_go_on()
        assert len(digests) == 3
        for client in clients:
            client.stop()
        assert [client.trouble for client in clients] == [None] * 8
        assert proxy.port("edge") == port
        assert proxy.metric('domicile_policy_reloads_total{result="loaded"}') == 2
        assert proxy.metric('domicile_policy_reloads_total{result="refused"}') == 4


def test_a_refused_reload_says_every_mistake_and_keeps_the_policy(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(), tmp_path) as proxy:
        digest = proxy.status()["digest"]
        before = len(proxy.said)
        assert not proxy.reload(own.policy().replace("allow: [here]", "allow: [nowhere]") + "\nnonsense: 1\n")
        said = proxy.said[before:]
        assert [" error " in line for line in said] == [True] * 3
        assert sum("policy.yaml:" in line for line in said) == 2
        assert digest in said[-1]
        assert proxy.status()["digest"] == digest
        assert get(proxy.port("edge"))[0] == 200


def test_a_reload_decides_anew(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(), tmp_path) as proxy:
        assert get(proxy.port("edge"))[0] == 200
        assert proxy.reload(own.policy(rule="}\n  - {name: stop, when: {}, forbid: any"))
        served = own.served
        assert get(proxy.port("edge"))[0] == 451
        assert own.served == served


def test_listeners_come_and_go(tmp_path: Path) -> None:
    goes = '  - {name: goes, bind: "127.0.0.1:0"}'
    comes = '  - {name: comes, bind: ["127.0.0.1:0", "unix:comes.sock"]}'
    with provider() as own, start(own.policy(f"{EDGE}\n{goes}"), tmp_path) as proxy:
        edge, gone = proxy.port("edge"), proxy.port("goes")
        kept = http.client.HTTPConnection("127.0.0.1", gone, timeout=WAIT)
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"0123456789"
        assert proxy.reload(own.policy(f"{EDGE}\n{comes}"))
        assert proxy.port("edge") == edge
        assert set(proxy.addresses) == {"edge", "comes"}
        assert get(proxy.port("comes")) == (200, b"0123456789")
        assert (tmp_path / "comes.sock").is_socket()
        with pytest.raises(ConnectionRefusedError):
            get(gone)
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"0123456789"
        kept.close()
        assert proxy.reload(own.policy())
        assert not (tmp_path / "comes.sock").exists()


def test_certificates_are_read_again(tmp_path: Path) -> None:
    mint(tmp_path, "edge", "edge.example", serial=1)
    tls = EDGE.replace("}", ", tls: {certificates: [{certificate: edge.pem, key: edge.key}]}}")
    with provider() as own, start(own.policy(tls), tmp_path) as proxy:
        old = _handshake(proxy, "edge.example")
        assert serial_of(old) == 1
        expiry = proxy.metric('domicile_certificate_expiry_timestamp_seconds{name="edge.pem"}')
        mint(tmp_path, "edge", "edge.example", serial=2)
        (tmp_path / "edge.key").rename(tmp_path / "away.key")
        assert not proxy.reload()
        assert _serial(proxy) == 1
        (tmp_path / "away.key").rename(tmp_path / "edge.key")
        assert proxy.reload()
        assert _serial(proxy) == 2
        assert proxy.metric('domicile_certificate_expiry_timestamp_seconds{name="edge.pem"}') == expiry
        old.sendall(b"GET / HTTP/1.1\r\nHost: edge.example\r\n\r\n")
        assert old.recv(15) == b"HTTP/1.1 200 OK", "connections outlive the certificate they began with"
        old.close()


def _serial(proxy: Running) -> int:
    with _handshake(proxy, "edge.example") as connection:
        return serial_of(connection)


def _handshake(proxy: Running, name: str | None) -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", proxy.port("edge")), timeout=WAIT)
    return trusting_anything().wrap_socket(sock, server_hostname=name)


def test_the_log_and_the_admin_endpoints_may_move(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more='log: {path: one.log}\nadmin: {bind: "127.0.0.1:0"}'), tmp_path) as p:
        get(p.port("edge"))
        before = len(p.said)
        p.policy.write_text(own.policy(more='log: {path: two.log}\nadmin: {bind: "unix:admin.sock"}'))
        p.signal(SIGHUP)
        p.await_line("is in force", before)
        until(lambda: (tmp_path / "one.log").read_text().count("\n") == 1)
        get(p.port("edge"))
        until(lambda: (tmp_path / "two.log").read_text().count("\n") == 1)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "admin.sock"))
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert client.recv(15) == b"HTTP/1.0 200 OK"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(p.admin.rpartition(":")[2])))


def test_signals_in_a_row_end_in_the_last_policy(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(), tmp_path) as proxy:
        before = len(proxy.said)
        for turn in range(8):
            proxy.policy.write_text(own.policy(rule=f", because: turn {turn}", more='admin: {bind: "127.0.0.1:0"}'))
            proxy.signal(SIGHUP)
        last = proxy.policy.read_bytes()
        digest = f"sha256:{hashlib.sha256(last).hexdigest()}"
        proxy.await_line(f"policy {digest} is in force", before)
        assert proxy.metric('domicile_policy_reloads_total{result="loaded"}') < 8


# -- dates


def test_a_date_ends_what_it_withdraws(tmp_path: Path) -> None:
    at_once = "timeouts: {withdrawn: 0s}"
    with provider() as own, start(own.policy(more=at_once), tmp_path) as proxy:
        slow = _slow(own, proxy)
        date = int(time.time()) + 4
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(date))
        dated = own.policy(rule=f'}}\n  - {{name: stop, when: {{}}, forbid: any, from: "{text}"', more=at_once)
        assert proxy.reload(dated)
        answer = b"".join(iter(lambda: _received(slow), b""))
        assert time.time() >= date
        assert answer.endswith(b"first"), "cut, and not completed"
        assert get(proxy.port("edge"))[0] == 451
        assert proxy.metric('domicile_withdrawn_total{listener="edge",provider="own"}') == 1
        slow.close()


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except ConnectionError:
        return b""


# -- descriptors


def test_out_of_descriptors_the_admin_endpoints_answer_and_a_reload_works(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(), tmp_path, descriptors=64) as proxy:
        port = proxy.port("edge")
        clients = [socket.create_connection(("127.0.0.1", port), timeout=WAIT) for _ in range(100)]
        assert "file descriptors" in proxy.await_line("accepting pauses")
        assert len(os.listdir(f"/proc/{proxy.process.pid}/fd")) < 64
        before = _busy(proxy)
        for _ in range(5):
            assert proxy.get("/readyz")[0] == 200
            assert proxy.metric('domicile_connections{listener="edge"}') < 64
        assert proxy.reload(own.policy(rule=", because: short of descriptors"))
        assert _busy(proxy) - before < 3.0, "it spins"
        for client in clients[:90]:
            client.close()
        assert get(port) == (200, b"0123456789")
        for client in clients[90:]:
            client.close()
        assert sum("accepting pauses" in line for line in proxy.said) == 1


def _busy(proxy: Running) -> float:
    """Processor seconds of the process so far."""
    fields = Path(f"/proc/{proxy.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the other signals


def test_sigusr1_reopens_the_log(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(), tmp_path) as proxy:
        get(proxy.port("edge"))
        until(lambda: len(proxy.records()) == 1)
        proxy.log.rename(tmp_path / "old.log")
        proxy.signal(SIGUSR1)
        until(proxy.log.exists)
        get(proxy.port("edge"))
        until(lambda: len(proxy.records()) == 1)
        assert (tmp_path / "old.log").read_text().count("\n") == 1


# -- the end


def _slow(own: Provider, proxy: Running) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", proxy.port("edge")), timeout=WAIT)
    sock.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    assert own.begun.wait(WAIT)
    return sock


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_draining_lets_what_is_in_flight_finish(tmp_path: Path, number: int) -> None:
    with provider() as own, start(own.policy(), tmp_path) as proxy:
        idle = http.client.HTTPConnection("127.0.0.1", proxy.port("edge"), timeout=WAIT)
        idle.request("GET", "/")
        idle.getresponse().read()
        slow = _slow(own, proxy)
        os.kill(proxy.process.pid, number)
        proxy.await_line("draining")
        assert idle.sock.recv(1) == b"", "idle connections end at once"
        idle.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port("edge")))
        status, body = proxy.get("/readyz")
        assert status == 503
        assert b'"draining": true' in body
        assert proxy.process.poll() is None
        own.go.set()
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
        assert answer.endswith(b"first-last")
        slow.close()
        assert proxy.wait() == 0
        assert [record["status"] for record in proxy.records()] == [200, 200]


def test_draining_ends_at_its_time(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more="timeouts: {drain: 1s}"), tmp_path) as proxy:
        slow = _slow(own, proxy)
        assert proxy.stop() == 0
        assert b"-last" not in b"".join(iter(lambda: _received(slow), b""))
        slow.close()
        assert len(proxy.records()) == 1


def test_a_second_sigterm_ends_at_once(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(more="timeouts: {drain: 300s}"), tmp_path) as proxy:
        slow = _slow(own, proxy)
        proxy.signal(SIGTERM)
        proxy.await_line("draining")
        assert proxy.process.poll() is None
        proxy.signal(SIGTERM)
        assert proxy.wait() == 0
        slow.close()


def test_no_request_fails_while_draining_under_load(tmp_path: Path) -> None:
    with provider() as own, start(own.policy(), tmp_path) as proxy:
        clients = [Asking(proxy.port("edge")) for _ in range(8)]
        until(lambda: all(client.answers > 5 for client in clients))
        assert proxy.stop() == 0
        for client in clients:
            client.stop()
            # A connection ends between two answers: with a word in the last one, or as an idle one does.
            assert client.trouble is not None
            assert "told to leave" in client.trouble or "b''" in client.trouble or "reset" in client.trouble.lower()
