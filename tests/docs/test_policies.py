"""Policies in the documents pass `domicile check`: whole ones as they are, parts within the policy that they name."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config import Note, PolicyRefused, load
from tests.docs.blocks import DOCUMENTS, ROOT, Block, read
from tests.docs.clone import lay_out_papers, settings_of

YAML = [block for path in DOCUMENTS for block in read(path).blocks if block.language == "yaml"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("policies")
    lay_out_papers(made)
    return made


def check(folder: Path, text: str) -> tuple[Note, ...]:
    """Every mistake or finding."""
    path = folder / "policy.yaml"
    path.write_text(text)
    try:
        return load(path, settings_of(text), time.time()).findings
    except PolicyRefused as refused:
        return refused.mistakes


def is_whole(text: str) -> bool:
    return re.search(r"^version:", text, re.MULTILINE) is not None


def merged(base: Any, part: Any) -> Any:
    """The base with the part in it: mappings are merged, so are lists of what has a name; all else is the part's."""
    if isinstance(base, dict) and isinstance(part, dict):
        return base | {key: merged(base.get(key), value) for key, value in part.items()}
    if isinstance(base, list) and isinstance(part, list) and all("name" in each for each in (*base, *part)):
        named = {each["name"] for each in part}
        return [*(each for each in base if each["name"] not in named), *part]
    return part


@pytest.mark.parametrize("block", YAML, ids=str)
def test_a_policy_is_good(block: Block, folder: Path) -> None:
    if is_whole(block.text):
        assert block.extends is None
        assert check(folder, block.text) == ()
        return
    assert block.extends is not None, f"{block}: say above it what it extends, or write a whole policy"
    base = (ROOT / block.extends).read_text("utf-8")
    # Text as it is written: typed, NO would become False here.
    whole = merged(yaml.load(base, yaml.BaseLoader), yaml.load(block.text, yaml.BaseLoader) or {})
    assert check(folder, yaml.safe_dump(whole, allow_unicode=True)) == ()


def test_the_base_is_good_by_itself(folder: Path) -> None:
    assert check(folder, (ROOT / "tests/docs/base.yaml").read_text("utf-8")) == ()


def test_a_bad_policy_would_be_seen(folder: Path) -> None:
    (quickstart,) = (block.text for block in YAML if block.document == Path("README.md"))
    assert check(folder, quickstart) == ()
    for right, wrong in (("[served]}", "[serve]}"), ("operator:", "operater:"), ("[CN]", "[CHN]")):
        assert check(folder, quickstart.replace(right, wrong))


def test_the_ten_lines_are_the_example() -> None:
    (quickstart,) = (block.text for block in YAML if block.document == Path("README.md"))
    example = (ROOT / "config/quickstart/policy.yaml").read_text("utf-8").splitlines()
    assert quickstart.splitlines() == [line for line in example if not line.startswith("#")]
    assert len(quickstart.splitlines()) == 10


NOT_YET = {
    "kinds of providers": "providers: {own-eu: {kind: s3}}",
    "sealing": "providers: {own-eu: {seal: {key: a}}}",
    "its keys": "keys: {a: {file: b}}",
}


@pytest.mark.parametrize("part", NOT_YET.values(), ids=NOT_YET)
def test_what_is_not_built_is_refused_as_the_readme_says(part: str, folder: Path) -> None:
    said = "`not available in this version`"
    assert said in read(Path("README.md")).prose
    base = yaml.load((ROOT / "tests/docs/base.yaml").read_text("utf-8"), yaml.BaseLoader)
    notes = check(folder, yaml.safe_dump(merged(base, yaml.load(part, yaml.BaseLoader))))
    assert [note for note in notes if said.strip("`") in str(note)], notes
