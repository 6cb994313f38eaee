"""Active checks by the running program: a real server as the provider, two workers, and one that nobody may reach."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.authority import make_authority
from tests.peers.nginx import nginx
from tests.peers.process import free_port
from tests.running import Running, start
from tests.server.provided import EDGE, WAIT, get

pytestmark = pytest.mark.debian

CHECKS = "interval: 100ms, timeout: 5s, healthy: 1, unhealthy: 2, breaker: {open: 200ms, longest: 1s, slow_start: 0s}"

POLICY = """
version: 1
zones:
  here: {{countries: [FR]}}
  there: {{countries: ["*"]}}
providers:
  own:
    operator: Example Inc
    zone: here
    endpoints: ["https://127.0.0.1:{own}"]
    headers: {{X-Api-Key: abc}}
    tls: {{ca: {ca}}}
    health: {{path: /up, body: ready, {checks}}}
  bare:
    operator: Example Inc
    zone: here
    endpoints: ["https://127.0.0.1:{own}"]
    tls: {{ca: {ca}}}
    health: {{kind: tls, {checks}}}
  other:
    operator: Other Inc
    zone: there
    endpoints: ["http://127.0.0.1:{other}"]
    health: {{{checks}}}
subject:
  sources: [{{location: {{accounts: false}}}}]
  stated: [{{when: {{}}, home: {home}}}]
rules:
  - {{name: home, when: {{home: here}}, allow: [here]}}
  - {{name: foreign, when: {{home: there}}, allow: [there]}}
listeners:
{edge}
workers: 2
"""

HTTP = """
log_format checks '$request|$status|$http_user_agent|$http_x_forwarded_for|$http_traceparent';
server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{ return 200 "served"; }}
    location /up {{ if ($http_x_api_key != abc) {{ return 401; }} return 200 "ready\\n"; }}
    access_log {log} checks;
}}
"""


class Recording:
    """Takes connections, writes down what each sends, and answers 200."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError):
                sock.settimeout(WAIT)
                data = b""
                while not data.endswith(b"\r\n\r\n") and (more := sock.recv(65536)):
                    data += more
                self.heard.append(data)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nother")

    def traffic(self) -> list[bytes]:
        """What came that is no check."""
        return [each for each in self.heard if b"\r\nUser-Agent: domicile-check\r\n" not in each]

    @contextlib.contextmanager
    def running(self) -> Iterator["Recording"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._thread.join(WAIT)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def samples(proxy: Running, family: str, **labels: str) -> dict[str, float]:
    """The samples of a family that have these labels, by their text."""
    found = {}
    for line in proxy.get("/metrics")[1].decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith(family + "{") and all(f'{key}="{each}"' in name for key, each in labels.items()):
            found[name] = float(value)
    return found


def state(proxy: Running, provider: str) -> str:
    (one,) = (name for name, value in samples(proxy, "domicile_endpoint_state", provider=provider).items() if value)
    found = re.search(r'state="([a-z-]+)"', one)
    assert found
    return found[1]


def total(proxy: Running, family: str, **labels: str) -> float:
    return sum(samples(proxy, family, **labels).values())


def test_a_provider_that_is_killed_is_left_alone_and_comes_back_and_nobody_else_hears_of_it(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    issued = authority.issue(ips=["127.0.0.1"])
    port, log = free_port(), tmp_path / "checks.log"
    http = HTTP.format(port=port, certificate=issued.certificate, key=issued.key, log=log)

    def policy(home: str) -> str:
        names = {"own": port, "other": other.port, "ca": authority.certificate}
        return POLICY.format(home=home, checks=CHECKS, edge=EDGE, **names)

    def told(result: str, provider: str) -> float:
        return total(proxy, "domicile_checks_total", provider=provider, result=result)

    with Recording().running() as other, contextlib.ExitStack() as life:
        life.enter_context(nginx(http, [port], tmp_path / "nginx", level="info"))
        with start(policy("there"), tmp_path) as proxy:
            assert get(proxy.port("edge")) == (200, b"other"), "it can be reached"
            assert len(other.traffic()) == 1
            assert proxy.reload(policy("here"))
            until(lambda: min(told("good", each) for each in ("own", "bare", "other")) >= 4)
            assert get(proxy.port("edge")) == (200, b"served")
            for name in ("own", "bare", "other"):
                assert state(proxy, name) == "closed"
                assert total(proxy, "domicile_evidence", provider=name, verdict="unknown") == 1
                assert 0 < total(proxy, "domicile_check_rtt_seconds", provider=name) < WAIT
                assert told("bad", name) == 0
            for name in ("own", "bare"):
                expiry = f'domicile_certificate_expiry_timestamp_seconds{{name="{name} 127.0.0.1:{port}"}}'
                assert time.time() < proxy.metric(expiry) < time.time() + 90 * 86400

            life.close()
            until(lambda: told("bad", "own") >= 2 and {state(proxy, "own"), state(proxy, "bare")} == {"open"})
            until(lambda: get(proxy.port("edge"))[0] == 503)  # once both workers' checks have found it
            assert total(proxy, "domicile_breaker_trips_total", provider="own") >= 1
            assert state(proxy, "other") == "closed"
            proxy.await_line(f"warning provider own, 127.0.0.1:{port}: checks fail: connection refused")

            life.enter_context(nginx(http, [port], tmp_path / "again", level="info"))
            until(lambda: {state(proxy, "own"), state(proxy, "bare")} == {"closed"})
            proxy.await_line(f"warning provider own, 127.0.0.1:{port}: checks succeed again")
            assert get(proxy.port("edge")) == (200, b"served")
            assert len(other.traffic()) == 1
            before = len(other.heard)
            until(lambda: len(other.heard) > before)
            assert proxy.stop() == 0
            ended = len(other.heard)
        life.close()
        assert len(other.heard) == ended
        lines = [line for line in log.read_text().splitlines() if line.startswith("GET /up")]
        assert set(lines) == {"GET /up HTTP/1.1|200|domicile-check|-|-"}
        complaints = (tmp_path / "nginx" / "error.log").read_text().splitlines()
        # But for that of whoever waited for nginx to listen.
        assert len([line for line in complaints if "SSL" in line]) <= 1, "every handshake looked whole"


def test_evidence_that_is_enforced_takes_a_provider_out_of_service_and_says_so_once_in_each_worker(
    tmp_path: Path,
) -> None:
    """The only provider of the zone answers sooner than light could come from where it says it is."""
    place = "location: {lat: -17.5, lon: -149.6}, evidence: enforce"
    with Recording().running() as own:
        policy = f"""
version: 1
location: {{lat: 48.9, lon: 2.4}}
zones:
  here: {{countries: ["*"]}}
providers:
  own: {{operator: Example Inc, zone: here, endpoints: ["http://127.0.0.1:{own.port}"], health: {{{CHECKS}}}, WHERE}}
subject:
  sources: [{{location: {{accounts: false}}}}]
  stated: [{{when: {{}}, home: here}}]
rules:
  - {{name: home, when: {{home: here}}, allow: [here]}}
listeners:
{EDGE}
workers: 2
"""
        near = policy.replace("WHERE", "location: {lat: 48.8, lon: 2.3}, evidence: enforce")
        with start(policy.replace("WHERE", place), tmp_path) as proxy:
            flagged = "answers within"
            until(lambda: sum(flagged in line for line in proxy.said) == 2)
            until(lambda: total(proxy, "domicile_evidence", verdict="distance-impossible") == 1)
            assert all(line.endswith("it is out of service") for line in proxy.said if flagged in line)
            assert get(proxy.port("edge"))[0] == 503
            until(lambda: state(proxy, "own") == "open")
            assert own.traffic() == []
            heard = len(own.heard)
            until(lambda: len(own.heard) > heard + 2)
            assert sum(flagged in line for line in proxy.said) == 2
            assert proxy.reload(near)
            until(lambda: state(proxy, "own") == "closed")
            assert get(proxy.port("edge")) == (200, b"other")
