"""A network namespace, and the cable to it: a provider is behind it, and the cable is cut or made thin.

with Cable() as cable:
    async with site.running(bound=cable.bound):
        ... dial cable.address ...
        cable.cut(); cable.mend(); cable.thin("400kbit"); cable.mend()

What is cut is not refused and not reset: the kernel has nowhere to send to, and nobody says so. Needs root.
"""

import contextlib
import ctypes
import itertools
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.site import stream

_NEW_NETWORK = 0x40000000
_NUMBERS = itertools.count(os.getpid())


class Cable:
    """address: of the far end."""

    def __init__(self) -> None:
        number = next(_NUMBERS) % 10_000
        self._name = f"domicile{number}"
        self._near, self._far = f"dom{number}a", f"dom{number}b"
        # Of the network that is set aside for measuring devices (RFC 2544).
        network = f"198.{18 + number // 5000}.{number % 5000 // 20}.{number % 20 * 4}"
        start, _, last = network.rpartition(".")
        self._here, self.address = f"{start}.{int(last) + 1}", f"{start}.{int(last) + 2}"

    def __enter__(self) -> "Cable":
        _ip("netns", "add", self._name)
        try:
            _ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self._name)
            _ip("address", "add", f"{self._here}/30", "dev", self._near)
            _ip("-n", self._name, "address", "add", f"{self.address}/30", "dev", self._far)
            _ip("link", "set", self._near, "up")
            _ip("-n", self._name, "link", "set", self._far, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._near)
        _ip("netns", "del", self._name)

    def bound(self) -> socket.socket:
        """A socket of the far end. It belongs there for ever, whoever has it: a thread goes there to make it."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._bound).result()

    def cut(self) -> None:
        """The far end pulls the plug."""
        _ip("-n", self._name, "link", "set", self._far, "down")

    def thin(self, rate: str) -> None:
        """No more than this comes from the far end, as tc writes it."""
        _run("tc", "-n", self._name, *f"qdisc add dev {self._far} root tbf rate {rate} burst 4kb latency 2s".split())

    def mend(self) -> None:
        """As at first."""
        _ip("-n", self._name, "link", "set", self._far, "up")
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("tc", "-n", self._name, "qdisc", "del", "dev", self._far, "root")

    def _bound(self) -> socket.socket:
        with Path(f"/run/netns/{self._name}").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "setns")
        return stream(self.address)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(
        words, check=True, capture_output=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    )
