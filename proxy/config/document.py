"""YAML as a tree of text with places.

- Scalars are text, whatever they look like: `NO` is two letters. Their types come later.
- Only plain YAML: anchors, aliases, merge keys and tags are refused, because two readers of one file
  must see the same; so is a second value under one key, a second document, and a key without a value
  (which would read as a key left out).
- Events rather than `yaml.compose`: a composer has forgotten which tag was written and which was
  guessed, and follows nesting and aliases as deep as a file says.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from proxy.config.environment import expand
from proxy.config.note import Note, Wrong, quoted

Loc = tuple[str | int, ...]
Place = tuple[int, int]
Plain = str | list["Plain"] | dict[str, "Plain"]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 32
_UNPRINTABLE = re.compile("[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Scalar:
    """written: as the file has it; text: after the environment; broken: a mistake was noted here already."""

    place: Place
    written: str
    text: str = field(repr=False)
    broken: bool = False

    @property
    def from_environment(self) -> bool:
        return self.text != self.written


@dataclass(frozen=True, slots=True)
class Sequence:
    place: Place
    items: list["Node"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entry:
    key_place: Place
    node: "Node"


@dataclass(frozen=True, slots=True)
class Table:
    place: Place
    entries: dict[str, Entry] = field(default_factory=dict)


Node = Scalar | Sequence | Table


@dataclass(frozen=True, slots=True)
class Document:
    """One file. root is None where it could not be read at all. secrets: what the environment brought."""

    file: Path
    root: Node | None
    mistakes: list[Note]
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    def at(self, loc: Loc) -> Node | None:
        """The node at this path, or None."""
        node = self.root
        for step in loc:
            if isinstance(node, Table) and isinstance(step, str) and step in node.entries:
                node = node.entries[step].node
            elif isinstance(node, Sequence) and isinstance(step, int) and 0 <= step < len(node.items):
                node = node.items[step]
            elif step == 0 and isinstance(node, Scalar | Table):
                continue  # one value where a list may be: the model has made it a list of one
            else:
                return None
        return node

    def nearest(self, loc: Loc) -> tuple[Loc, Node | None]:
        """The deepest node on this path, and its path."""
        while loc and self.at(loc) is None:
            loc = loc[:-1]
        return loc, self.at(loc)

    def note(self, loc: Loc, what: str, hint: str | None = None, *, key: bool = False) -> Note:
        """A note at the value of this path, or at its key."""
        _, node = self.nearest(loc)
        line, column = node.place if node is not None else (1, 1)
        if key and loc and isinstance(holder := self.at(loc[:-1]), Table) and loc[-1] in holder.entries:
            line, column = holder.entries[str(loc[-1])].key_place
        return Note(self.file, line, column, self.masked(what), None if hint is None else self.masked(hint))

    def masked(self, text: str) -> str:
        """The text without any value that the environment brought."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "${...}")
        return text


class Brought(str):
    """Text that the environment had a part in: for the few values that may not stand in the file itself."""

    __slots__ = ()


def plain(node: Node) -> Plain:
    """The tree as dictionaries, lists and text."""
    if isinstance(node, Scalar):
        return Brought(node.text) if node.from_environment else node.text
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key: plain(entry.node) for key, entry in node.entries.items()}


def read_document(data: bytes, file: Path, environ: Mapping[str, str]) -> Document:
    """Parses a file's bytes. Never raises: whatever is wrong is among the mistakes."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        return Document(file, None, [_at(file, before, "the file is not UTF-8", "save it as UTF-8")])
    if odd := _UNPRINTABLE.search(text):
        what = f"character U+{ord(odd[0]):04X} may not stand in a policy file"
        return Document(file, None, [_at(file, text[: odd.start()], what, "remove it")])
    reader = _Reader(file, environ)
    try:
        root = reader.read(iter(yaml.parse(text, Loader=_LOADER)))
    except yaml.MarkedYAMLError as error:
        reader.mistakes.append(_syntax_error(file, text, error))
        root = None
    except _TooDeepError:
        root = None
    return Document(file, root, reader.mistakes, frozenset(s for s in reader.secrets if len(s) >= 4))


def _at(file: Path, before: str, what: str, hint: str) -> Note:
    line = before.count("\n") + 1
    return Note(file, line, len(before) - (before.rfind("\n") + 1) + 1, what, hint)


def _syntax_error(file: Path, text: str, error: yaml.MarkedYAMLError) -> Note:
    what = " ".join(part for part in (error.context, error.problem) if part) or "not YAML"
    mark = error.problem_mark or error.context_mark
    if "quoted scalar" in what and error.context_mark:
        # A quote that never ends is noticed at the end of the file.
        mark = error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.splitlines()
    spot = lines[line] if line < len(lines) else ""
    began = error.context_mark.line if error.context_mark else line
    hint = "this is not YAML" if began == line else f"see also line {began + 1}, where it began"
    if "alias" in what:
        hint = 'quote what begins with a star: "*"'
    elif "${" in spot:
        hint = 'quote what holds a variable: "${NAME}"'
    elif "\t" in spot:
        hint = "indent with spaces, not tabs"
    return Note(file, line + 1, column + 1, what, hint)


class _TooDeepError(Exception):
    """Nested deeper than any policy; a mistake was noted."""


class _Reader:
    """Builds the tree from events, with a stack of its own rather than the interpreter's."""

    def __init__(self, file: Path, environ: Mapping[str, str]) -> None:
        self.file = file
        self.environ = environ
        self.mistakes: list[Note] = []
        self.secrets: set[str] = set()
        self._root: Node | None = None
        self._open: list[tuple[Sequence | Table, Scalar | None]] = []
        self._key: Scalar | None = None

    def read(self, events: Iterator[yaml.Event]) -> Node | None:
        documents = 0
        for event in events:
            mark = event.start_mark
            place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._mistake(place, "a second document", "one file holds one policy")
                    break
            elif isinstance(event, yaml.CollectionStartEvent):
                self._plain_yaml(event, place)
                if self._awaits_key():
                    self._mistake(place, "a key must be text", "write a name")
                self._start(Table(place) if isinstance(event, yaml.MappingStartEvent) else Sequence(place))
            elif isinstance(event, yaml.CollectionEndEvent):
                node, self._key = self._open.pop()
                self._add(node)
            elif isinstance(event, yaml.AliasEvent):
                self._mistake(
                    place, f"alias {quoted(f'*{event.anchor}')}", "write it out, or quote it if the star is meant"
                )
                self._scalar(Scalar(place, "", "", broken=True))
            elif isinstance(event, yaml.ScalarEvent):
                self._plain_yaml(event, place)
                self._scalar(self._text(event, place))
        if self._root is None and not self.mistakes:
            self._mistake((1, 1), "the file is empty", "start with `version: 1`")
        return self._root

    def _mistake(self, place: Place, what: str, hint: str) -> None:
        self.mistakes.append(Note(self.file, *place, what, hint))

    def _plain_yaml(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, place: Place) -> None:
        if event.anchor is not None:
            self._mistake(place, f"anchor {quoted(f'&{event.anchor}')}", "write what is meant wherever it is meant")
        if event.tag is not None and event.tag != "!":
            self._mistake(place, f"tag {quoted(event.tag)}", "leave it out: every value is read as text and then typed")

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1][0], Table) and self._key is None

    def _text(self, event: yaml.ScalarEvent, place: Place) -> Scalar:
        written = event.value
        if self._awaits_key():
            return Scalar(place, written, written)
        if written == "" and event.style not in ("'", '"', "|", ">"):
            self._mistake(place, "a value is missing", "write one, or leave the key out")
            return Scalar(place, "", "", broken=True)
        if "${" not in written:
            return Scalar(place, written, written)
        try:
            text, brought = expand(written, self.environ)
        except Wrong as wrong:
            self._mistake(place, wrong.what, wrong.hint or "")
            return Scalar(place, written, "", broken=True)
        self.secrets.update(brought)
        return Scalar(place, written, text)

    def _start(self, node: Sequence | Table) -> None:
        if len(self._open) == _DEEPEST:
            self._mistake(node.place, "nested too deeply", f"no policy needs more than {_DEEPEST} levels")
            raise _TooDeepError
        self._open.append((node, self._key))
        self._key = None

    def _scalar(self, node: Scalar) -> None:
        if not self._awaits_key():
            self._add(node)
            return
        if node.written == "<<":
            self._mistake(node.place, "a merge key", "write the keys out")
            node = Scalar(node.place, "", "", broken=True)
        self._key = node

    def _add(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        holder = self._open[-1][0]
        if isinstance(holder, Sequence):
            holder.items.append(node)
            return
        if self._key is None:
            # A mapping or list in place of a key: noted when it began.
            self._key = Scalar(node.place, "", "", broken=True)
            return
        key, self._key = self._key, None
        if key.broken:
            return
        if key.text in holder.entries:
            line = holder.entries[key.text].key_place[0]
            self._mistake(key.place, f"duplicate key {quoted(key.text)}", f"line {line} has it already")
            return
        holder.entries[key.text] = Entry(key.place, node)
