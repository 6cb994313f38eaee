"""Console blocks, read and compared.

A line that begins with `$ ` is a command; what follows, up to the next, is what it prints. `...` in that stands for
anything within a line, and on a line of its own for any number of lines. Times, digests and request ids need
not be the very ones; where figures vary, nor do numbers. A command that shows no output may print what it likes.
"""

import re
from dataclasses import dataclass

PROMPT = "$ "

_FLEETING = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{3})?Z",
    r"sha256:[0-9a-f]{64}",
    r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])",
)
_FIGURE = r"[0-9][0-9.,]*"
_ANY = "..."


def _parts(*kinds: str) -> "re.Pattern[str]":
    return re.compile("|".join(f"({each})" for each in (re.escape(_ANY), *kinds)))


_USUAL = _parts(*_FLEETING)
_VARYING = _parts(*_FLEETING, _FIGURE)


@dataclass(frozen=True)
class Step:
    """One command with its expected output, and the line of the block (from 0) that it stands on."""

    line: int
    command: str
    expected: str
    figures_vary: bool = False

    def is_met_by(self, output: str) -> bool:
        """Whether the output is what the document shows."""
        return matches(self.expected, output, self.figures_vary)


def steps_of(block: str, figures_vary: bool = False) -> list[Step]:
    """The steps of a console block. A command goes on over lines that end in a backslash, and over here-documents."""
    steps: list[Step] = []
    lines = block.splitlines()
    at = 0
    while at < len(lines):
        assert lines[at].startswith(PROMPT), f"line {at}: output before the first command"
        first = at
        command = [lines[at].removeprefix(PROMPT)]
        at += 1
        while command[-1].endswith("\\"):
            command.append(lines[at])
            at += 1
        if here := re.search(r"<<'?(\w+)'?", command[-1]):
            while command[-1] != here[1]:
                command.append(lines[at])
                at += 1
        until = at
        while until < len(lines) and not lines[until].startswith(PROMPT):
            until += 1
        steps.append(Step(first, "\n".join(command), "\n".join(lines[at:until]), figures_vary))
        at = until
    return steps


def matches(expected: str, output: str, figures_vary: bool = False) -> bool:
    """Whether the output is what was expected; white space at line ends does not count."""
    if not expected.strip():
        return True
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line.strip() == _ANY else _of_line(line.rstrip(), figures_vary) + "\n"
        for line in expected.strip("\n").splitlines()
    )
    tidy = "".join(f"{line.rstrip()}\n" for line in output.strip("\n").splitlines())
    return re.fullmatch(pattern, tidy) is not None


def _of_line(line: str, figures_vary: bool) -> str:
    pattern, at = "", 0
    for part in (_VARYING if figures_vary else _USUAL).finditer(line):
        pattern += re.escape(line[at : part.start()])
        kind = part.lastindex or 1
        pattern += r"[^\n]*?" if kind == 1 else (*_FLEETING, _FIGURE)[kind - 2]
        at = part.end()
    return pattern + re.escape(line[at:])
