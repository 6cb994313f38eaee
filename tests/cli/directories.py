"""A policy with a directory, for the tests of its commands."""

import json
from pathlib import Path
from typing import Any

from tests.cli.policies import GOOD, run, run_json, write

DIRECTORY = GOOD.replace(
    "  actors: [support]\n",
    "  actors: [support]\n  trusted_proxies: [10.0.0.0/8]\n"
    "  sources: [{directory: {sqlite: directory.db, key: {header: X-Account}}}]\n",
)


def policy_with_directory(folder: Path) -> Path:
    return write(folder, DIRECTORY)


def import_text(policy: Path, text: str, *arguments: str) -> Any:
    """The JSON that importing this text printed."""
    return run_json("directory", "import", policy, "-", "--json", *arguments, stdin=text)


def home_of(policy: Path, subject: str, *arguments: str) -> Any:
    return run_json("directory", "get", policy, "--json", *arguments, "--", subject)["home"]


def exported(policy: Path, *arguments: str) -> str:
    result = run("directory", "export", policy, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def recorded(policy: Path) -> list[dict[str, Any]]:
    """Every import, set and undo."""
    result = run("directory", "history", policy, "--json")
    return json.loads(result.stdout)["recorded"] if result.exit_code == 0 else []
