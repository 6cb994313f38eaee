"""What the documents point at is there: links, paths, tests."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.blocks import DOCUMENTS, ROOT, read
from tests.floors.test_floors import FLOORS

_PATH = re.compile(r"(?:proxy|tests|config|deploy|docs|benchmarks)/[\w./-]+")


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_every_link_resolves(path: Path) -> None:
    for link in read(path).links:
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        found = ((ROOT / path).parent / target).resolve() if target else ROOT / path
        assert found.exists(), f"{path}: {link}"
        assert found.is_relative_to(ROOT)
        if anchor:
            assert anchor in read(found.relative_to(ROOT)).anchors, f"{path}: {link}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_every_path_and_test_that_is_named_is_there(path: Path) -> None:
    for code in read(path).codes:
        if not _PATH.match(code):
            continue
        file, _, test = code.partition("::")
        assert (ROOT / file).exists() or list(ROOT.glob(file)), f"{path}: {code}"
        if test:
            tree = ast.parse((ROOT / file).read_text("utf-8"))
            names = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert test in names, f"{path}: {code}"


def test_the_index_has_every_document() -> None:
    linked = {link.partition("#")[0] for link in read(Path("docs/README.md")).links}
    there = {path.name for path in (ROOT / "docs").iterdir() if path.is_file()} - {"README.md"}
    assert there <= linked


def test_the_architecture_has_every_file_of_the_http_plane() -> None:
    prose = read(Path("docs/architecture.md")).prose
    section = prose.partition("## The HTTP plane")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+\.py)` \|", section, re.MULTILINE))
    assert told == {path.name for path in (ROOT / "proxy/http1").glob("*.py")} - {"__init__.py"}


def test_the_architecture_has_every_floor() -> None:
    told = {
        package: int(floor)
        for floor, package in re.findall(
            r"^\| (\d) \| `proxy/(\w+)/` \|", read(Path("docs/architecture.md")).prose, re.M
        )
    }
    there = {path.parent.name for path in (ROOT / "proxy").glob("*/__init__.py")} | {"policy"}
    assert told.keys() == there
    assert {package: FLOORS[package] for package in told} == told
