"""The systemd unit: valid, hardened, and agreeing with the proxy about signals and times."""

import subprocess
from pathlib import Path

import pytest

from proxy.config.load import load
from tests.peers.process import program

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "domicile.service"
COMMAND = "/opt/domicile/bin/domicile"

EXPOSURE = 20
"""systemd's score in tenths, of 100: what remains is that the service serves the network."""


@pytest.fixture(scope="module")
def settings() -> dict[str, list[str]]:
    """Every setting of the unit with its values, in order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text("utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a command that exists here: systemd looks for the one that it names."""
    command = tmp_path / "domicile"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    text = UNIT.read_text("utf-8")
    assert COMMAND in text
    path = tmp_path / "domicile.service"
    path.write_text(text.replace(COMMAND, str(command)))
    return path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze"), "--no-pager", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.debian
def test_systemd_takes_the_unit(unit: Path) -> None:
    run = analyze("verify", "--man=no", unit)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.debian
def test_systemd_would_refuse_a_wrong_one(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=strictly"))
    run = analyze("verify", "--man=no", unit)
    assert "strictly" in run.stderr


@pytest.mark.debian
def test_the_unit_exposes_little(unit: Path) -> None:
    run = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    assert run.returncode == 0, run.stdout


def test_signals_are_those_that_serve_knows(settings: dict[str, list[str]]) -> None:
    assert settings["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert settings["KillSignal"] == ["SIGTERM"]
    assert settings["ExecStart"] == [f"{COMMAND} serve /etc/domicile/policy.yaml"]


def test_the_proxy_may_finish_before_it_is_killed(settings: dict[str, list[str]]) -> None:
    drain = load(DEPLOY / "policy.yaml", {}, 0).policy.timeouts.drain
    (stop,) = settings["TimeoutStopSec"]
    assert int(stop.removesuffix("s")) > drain


def test_the_only_privilege_is_a_low_port(settings: dict[str, list[str]]) -> None:
    assert settings["CapabilityBoundingSet"] == settings["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]
    assert settings["NoNewPrivileges"] == ["yes"]
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["User"] == ["domicile"]
    assert f"u {settings['User'][0]} " in (DEPLOY / "domicile.sysusers").read_text("utf-8")
