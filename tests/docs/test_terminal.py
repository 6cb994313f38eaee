"""The terminal notices what does not happen, or every document would pass."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import terminal
from tests.docs.terminal import Terminal, WentWrong
from tests.docs.transcript import Step


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Terminal]:
    """A shell in which `domicile serve` says one line and goes on."""
    program = tmp_path / "domicile"
    program.write_text("#!/bin/sh\necho serving; exec sleep 600\n")
    program.chmod(0o755)
    opened = Terminal(tmp_path, {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    yield opened
    opened.close()


def test_commands_share_one_shell(shell: Terminal) -> None:
    assert shell.run(Step(0, "x=1; cd /", "")) == ""
    assert shell.run(Step(1, 'echo "$x $PWD"', "1 /")) == "1 /\n"
    assert shell.run(Step(2, "cat <<'EOF'\n$x\nEOF", "$x")) == "$x\n"
    assert shell.run(Step(3, "cat", "")) == ""
    shell.run(Step(4, "false", ""), may_fail=True)
    shell.run(Step(5, "echo $?", "1"))


def test_other_output_is_noticed(shell: Terminal) -> None:
    with pytest.raises(WentWrong, match="said"):
        shell.run(Step(0, "echo one", "two"))


def test_a_bad_exit_status_is_noticed(shell: Terminal) -> None:
    with pytest.raises(WentWrong, match="status 3"):
        shell.run(Step(0, "echo one; (exit 3)", "one"))


def test_what_serves_goes_on_once_it_has_said_so(shell: Terminal) -> None:
    assert shell.run(Step(0, "domicile serve policy.yaml", "serving")) == "serving\n"


def test_what_never_says_so_is_noticed(shell: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "PATIENCE", 1.0)
    with pytest.raises(WentWrong, match="neither ended nor said"):
        shell.run(Step(0, "domicile serve policy.yaml", "ready"))


def test_what_runs_behind_a_command_is_waited_for(shell: Terminal) -> None:
    shell.run(Step(0, "(sleep 0.2; echo late) &", "late"))
    shell.run(Step(1, "echo next", "next"))
