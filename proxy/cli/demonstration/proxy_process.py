"""`domicile serve` as a process of its own, which never outlives the demo.

It has a session of its own, so that a Ctrl-C in the terminal reaches the demo alone, which then ends it in order;
and the kernel ends it if the demo is killed.
"""

import asyncio
import ctypes
import os
import re
import signal
import sys
import sysconfig
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import proxy

_PR_SET_PDEATHSIG = 1
_START = 30.0
"""Seconds until it serves: much more than it takes, for a machine that is busy."""

_END = 8.0
"""Seconds that it may take to drain before it is killed."""

_LISTENER = re.compile(r" info listener \S+: https on (\S+)$")
_ADMIN = re.compile(r" info admin: http on (\S+)$")
_SERVING = re.compile(r" info serving .*, policy (sha256:[0-9a-f]+)$")


class ProxyFailed(Exception):
    """The proxy did not start, or ended by itself: our fault, or the machine's. The text is what it last said."""


class ProxyProcess:
    """edge, admin: where it listens, as ADDRESS:PORT. digest: of its policy. Made by `start_proxy`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said: deque[str] = deque(maxlen=40)
        self._serving = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self.edge = self.admin = self.digest = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def said(self) -> str:
        """Its last lines on standard error."""
        return "\n".join(self._said)

    @property
    def complaints(self) -> str:
        """Those of its last lines that are warnings or errors; all of them if it does not run."""
        return "\n".join(line for line in self._said if not self.running or " info " not in line)

    async def until_serving(self) -> None:
        """Wait until it serves. Raises ProxyFailed."""
        serving = asyncio.create_task(self._serving.wait())
        try:
            await asyncio.wait((serving, self._reader), timeout=_START, return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()
        if not self._serving.is_set():
            raise ProxyFailed(self.said or f"it said nothing within {_START:g} seconds")

    async def until_ended(self) -> int:
        """Wait until it has ended by itself; its exit status."""
        await asyncio.shield(self._reader)  # who gives up waiting has not read it to its end
        return await self._process.wait()

    async def end(self) -> int:
        """Let it drain, and kill it if that takes too long. Its exit status."""
        if not self._reader.done():
            # One that has closed its standard error is ending already.
            with suppress(ProcessLookupError):
                self._process.terminate()
        try:
            async with asyncio.timeout(_END):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
        status = await self._process.wait()
        await asyncio.wait((self._reader,), timeout=1.0)
        self._reader.cancel()
        return status

    async def _read(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self._take(line.decode("utf-8", "replace").rstrip("\n"))

    def _take(self, line: str) -> None:
        self._said.append(line)
        if found := _LISTENER.search(line):
            self.edge = found[1]
        elif found := _ADMIN.search(line):
            self.admin = found[1]
        elif found := _SERVING.search(line):
            self.digest = found[1]
            self._serving.set()


async def start_proxy(policy: Path) -> ProxyProcess:
    """Run `domicile serve POLICY` until it serves. Raises ProxyFailed, and then nothing is left running."""
    command = (sys.executable, "-m", "proxy.cli", "serve", policy.name)
    process = ProxyProcess(
        await asyncio.create_subprocess_exec(
            *command,
            cwd=policy.parent,
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_ended_with(os.getpid()),
        )
    )
    try:
        await process.until_serving()
    except BaseException:
        await process.end()
        raise
    return process


def _environment() -> dict[str, str]:
    """Ours, with the way to this very package where it is not an installed one."""
    place = str(Path(proxy.__file__).parents[1])
    if place in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(os.environ)
    further = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": place if not further else os.pathsep.join((place, further))}


def _ended_with(parent: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork: after it little is safe to do

    def ask_the_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)  # the demo had gone before the kernel was asked

    return ask_the_kernel
