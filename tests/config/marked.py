"""Policy files with their mistakes marked: a ▲ stands right before each place that must be reported.

A row gives some sections; the default ones follow for whatever it leaves out, so line numbers are its own.
"""

import re
from pathlib import Path

from proxy.config import Loaded, Note, PolicyRefused, load

MARK = "▲"
NOW = 1_900_000_000.0
DEFAULTS = {
    "version": "version: 1\n",
    "zones": 'zones:\n  eu: {countries: [EEA]}\n  cn: {countries: [CN]}\n  rest: {countries: ["*"]}\n',
    "providers": (
        "providers:\n"
        '  ours: {operator: Ours Inc, zone: eu, endpoints: ["https://ours.example"]}\n'
        '  telecom: {operator: China Telecom, zone: cn, endpoints: ["https://ct.example"]}\n'
        '  far: {operator: Ours Inc, zone: rest, endpoints: ["https://far.example"]}\n'
    ),
    "rules": (
        "rules:\n"
        "  - {name: europe, when: {home: eu}, allow: eu}\n"
        "  - {name: china, when: {home: cn}, allow: cn}\n"
        "  - {name: others, when: {home: rest}, allow: rest}\n"
    ),
}


def completed(text: str) -> str:
    """The row with the default sections that it leaves out, one final newline between."""
    sections = set(re.findall(rf"^{MARK}?([a-z]+):", text, re.MULTILINE))
    rest = "".join(default for name, default in DEFAULTS.items() if name not in sections)
    return f"{text.rstrip()}\n{rest}" if text else rest


def places(text: str) -> list[tuple[int, int]]:
    """Line and column of each mark, counted as if there were no marks."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for index, match in enumerate(re.finditer(MARK, line)):
            found.append((number, match.start() - index + 1))
    return found


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text.replace(MARK, ""), encoding="utf-8")
    return path


def loaded(folder: Path, text: str, **environ: str) -> Loaded:
    """What the completed row loads as."""
    return load(write(folder, completed(text)), environ, NOW)


def refused(folder: Path, text: str, **environ: str) -> tuple[Note, ...]:
    """The mistakes that the completed row is refused for; fails where it is not."""
    try:
        load(write(folder, completed(text)), environ, NOW)
    except PolicyRefused as outcome:
        return outcome.mistakes
    raise AssertionError(f"this was not refused:\n{text}")


def assert_marked(folder: Path, text: str, *said: str, **environ: str) -> None:
    """The row is refused for exactly the marked places, in order, each saying its text."""
    notes = refused(folder, text, **environ)
    shown = "\n".join(map(str, notes))
    assert [(note.line, note.column) for note in notes] == places(text), shown
    assert len(notes) == len(said), shown
    for note, substring in zip(notes, said, strict=True):
        assert substring in f"{note.what}, {note.hint}", shown
        assert str(note).startswith(f"{folder / 'policy.yaml'}:{note.line}:{note.column}: ")
