"""What is built is what a user gets: sdist and wheel, and the command of an installed wheel in an empty folder."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.floors.reading import ROOT, all_imports

# Libraries that are part of another's interface and pinned by it.
BROUGHT_BY = {"pydantic-core": "pydantic", "multidict": "aiohttp", "yarl": "aiohttp"}

POLICY = """\
version: 1
zones:
  anywhere: {countries: ["*"]}
providers:
  own: {operator: Example Inc, zone: anywhere, endpoints: ["http://127.0.0.1:9000"]}
subject:
  sources:
    - location: {}
rules:
  - {name: everyone, when: {home: [anywhere, unknown]}, allow: [anywhere]}
listeners:
  - {name: edge, bind: "127.0.0.1:8080", protocol: http}
"""


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made from it: nothing is missing in the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `domicile` of a fresh environment that holds the wheel.

    Its dependencies come from this environment by path, which saves a download; that they are all declared is
    another test's matter. The folder comes after its own, and its .pth files are not read, so an editable
    install there cannot stand in for the wheel.
    """
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "domicile"


def run_in(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_product_alone(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    source = {str(path.relative_to(ROOT)) for path in (ROOT / "proxy").rglob("*") if path.is_file()}
    source = {name for name in source if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == source
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "proxy/py.typed" in names


def test_the_sdist_holds_what_tests_and_operators_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", ".ci/run", "deploy/Dockerfile"}
    assert expected <= names
    assert "tests/packaging/test_packaging.py" in names
    assert not any("__pycache__" in name or name.startswith(".venv") for name in names)


def test_the_installed_command_says_its_version_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    run = run_in(tmp_path, installed, "--version")
    assert run.returncode == 0, run.stderr
    assert str(project()["version"]) in run.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_installed_command_checks_a_policy_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy" / "policy.yaml"
    policy.parent.mkdir()
    policy.write_text(POLICY)
    empty = tmp_path / "empty"
    empty.mkdir()
    good = run_in(empty, installed, "check", policy)
    assert good.returncode == 0, good.stdout + good.stderr
    policy.write_text(POLICY.replace("allow: [anywhere]", "allow: [nowhere]"))
    bad = run_in(empty, installed, "check", policy)
    assert bad.returncode == 1
    assert "policy.yaml:" in bad.stdout + bad.stderr
    assert list(empty.iterdir()) == []


def test_the_installed_package_is_the_wheel_and_not_this_checkout(installed: Path, tmp_path: Path) -> None:
    run = run_in(tmp_path, installed.parent / "python", "-c", "import proxy; print(proxy.__file__)")
    assert Path(run.stdout.strip()).is_relative_to(installed.parents[1])


def test_every_library_that_is_imported_is_declared_and_the_other_way_round() -> None:
    imported = {found.imported.partition(".")[0] for found in all_imports()}
    of_package = packages_distributions()
    needed = {canonical(of_package[name][0]) for name in imported - set(sys.stdlib_module_names) - {"proxy"}}
    dependencies = project()["dependencies"]
    assert isinstance(dependencies, list)
    declared = {canonical(re.split(r"[^\w.-]", dependency)[0]) for dependency in dependencies}
    assert {BROUGHT_BY.get(name, name) for name in needed} == declared


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
