"""Started by a connection, as systemd's socket units do it: systemd's own program opens the socket and waits."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.process import free_port, program

POLICY = """\
version: 1
zones:
  anywhere: {{countries: ["*"]}}
providers:
  own: {{operator: Example Inc, zone: anywhere, endpoints: ["http://127.0.0.1:9"]}}
subject:
  sources:
    - location: {{}}
rules:
  - {{name: everyone, when: {{home: anywhere}}, allow: [anywhere]}}
listeners:
  - {{name: edge, bind: "127.0.0.1:{port}", protocol: http}}
log: {{path: access.log}}
admin: {{bind: "unix:admin.sock"}}
workers: 2
"""

PATIENCE = 60


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    """Where a supervisor hears how things stand."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE)
        yield sock


@pytest.mark.debian
def test_the_first_connection_starts_the_proxy_and_is_answered(tmp_path: Path, supervisor: socket.socket) -> None:
    port = free_port()
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(port=port))
    domicile = Path(sys.executable).with_name("domicile")
    environ = [
        f"-E{name}={value}" for name, value in {"NOTIFY_SOCKET": tmp_path / "notify", "WATCHDOG_USEC": 400_000}.items()
    ]
    command = [program("systemd-socket-activate"), f"-l127.0.0.1:{port}", *environ, str(domicile), "serve", str(policy)]
    activator = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True)
    try:
        assert activator.stderr is not None
        assert "Listening on" in activator.stderr.readline()
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: edge.example\r\nConnection: close\r\n\r\n")
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 451 ")
        # The socket is the one that was handed over: nobody has opened another.
        assert listening_at(port) == 1
        until(supervisor, "READY=1")
        os.kill(activator.pid, signal.SIGHUP)
        until(supervisor, "RELOADING=1")
        until(supervisor, "READY=1")
        until(supervisor, "WATCHDOG=1")
        os.kill(activator.pid, signal.SIGTERM)
        until(supervisor, "STOPPING=1")
        assert activator.wait(PATIENCE) == 0, activator.stderr.read()
    finally:
        if activator.poll() is None:
            os.killpg(activator.pid, signal.SIGKILL)
        activator.communicate()


def until(supervisor: socket.socket, word: str) -> str:
    """What is said that begins so; what is said before is passed over."""
    while not (said := supervisor.recv(4096).decode()).startswith(word):
        pass
    return said


def listening_at(port: int) -> int:
    """How many sockets listen at a port of 127.0.0.1."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1] == f"0100007F:{port:04X}" and line.split()[3] == "0A" for line in lines)
