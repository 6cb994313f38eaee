"""A policy that breaks what it promises does not load; the message is a counterexample."""

from pathlib import Path

from tests.config.marked import assert_marked, loaded, refused

SPILLING = """\
guarantees:
  - {when: {home: cn}, only: {operators: [China Telecom]}}
  - ▲{unless: {home: cn}, never: {operators: [China Telecom]}}
rules:
  - {name: china, when: {home: cn}, allow: cn}
  - {name: others, when: {home: rest, host: spill.example}, allow: any}
"""


def test_a_broken_guarantee_is_a_mistake_at_its_place(tmp_path: Path) -> None:
    assert_marked(tmp_path, SPILLING, "broken: provider telecom is reached by home rest")
    (note,) = refused(tmp_path, SPILLING)
    assert "host spill.example" in note.what
    assert "let by others" in note.what


def test_mended_it_loads(tmp_path: Path) -> None:
    mended = SPILLING.replace("allow: any", "allow: rest").replace("▲", "")
    assert len(loaded(tmp_path, mended).policy.guarantees) == 2


def test_a_guarantee_that_breaks_one_day_is_broken_now(tmp_path: Path) -> None:
    later = SPILLING.replace("allow: any", "allow: [rest, {zones: cn, from: 2099-01-01T00:00:00Z}]")
    assert_marked(tmp_path, later, "time 2099-01-01T00:00:00Z")


def test_other_mistakes_come_first(tmp_path: Path) -> None:
    """Proofs need a whole policy, so they wait until every other mistake is gone."""
    text = SPILLING.replace("▲", "").replace("spill.example", "▲a/b")
    assert_marked(tmp_path, text, "is no host")
