"""What systemd is told, and what it hands over (sd_notify(3), sd_listen_fds(3)). Without systemd: nothing."""

import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping

from sdnotify import SystemdNotifier

_FIRST = 3


class Notifier:
    """Tells the service's supervisor how things stand."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._notifier = SystemdNotifier() if environ.get("NOTIFY_SOCKET") else None
        self.watchdog = _watchdog(environ)
        """Seconds between signs of life that are expected; None where none are."""

    def ready(self, status: str) -> None:
        """It serves."""
        self._say(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """It reads its policy anew, and says `ready` after."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It drains."""
        self._say("STOPPING=1")

    def alive(self) -> None:
        """All is well."""
        self._say("WATCHDOG=1")

    def succeeded_by(self, pid: int) -> None:
        """Another process of the service is its main one from now on."""
        self._say(f"MAINPID={pid}")

    def close(self) -> None:
        """Tell nothing more."""
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()
        self._notifier = None

    def _say(self, words: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(words)


def _watchdog(environ: Mapping[str, str]) -> float | None:
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdecimal() else None


def activated(
    environ: MutableMapping[str, str] = os.environ, pid: Callable[[], int] = os.getpid
) -> list[socket.socket]:
    """The listening sockets that systemd opened for this process; the variables are taken away, as they are used up."""
    meant, many = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if meant != str(pid()) or not many.isdecimal():
        return []
    found = []
    for descriptor in range(_FIRST, _FIRST + int(many)):
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        found.append(sock)
    return found
