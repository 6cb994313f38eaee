"""Console blocks, read and compared.

A line that begins with `$ ` is a command; what follows, up to the next, is what it prints. `...` in that stands for
anything within a line, and on a line of its own for any number of lines. Times, digests and request ids need
not be the very ones. A command that shows no output may print what it likes.
"""

import re
from dataclasses import dataclass

PROMPT = "$ "

_FLEETING = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{3})?Z",
    r"sha256:[0-9a-f]{64}",
    r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])",
)
_PARTS = re.compile("|".join([r"(?P<any>\.\.\.)", *(f"(?P<f{i}>{each})" for i, each in enumerate(_FLEETING))]))


@dataclass(frozen=True)
class Step:
    """One command with its expected output, and the line of the block (from 0) that it stands on."""

    line: int
    command: str
    expected: str


def steps_of(block: str) -> list[Step]:
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
        steps.append(Step(first, "\n".join(command), "\n".join(lines[at:until])))
        at = until
    return steps


def matches(expected: str, output: str) -> bool:
    """Whether the output is what was expected; white space at line ends does not count."""
    if not expected.strip():
        return True
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line.strip() == "..." else _of_line(line.rstrip()) + "\n"
        for line in expected.strip("\n").splitlines()
    )
    tidy = "".join(f"{line.rstrip()}\n" for line in output.strip("\n").splitlines())
    return re.fullmatch(pattern, tidy) is not None


def _of_line(line: str) -> str:
    pattern, at = "", 0
    for part in _PARTS.finditer(line):
        pattern += re.escape(line[at : part.start()])
        pattern += r"[^\n]*?" if part["any"] else _FLEETING[int((part.lastgroup or "f0")[1:])]
        at = part.end()
    return pattern + re.escape(line[at:])
