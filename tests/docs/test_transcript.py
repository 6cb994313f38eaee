"""The comparison of transcripts sees what differs, or every document would pass."""

import pytest

from tests.docs.transcript import Step, matches, steps_of


def test_steps() -> None:
    block = "$ one \\\n  more\nsaid\n\n$ cat > x <<'EOF'\n$ not a command\nEOF\n$ last\n"
    assert steps_of(block) == [
        Step(0, "one \\\n  more", "said\n"),
        Step(4, "cat > x <<'EOF'\n$ not a command\nEOF", ""),
        Step(7, "last", ""),
    ]


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        ("", "anything", True),
        ("one", "one\n", True),
        ("one", "one  \n\n", True),
        ("one", "one\ntwo\n", False),
        ("one\n...", "one\ntwo\nthree\n", True),
        ("one\n...", "one\n", True),
        ("...\nthree", "one\ntwo\nthree\n", True),
        ("one\n...\nthree", "one\ntwo\nfour\n", False),
        ("a ... c", "a b b c", True),
        ("a ... c", "a b\nb c", False),
        ("a.c", "abc", False),
        ("2026-01-01T00:00:00Z info", "2031-12-27T11:22:33Z info", True),
        ("2026-01-01T00:00:00Z info", "yesterday info", False),
        (f"sha256:{'0' * 64}", f"sha256:{'a1' * 32}", True),
        (f'"id":"{"0" * 32}"', f'"id":"{"ab" * 16}"', True),
        ("status 200", "status 502", False),
    ],
)
def test_comparing(expected: str, output: str, same: bool) -> None:
    assert matches(expected, output) is same


def test_figures_may_vary_where_a_document_says_so() -> None:
    assert not matches("24 requests in 29.5 ms", "25 requests in 3 ms")
    assert matches("24 requests in 29.5 ms", "25 requests in 3 ms", figures_vary=True)
    assert not matches("24 requests in 29.5 ms", "no requests in 3 ms", figures_vary=True)
    assert matches("... 24 of 24 requests", "all 1,024 of 1,024 requests", figures_vary=True)
