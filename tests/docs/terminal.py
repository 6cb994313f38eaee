"""A terminal: one bash, one command after another, what they say and how they end.

A program that serves (`domicile serve`, `domicile demo`) stays in the foreground once it has said what its document
shows; nothing further can be typed then, and it is stopped with the terminal.
"""

import os
import queue
import re
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

from tests.docs.transcript import Step

PATIENCE = 60.0
"""Seconds that a command may take."""

_SERVES = re.compile(r"(\S*/)?domicile serve |(\S*/)?domicile demo$|make demo$")
_END = "a command has ended:"


class WentWrong(Exception):
    """A command did not do what its document says: the document is wrong, or the program."""


class Terminal:
    """One shell in a folder. Close it, and whatever it started is stopped."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._heard: queue.Queue[bytes] = queue.Queue()
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def run(self, step: Step, may_fail: bool = False) -> str:
        """Run one command; what it said. may_fail: whatever its exit status. Raises WentWrong."""
        lasts = _SERVES.match(step.command) is not None
        background = step.command.endswith("&")
        script = f"{{ {step.command}\n}} </dev/null\ns=$?; printf '\\n%s %d\\n' {shlex.quote(_END)} $s; (exit $s)\n"
        assert self._process.stdin is not None
        self._process.stdin.write(script.encode())
        self._process.stdin.flush()
        until = time.monotonic() + PATIENCE
        said, status = "", None
        while status is None or (background and not step.is_met_by(said)):
            if lasts and said and step.is_met_by(said):
                return said
            try:
                said += self._heard.get(timeout=max(0.0, until - time.monotonic())).decode(errors="replace")
            except queue.Empty:
                break
            if ended := re.search(rf"\n{_END} (\d+)\n", said):
                status = int(ended[1])
                said = said[: ended.start()] + said[ended.end() :]
        if status is None:
            raise WentWrong(f"`{step.command}` neither ended nor said what it should:\n{said}")
        if not step.is_met_by(said):
            raise WentWrong(f"`{step.command}` said:\n{said}\nand not:\n{step.expected}")
        if status and not may_fail:
            raise WentWrong(f"`{step.command}` ended with status {status}:\n{said}")
        return said

    def close(self) -> None:
        """Stop the shell and what it left running."""
        for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                break
            if number is signal.SIGTERM and self._process.stdin is not None:
                self._process.stdin.close()
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()
        self._listening.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while piece := os.read(self._process.stdout.fileno(), 65536):
            self._heard.put(piece)
        self._heard.put(b"")
