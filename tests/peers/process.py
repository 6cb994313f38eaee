"""A real peer as a child process: ports that were free, ready once it accepts, gone when its block is left."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

READY_WITHIN = 20.0
"""Seconds that a peer may take until it accepts; Envoy needs about one on a busy machine."""

STOP_WITHIN = 5.0
"""Seconds between SIGTERM and SIGKILL."""

# Below every usual ip_local_port_range, so that no outgoing connection and no bind to port 0 takes one meanwhile.
_FIRST_PORT, _LAST_PORT = 20000, 31999


class PeerFailed(Exception):
    """A peer did not start: it is not installed, its configuration is wrong, or its port was taken."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running peer. pid leads a session of its own; folder holds its configuration and all that it writes."""

    name: str
    pid: int
    folder: Path


def program(name: str) -> str:
    """The path of an installed program, also of those that Debian keeps from users' PATH."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
    if found is None:
        raise PeerFailed(f"{name} is not installed; see .ci/debian-packages")
    return found


def free_port() -> int:
    """A TCP port of loopback that nothing listens on."""
    for port in random.SystemRandom().sample(range(_FIRST_PORT, _LAST_PORT), 200):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise PeerFailed("no free port")


@contextmanager
def running(
    name: str,
    command: Sequence[object],
    folder: Path,
    ports: Sequence[int],
    *,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Peer]:
    """Run a command, its words as text, in a folder until the block is left, however it is left.

    Entered once every port accepts. The output goes to NAME.out in the folder, and its end into PeerFailed.
    """
    output = folder / f"{name}.out"
    with output.open("ab") as sink:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=None if environ is None else dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_WITHIN
        for port in ports:
            _await_port(name, process, port, deadline, output)
        yield Peer(name, process.pid, folder)
    finally:
        _stop(process)


def _await_port(name: str, process: subprocess.Popen[bytes], port: int, deadline: float, output: Path) -> None:
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise PeerFailed(f"{name} does not accept on port {port}: {output.read_text(errors='replace')[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    # The whole session: a master that dies at once must not leave its workers behind.
    for number, patience in ((signal.SIGTERM, STOP_WITHIN), (signal.SIGKILL, STOP_WITHIN)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
