"""Every command and every snippet of the documents is run: a document that lies does not pass."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.blocks import DOCUMENTS, ROOT, Block, read
from tests.docs.clone import Clone
from tests.docs.terminal import PATIENCE, Terminal, WentWrong
from tests.docs.transcript import PROMPT, steps_of

BLOCKS = [block for path in DOCUMENTS for block in read(path).blocks]

RUN = ("console", "python")
READ = ("yaml", "json", "ini", "text")
ELSEWHERE = {"promql": Path("docs/metrics.md"), "sql": Path("docs/identity.md")}
"""Languages that other tests run, and the one document that they read: tests/telemetry, tests/identity/directory."""

# Programs of Debian packages; a document that runs one is run where they are installed.
_DEBIAN = re.compile(r"(^|[|(] *)(curl|openssl|promtool|nginx|haproxy) ", re.MULTILINE)
_COMMAND = re.compile(
    r"^(\$ |(sudo |\.venv/bin/)?"
    r"(domicile|make|curl|pip|python3?|docker|kill|systemctl|openssl|promtool|git|jq|kubectl) )",
    re.MULTILINE,
)

TOUR = {"make demo ONCE=1", "domicile demo --once"}
"""One command under two names. It takes a while, so it runs once and the other name gets what it said."""

_toured: list[str] = []


def runnable() -> Iterator[object]:
    for path in DOCUMENTS:
        blocks = [block for block in BLOCKS if block.document == path and block.language in RUN]
        if blocks:
            debian = any(block.language == "console" and _DEBIAN.search(block.text) for block in blocks)
            yield pytest.param(path, marks=pytest.mark.debian if debian else (), id=str(path))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", list(runnable()))
def test_what_a_document_says_happens(path: Path, tmp_path: Path) -> None:
    # One folder for the whole document, in its order; each console block is a terminal of its own.
    clone = Clone(tmp_path)
    terminals: list[Terminal] = []
    try:
        for block in read(path).blocks:
            if block.file is not None:
                clone.write(Path(block.file), block.text)
            if block.language == "console":
                terminals.append(Terminal(clone.folder, clone.environ))
                _type(clone, terminals[-1], block)
            elif block.language == "python":
                _run_python(clone, block)
    finally:
        for terminal in terminals:
            terminal.close()


def _type(clone: Clone, terminal: Terminal, block: Block) -> None:
    steps = steps_of(block.text, block.figures_vary)
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        try:
            if step.command not in TOUR:
                command, expected = clone.exchanged(step.command), clone.exchanged(step.expected)
                here = replace(step, command=command, expected=expected)
                terminal.run(here, may_fail=following is not None and following.command == "echo $?")
            elif not _toured:
                _toured.append(terminal.run(step))
            elif not step.is_met_by(_toured[0]):
                raise WentWrong(f"`{step.command}` said:\n{_toured[0]}\nand not:\n{step.expected}")
        except WentWrong as wrong:
            pytest.fail(f"{block.document}:{block.line + 1 + step.line}: {clone.restored(str(wrong))}", pytrace=False)


def _run_python(clone: Clone, block: Block) -> None:
    python = clone.folder / ".venv" / "bin" / "python"
    environ = {**clone.environ, "PYTHONPATH": f"{clone.folder}:{clone.environ['PYTHONPATH']}"}
    command = [str(python), "-W", "error", "-c", clone.exchanged(block.text)]
    done = subprocess.run(
        command, cwd=clone.folder, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"{block}: {done.stderr}"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_of_a_kind_that_is_run_or_read(block: Block) -> None:
    language = block.language
    assert language in (*RUN, *READ, *ELSEWHERE)
    assert block.document == ELSEWHERE.get(language, block.document)
    if language == "json":
        for line in [block.text] if block.text.startswith("{\n") else block.text.splitlines():
            json.loads(line)
    elif language == "ini":
        units = [path.read_text("utf-8").splitlines() for path in (ROOT / "deploy").glob("domicile.s*")]
        assert any(set(block.text.splitlines()) <= set(unit) for unit in units)
    elif language == "text":
        assert block.text.strip()
        assert not (found := _COMMAND.search(block.text)), f"{found and found[0]!r} is a command: let it be run"
    elif language == "console":
        assert block.text.startswith(PROMPT)


def test_there_is_something_to_run() -> None:
    languages = {block.language for block in BLOCKS}
    assert {"console", "yaml"} <= languages
    assert (ROOT / "README.md").is_file()
