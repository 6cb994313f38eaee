"""Every example passes `domicile check` as it lies in config/, and says what it needs from outside."""

import json
import re
from pathlib import Path

import pytest

from tests.authority import make_authority
from tests.cli.policies import run
from tests.config_examples.moved import CONFIG

EXAMPLES = sorted(path.parent.name for path in CONFIG.glob("*/policy.yaml"))
_VARIABLE = re.compile(r"\$\{([A-Z_]+)\}")


def variables(name: str) -> set[str]:
    return set(_VARIABLE.findall((CONFIG / name / "policy.yaml").read_text("utf-8")))


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A value for every variable of every example."""
    edge = make_authority(tmp_path_factory.mktemp("edge")).issue(["storage.example.com"])
    keys = {name: "a-key" for example in EXAMPLES for name in variables(example)}
    return keys | {"EDGE_CERTIFICATE": str(edge.certificate), "EDGE_KEY": str(edge.key)}


def test_there_are_examples() -> None:
    assert EXAMPLES == ["ai-gateway", "mainland-china", "never-decrypted", "quickstart"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_is_good(name: str, environ: dict[str, str]) -> None:
    given = {variable: environ[variable] for variable in variables(name)}
    result = run("check", CONFIG / name / "policy.yaml", "--json", **given)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["ok"] is True
    assert said["guarantees"] or name == "quickstart"


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_it_takes_from_the_environment_is_in_its_head(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (CONFIG / name / "policy.yaml").read_text("utf-8")
    head = text.partition("version:")[0]
    for variable in variables(name):
        monkeypatch.delenv(variable, raising=False)
        assert variable in head
    missing = run("check", CONFIG / name / "policy.yaml").stdout
    assert set(re.findall(r"variable `([A-Z_]+)` is not set", missing)) == variables(name)


@pytest.mark.parametrize("file", sorted(CONFIG.rglob("*.*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_secret_lies_in_the_folder(file: Path) -> None:
    text = file.read_text("utf-8")
    assert "PRIVATE KEY" not in text
    if file.name == "jwks.json":
        assert not {member for key in json.loads(text)["keys"] for member in key} & {"d", "k", "p", "q"}
