"""Where the access log goes: a file, a FIFO, or standard output, whatever that is."""

import contextlib
import os
import select
import socket
import stat
from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Target:
    """Open for writing. Raises OSError if it cannot be opened; a FIFO without a reader is such a file.

    Files are created with mode 0640 and appended to. largest: bytes that are written as one, whoever else writes
    there too; None where everything is.
    """

    def __init__(self, path: Path | None) -> None:
        self._descriptor = _standard_output() if path is None else os.open(path, _FLAGS, 0o640)
        self.path = path
        mode = os.fstat(self._descriptor).st_mode
        # Sent to without waiting, by each call: O_NONBLOCK on a socket that we were given would surprise everybody
        # else who writes there.
        self._socket = socket.socket(fileno=self._descriptor) if stat.S_ISSOCK(mode) else None
        self.largest = select.PIPE_BUF if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: memoryview) -> int:
        """Raises BlockingIOError if nothing of it can be taken now, OSError if writing fails."""
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return os.write(self._descriptor, data)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._descriptor)


def _standard_output() -> int:
    if stat.S_ISFIFO(os.fstat(1).st_mode):
        # A description of our own: O_NONBLOCK on the shared one would surprise everybody else who writes there.
        with contextlib.suppress(OSError):
            return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.dup(1)
