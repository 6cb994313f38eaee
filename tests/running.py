"""Domicile as a process of its own, as an operator runs it.

    with start(POLICY, tmp_path) as proxy:
        connect to ("127.0.0.1", proxy.port("edge"))

POLICY binds listeners to port 0. Entered once the process serves; left, it is drained and has to exit 0 without
a traceback. What it said on standard error is in `proxy.said`, its access log at `proxy.log`.
"""

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import Any

ROOT = Path(__file__).parent.parent

PATIENCE = 40.0
"""Seconds that anything may take on a machine that is busy with other tests."""

_LISTENER = re.compile(r"info listener ([a-z0-9-]+): (?:https?|tls|tcp) on (.*)")
_ADMIN = re.compile(r"info admin: http on (.*)")


class DidNotStart(Exception):
    """The process ended before it served. status: how; said: its standard error, by lines."""

    def __init__(self, status: int, said: list[str]) -> None:
        super().__init__("\n".join([f"exit status {status}", *said]))
        self.status = status
        self.said = said


class Running:
    """A running proxy.

    addresses: where each listener listens, by name, in the order of its binds, as `HOST:PORT`, `[HOST]:PORT` or
    `unix:PATH`. policy: the file it serves. log: the access log. said: its standard error so far, by lines.
    """

    def __init__(self, process: "subprocess.Popen[str]", policy: Path, log: Path) -> None:
        self.process = process
        self.policy = policy
        self.log = log
        self.said: list[str] = []
        self.addresses: dict[str, list[str]] = {}
        self.admin = ""
        self._heard = Condition()
        self._listening = Thread(target=self._listen, daemon=True)
        self._listening.start()

    def port(self, listener: str, ordinal: int = 0) -> int:
        """The port of a listener's bind."""
        return int(self.addresses[listener][ordinal].rpartition(":")[2])

    def await_line(self, text: str, after: int = 0) -> str:
        """The first line of standard error, from the one numbered `after` on, that holds `text`."""

        def found() -> str | None:
            return next((line for line in self.said[after:] if text in line), None)

        with self._heard:
            if not self._heard.wait_for(lambda: found() or not self._listening.is_alive(), PATIENCE) or not found():
                raise AssertionError(f"it never said {text!r}: {self.said}")
        return found() or ""

    def workers(self) -> list[int]:
        """The workers' processes, as they were at the start."""
        return [int(each) for each in self.await_line("info workers: ").rpartition(": ")[2].split(", ")]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def reload(self, policy: str | None = None) -> bool:
        """SIGHUP, after writing the policy file if one is given; whether the result is in force. Waits for it."""
        if policy is not None:
            replacement = self.policy.with_suffix(".new")
            replacement.write_text(_completed(policy))
            replacement.rename(self.policy)
        before = len(self.said)
        self.signal(signal.SIGHUP)
        line = self.await_line(" in force", before)
        loaded = "stays in force" not in line
        if loaded:
            self._learn(self.status())
        return loaded

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of an admin endpoint."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def status(self) -> dict[str, Any]:
        """/status, parsed."""
        parsed: dict[str, Any] = json.loads(self.get("/status")[1])
        return parsed

    def metric(self, sample: str) -> float:
        """The value of one sample of /metrics, named as the exposition names it, labels included."""
        for line in self.get("/metrics")[1].decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        raise AssertionError(f"no sample {sample}")

    def records(self) -> list[dict[str, Any]]:
        """The access log's lines so far, parsed; a line that is half written is left out."""
        whole = self.log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def wait(self) -> int:
        """The exit status, once it has one, and all that it said is in `said`."""
        status = self.process.wait(PATIENCE)
        self._listening.join(PATIENCE)
        return status

    def stop(self) -> int:
        """SIGTERM, if it still runs; the exit status."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                self.said.append(line.rstrip("\n"))
                self._heard.notify_all()
        with self._heard:
            self._heard.notify_all()

    def _introduced(self) -> None:
        for line in self.said:
            if (listener := _LISTENER.search(line)) is not None:
                self.addresses[listener[1]] = listener[2].split(", ")
            elif (admin := _ADMIN.search(line)) is not None:
                self.admin = admin[1]

    def _learn(self, status: dict[str, Any]) -> None:
        self.addresses = {each["name"]: each["binds"] for each in status["listeners"]}


@contextlib.contextmanager
def start(
    policy: str,
    folder: Path,
    files: Mapping[str, str | bytes] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    descriptors: int | None = None,
    stdout: int | None = None,
    under: Sequence[str] = (),
) -> Iterator[Running]:
    """Run `domicile serve` with a policy, written to policy.yaml in the folder, beside `files` by name.

    A policy that says nothing of `admin`, `log` or `workers` gets a free admin port on loopback, access.log in the
    folder, and one worker.
    environ: added to ours. descriptors: how many the process may have. stdout: where its standard output goes.
    under: words before the command line, of a program that ends by running what follows. Raises DidNotStart.
    """
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    path = folder / "policy.yaml"
    path.write_text(_completed(policy))
    running = Running(_process(path, environ, descriptors, stdout, under), path, folder / "access.log")
    try:
        try:
            running.await_line("info serving ")
        except AssertionError:
            if running._listening.is_alive():
                raise
            raise DidNotStart(running.wait(), running.said) from None
        running._introduced()
        yield running
        if running.process.poll() is None:
            assert running.stop() == 0, running.said
        odd = [line for line in running.said if "unforeseen" in line or "Traceback" in line or "Exception" in line]
        assert not odd, running.said
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.wait()
        if running.process.stderr is not None:
            running.process.stderr.close()


def refused(policy: str, folder: Path, files: Mapping[str, str | bytes] | None = None) -> DidNotStart:
    """How `domicile serve` ends with a policy that it cannot serve."""
    try:
        with start(policy, folder, files):
            raise AssertionError("it serves")
    except DidNotStart as end:
        return end


def _completed(policy: str) -> str:
    if not re.search(r"^admin:", policy, re.MULTILINE):
        policy += '\nadmin: {bind: "127.0.0.1:0"}\n'
    if not re.search(r"^log:", policy, re.MULTILINE):
        policy += "\nlog: {path: access.log}\n"
    if not re.search(r"^workers:", policy, re.MULTILINE):
        policy += "\nworkers: 1\n"
    return policy


def _process(
    policy: Path,
    environ: Mapping[str, str] | None,
    descriptors: int | None,
    stdout: int | None,
    under: Sequence[str],
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*under, sys.executable, "-m", "proxy.cli", "serve", str(policy)],
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if stdout is None else stdout,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_limiting(descriptors),
    )


def _limiting(descriptors: int | None) -> Callable[[], None] | None:
    if descriptors is None:
        return None
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
