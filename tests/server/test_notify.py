"""What a supervisor is told and hands over."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from proxy.server.notify import Notifier, activated


def test_words_reach_the_supervisors_socket(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(path))
        supervisor.settimeout(10)
        os.environ["NOTIFY_SOCKET"] = str(path)
        try:
            notifier = Notifier({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "30000000"})
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert notifier.watchdog == 15.0
        notifier.ready("policy sha256:1")
        notifier.reloading()
        notifier.alive()
        notifier.succeeded_by(17)
        notifier.stopping()
        notifier.close()
        said = [supervisor.recv(1000).decode() for _ in range(5)]
    assert said[0] == "READY=1\nSTATUS=policy sha256:1"
    assert said[1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert said[2:] == ["WATCHDOG=1", "MAINPID=17", "STOPPING=1"]


def test_without_a_supervisor_nothing_is_said() -> None:
    notifier = Notifier({})
    assert notifier.watchdog is None
    notifier.ready("nobody listens")


def test_sockets_meant_for_another_process_are_left_alone() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "OTHER": "stays"}
    assert activated(environ, lambda: 2) == []
    assert environ == {"OTHER": "stays"}
    assert activated({}, lambda: 2) == []


def test_sockets_of_socket_activation(tmp_path: Path) -> None:
    script = (
        "from proxy.server.notify import activated\n"
        "import os, socket\n"
        "one, = activated()\n"
        "print(one.getsockname()[1], one.getblocking(), os.get_inheritable(one.fileno()), 'LISTEN_FDS' in os.environ)\n"
    )
    listening = socket.create_server(("127.0.0.1", 0))
    with listening:
        # As systemd does it: the socket is descriptor 3, the process knows its own number.
        command = f'exec 3<&{listening.fileno()}; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" -c "$1"'
        done = subprocess.run(
            ["/bin/bash", "-c", command, sys.executable, script],
            pass_fds=(listening.fileno(),),
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent.parent.parent,
            check=True,
        )
        assert done.stdout.split() == [str(listening.getsockname()[1]), "False", "False", "False"]
