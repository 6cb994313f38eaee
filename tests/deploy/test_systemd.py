"""The systemd units: valid, hardened, and agreeing with the proxy about signals, times and sockets."""

import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from proxy.config.load import load
from proxy.server.binding import BACKLOG
from proxy.server.crew import OVERTIME
from proxy.server.master import LOOK
from tests.peers.process import program

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "domicile.service"
SOCKET = DEPLOY / "domicile.socket"
COMMAND = "/opt/domicile/bin/domicile"

EXPOSURE = 20
"""systemd's score in tenths, of 100: what remains is that the service serves the network."""


def settings_of(unit: Path) -> dict[str, list[str]]:
    """Every setting of a unit with its values, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text("utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture(scope="module")
def settings() -> dict[str, list[str]]:
    """Those of the service."""
    return settings_of(UNIT)


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
def test_systemd_takes_the_sockets(unit: Path) -> None:
    path = unit.with_name("domicile.socket")
    path.write_bytes(SOCKET.read_bytes())
    run = analyze("verify", "--man=no", path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    path.write_text(path.read_text("utf-8").replace("[::]", "[:::]"))
    assert "[:::]" in analyze("verify", "--man=no", path).stderr


def test_each_worker_has_a_socket_of_its_own() -> None:
    socket = settings_of(SOCKET)
    listed = socket["ListenStream"]
    # As many as the workers of most examples; each address is one that a policy can name.
    assert listed == [address for address in dict.fromkeys(listed) for _ in range(2)]
    for address in listed:
        host, _, port = address.rpartition(":")
        assert ip_address(host.strip("[]"))
        assert port.isdecimal()
    assert socket["ReusePort"] == ["yes"]
    # As our own sockets: what is written as IPv6 takes no IPv4, and the queue is as long.
    assert socket["BindIPv6Only"] == ["ipv6-only"]
    assert socket["Backlog"] == [str(BACKLOG)]


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
    assert int(stop.removesuffix("s")) > drain + OVERTIME
    # Workers end when the master says so: nobody else signals them before the time is over.
    assert settings["KillMode"] == ["mixed"]


def test_the_master_speaks_with_systemd(settings: dict[str, list[str]]) -> None:
    assert settings["Type"] == ["notify"]
    assert settings["NotifyAccess"] == ["main"]
    (watchdog,) = settings["WatchdogSec"]
    assert int(watchdog.removesuffix("s")) > 4 * LOOK
    # Where a control socket may be.
    assert settings["RuntimeDirectory"] == ["domicile"]


def test_the_only_privilege_is_a_low_port(settings: dict[str, list[str]]) -> None:
    assert settings["CapabilityBoundingSet"] == settings["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]
    assert settings["NoNewPrivileges"] == ["yes"]
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["User"] == ["domicile"]
    assert f"u {settings['User'][0]} " in (DEPLOY / "domicile.sysusers").read_text("utf-8")
