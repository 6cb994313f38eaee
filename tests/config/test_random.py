"""Whatever a file holds, it loads or it is refused: never a traceback."""

import string
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config import Note, PolicyRefused, load
from proxy.config.document import read_document
from proxy.config.file import PolicyFile
from proxy.config.part import Part
from proxy.config.report import _part_at
from tests.config.test_values import WHOLE

FEW = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ENVIRON = {"CT_KEY": "the-secret-value", "X": "another-secret-value"}
KEYS = sorted({field.alias or name for name, field in PolicyFile.model_fields.items()})
VALUES = (
    *("eu", "cn-mainland", "any", "unknown", "none", "*", "EEA", "DE", "3s", "1KiB", "https://x", "/p/*", "${X}"),
    *("true", "10.0.0.0/8", "2027-01-01T00:00:00Z", "when", "home", "allow", "name", "bind", "weight", "\0", "🙂", ""),
)
WORDS = st.sampled_from([*KEYS, *VALUES])
TREES = st.recursive(
    WORDS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


def outcome(folder: Path, data: bytes) -> None:
    path = folder / "policy.yaml"
    path.write_bytes(data)
    lines = data.decode("utf-8", "replace").splitlines() or [""]
    for note in mistakes(path):
        assert 1 <= note.line <= len(lines) + 1
        assert note.column >= 1
        assert "secret-value" not in str(note)
        assert "\n" not in str(note)


def mistakes(path: Path) -> tuple[Note, ...]:
    try:
        load(path, ENVIRON, 0)
    except PolicyRefused as refused:
        return refused.mistakes
    return ()


@FEW
@given(st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, data: bytes) -> None:
    outcome(tmp_path, data)


@FEW
@given(st.text(alphabet=string.printable + "é\u2028\x85", max_size=120))
def test_random_text(tmp_path: Path, text: str) -> None:
    outcome(tmp_path, text.encode())


@FEW
@given(st.dictionaries(st.sampled_from(KEYS), TREES, max_size=8))
def test_random_trees_under_known_keys(tmp_path: Path, tree: dict[str, Any]) -> None:
    outcome(tmp_path, yaml.safe_dump(tree, allow_unicode=True).encode())


def spots(tree: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [at, *(spot for key, child in children for spot in spots(child, (*at, key)))]


BASE = yaml.load(WHOLE, yaml.BaseLoader)


@FEW
@given(st.sampled_from([spot for spot in spots(BASE) if spot]), TREES)
def test_the_whole_file_with_one_value_replaced(tmp_path: Path, spot: tuple[str | int, ...], value: Any) -> None:
    tree = yaml.load(WHOLE, yaml.BaseLoader)
    holder = tree
    for step in spot[:-1]:
        holder = holder[step]
    holder[spot[-1]] = value
    outcome(tmp_path, yaml.safe_dump(tree, allow_unicode=True).encode())


@FEW
@given(
    st.integers(0, len(WHOLE)), st.integers(0, 30), st.sampled_from(["", "[", "{", "\t", "'", "- ", ": ", "&a ", "*a"])
)
def test_the_whole_file_with_a_piece_replaced(tmp_path: Path, start: int, length: int, piece: str) -> None:
    outcome(tmp_path, (WHOLE[:start] + piece + WHOLE[start + length :]).encode())


def test_every_part_of_the_model_is_found_by_its_path() -> None:
    """Unknown keys are told what the keys are, at any depth: so every mapping's part must be found."""
    document = read_document(WHOLE.encode(), Path("p"), ENVIRON)
    mappings = [spot for spot in spots(BASE) if isinstance(_get(BASE, spot), dict)]
    by_name = {("zones",), ("providers",), ("providers", "china-telecom", "headers")}
    assert len(mappings) > 40
    for spot in mappings:
        part = _part_at(spot)
        assert document.at(spot) is not None
        assert (part is None) == (spot in by_name), spot
        if part is not None and spot:
            assert issubclass(part, Part)
            known = {field.alias or name for name, field in part.model_fields.items()}
            assert set(_get(BASE, spot)) <= known, spot


def _get(tree: Any, spot: tuple[str | int, ...]) -> Any:
    for step in spot:
        tree = tree[step]
    return tree
