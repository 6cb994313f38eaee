"""The container image's recipe; that an image builds from it is left to those who have the network for it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@pytest.fixture(scope="module")
def stages() -> list[list[tuple[str, str]]]:
    """Each stage's instructions with their arguments, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text("utf-8"))
    found: list[list[tuple[str, str]]] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        instruction, _, arguments = line.strip().partition(" ")
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, arguments.strip()))
    return found


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    command = [str(hadolint), "--no-color", "--failure-threshold", "style", str(DOCKERFILE)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout == ""


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN pip install domicile\n")
    run = subprocess.run([str(Path(sys.executable).with_name("hadolint")), str(bad)], capture_output=True, check=False)
    assert run.returncode != 0


def test_both_stages_are_of_one_pinned_slim_image(stages: list[list[tuple[str, str]]]) -> None:
    images = [stage[0][1].split()[0] for stage in stages]
    assert len(images) == 2
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", images[0])


def test_the_image_runs_as_nobody_in_particular(stages: list[list[tuple[str, str]]]) -> None:
    users = [arguments for instruction, arguments in stages[-1] if instruction == "USER"]
    assert users == ["10001:10001"]
    order = [instruction for instruction, _ in stages[-1]]
    assert "RUN" not in order[order.index("USER") :]


def test_what_is_copied_exists_and_is_not_ignored(stages: list[list[tuple[str, str]]]) -> None:
    ignore = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text("utf-8").split()
    assert ignore[0] == "*"
    copied = [
        source
        for stage in stages
        for instruction, arguments in stage
        if instruction == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignore


def test_the_health_check_asks_the_default_admin_endpoint(stages: list[list[tuple[str, str]]]) -> None:
    (check,) = [arguments for instruction, arguments in stages[-1] if instruction == "HEALTHCHECK"]
    command = json.loads(check[check.index("[") :])
    compile(command[-1], "HEALTHCHECK", "exec")
    assert "http://127.0.0.1:9400/healthz" in command[-1]
    # Fails, and soon, where nobody answers: the port is another one that nothing listens on.
    code = command[-1].replace(":9400/", ":1/")
    assert subprocess.run([sys.executable, *command[1:-1], code], capture_output=True, check=False).returncode == 1
    # compose.yaml's policy leaves the admin endpoints where the check looks.
    assert "admin" not in yaml.safe_load((ROOT / "deploy" / "policy.yaml").read_text("utf-8"))


def test_signals_reach_the_proxy_itself(stages: list[list[tuple[str, str]]]) -> None:
    last = dict(stages[-1])
    assert json.loads(last["ENTRYPOINT"]) == ["domicile"]
    assert json.loads(last["CMD"]) == ["serve", "/etc/domicile/policy.yaml"]
    assert last["STOPSIGNAL"] == "SIGTERM"
