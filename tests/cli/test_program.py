"""The program as it is run: exit statuses, what it imports, what it draws in a terminal."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.policies import run, write

ROOT = Path(__file__).parents[2]


def program(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "proxy.cli", *map(str, arguments)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environ, check=False)


def test_exit_statuses(tmp_path: Path) -> None:
    good = write(tmp_path)
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 2\n")
    table: list[tuple[tuple[str | Path, ...], int]] = [
        (("--help",), 0),
        (("--version",), 0),
        (("check", "--help"), 0),
        (("check", good), 0),
        (("check", bad), 1),
        (("check", tmp_path / "none"), 1),
        (("check",), 2),
        (("explain", good, "--home", "eu"), 0),
        (("explain", good), 0),
        (("explain", good, "--home", "nowhere"), 2),
        (("explain", bad, "--home", "eu"), 1),
        (("frobnicate",), 2),
    ]
    for arguments, status in table:
        done = program(*arguments)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr


def test_the_list_of_commands() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in ("serve", "check", "explain", "demo"):
        assert re.search(rf"^  {name} ", result.stdout, re.MULTILINE)
    assert run("--version").stdout.startswith("domicile ")


@pytest.mark.parametrize("arguments", [["check"], ["explain", "--home", "eu"]])
def test_reading_a_policy_starts_no_event_loop(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import sys\nfrom proxy.cli import domicile\n"
        "domicile(sys.argv[1:], standalone_mode=False)\n"
        "loaded = {'uvloop', 'aiohttp', 'asyncio', 'httptools', 'prometheus_client', 'plotext'} & set(sys.modules)\n"
        "assert not loaded, loaded\nassert 'yaml' in sys.modules\n"
    )
    command = [sys.executable, "-c", code, arguments[0], str(write(tmp_path)), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_a_terminal_gets_the_trace_drawn(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    arguments = ["explain", str(write(tmp_path)), "--home", "eu", "--country", "US", "--actor", "support"]
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy.cli", *arguments, "--method", "PUT"],
        stdout=follower,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "120"},
    )
    os.close(follower)
    drawn = b""
    try:
        while piece := os.read(leader, 65536):
            drawn += piece
    except OSError:
        pass  # Linux reports the other side's end as EIO
    os.close(leader)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", drawn.decode())
    assert b"\x1b[" in drawn
    assert "denial: forbidden" in text
    assert re.search(r"✓ +europe +grants ours, far; leaves out telecom +GDPR art. 44", text)
    assert re.search(r"✗ +support-reads +forbids ours, telecom, far", text)
    assert re.search(r"· +china +does not apply, home is eu, not cn", text)


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m proxy.cli explain {write(tmp_path)} --facts - | head -n 1"
    lines = '{"home": "eu"}\n' * 5000
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], input=lines, capture_output=True, text=True, env=environ, check=False)
    assert done.stdout.startswith('{"outcome": "permit"')
    assert "Traceback" not in done.stderr
