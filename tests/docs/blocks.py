"""The documents, read: fenced blocks with where they stand and what is said above them, and links.

A comment directly above a block says what it is to the tests:

    <!-- extends tests/docs/base.yaml -->    a part of a policy, and the policy that it is a part of
    <!-- file access.log -->                 the block's text is that file, for the blocks after it
    <!-- figures vary -->                    numbers in the output are examples
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").glob("*.md"))
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!-- (\w+) (\S+) -->\n+\Z")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"``[^`]+``|`[^`\n]+`")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block. line: of its fence, from 1. extends, file: what the comment above it says, or None."""

    document: Path
    line: int
    language: str
    text: str
    extends: str | None
    file: str | None
    figures_vary: bool

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Document:
    """prose: the text without its blocks, line for line. codes: what stands in it as inline code."""

    path: Path
    blocks: tuple[Block, ...]
    prose: str

    @property
    def links(self) -> tuple[str, ...]:
        return tuple(_LINK.findall(_CODE.sub("", self.prose)))

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(code.strip("`") for code in _CODE.findall(self.prose))

    @property
    def anchors(self) -> frozenset[str]:
        """The anchors of its headings, as GitHub makes them."""
        return frozenset(
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(self.prose)
        )


def read(path: Path) -> Document:
    """One document; path is relative to the root."""
    text = (ROOT / path).read_text("utf-8")
    blocks = tuple(_block(path, text, match) for match in _FENCE.finditer(text))
    prose = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    assert "```" not in prose, f"{path} has a fence that is not closed, or not at the start of its line"
    return Document(path, blocks, prose)


def _block(path: Path, text: str, match: "re.Match[str]") -> Block:
    above = _COMMENT.search(text, 0, match.start())
    said = {} if above is None else {above[1]: above[2]}
    assert said.keys() <= {"extends", "file", "figures"}, f"{path}: a comment says {said}"
    line = text.count("\n", 0, match.start()) + 1
    return Block(path, line, match[1], match[2], said.get("extends"), said.get("file"), "figures" in said)
