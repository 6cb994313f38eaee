"""Walking the plain tree of a file for what only several values together show.

Everything steps over what has another shape than expected: the model has noted that already.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from proxy.config.document import Document, Loc, Node, Scalar, Sequence, Table
from proxy.config.note import VALUE, Note, Wrong
from proxy.config.report import note_of

T = TypeVar("T")


def read_or_none(reader: Callable[[str], T], text: str | None) -> T | None:
    try:
        return None if text is None else reader(text)
    except Wrong:
        return None


def scalar(node: Node) -> str | None:
    return node.text if isinstance(node, Scalar) and not node.broken else None


def text_at(document: Document, loc: Loc) -> str | None:
    node = document.at(loc)
    return None if node is None else scalar(node)


def texts_at(document: Document, loc: Loc) -> Iterator[tuple[Loc, str]]:
    """Text that is one value or a list of them, each with its path."""
    node = document.at(loc)
    if isinstance(node, Sequence):
        yield from (((*loc, i), item.text) for i, item in enumerate(node.items) if isinstance(item, Scalar))
    elif isinstance(node, Scalar):
        yield loc, node.text


def tables_at(document: Document, loc: Loc) -> Iterator[tuple[Loc, Table]]:
    node = document.at(loc)
    for i, item in enumerate(node.items if isinstance(node, Sequence) else ()):
        if isinstance(item, Table):
            yield (*loc, i), item


def entries_at(document: Document, loc: Loc, *, scalars: bool = False) -> Iterator[tuple[str, Loc, Table]]:
    node = document.at(loc)
    for name, entry in node.entries.items() if isinstance(node, Table) else ():
        if isinstance(entry.node, Table) or scalars:
            yield name, (*loc, name), entry.node  # type: ignore[misc]


def all_tables(node: Node | None, loc: Loc) -> Iterator[tuple[Loc, Table]]:
    if isinstance(node, Table):
        yield loc, node
        for key, entry in node.entries.items():
            yield from all_tables(entry.node, (*loc, key))
    elif isinstance(node, Sequence):
        for i, item in enumerate(node.items):
            yield from all_tables(item, (*loc, i))


def repeated(document: Document, locs: Iterable[Loc], noun: str) -> Iterator[Note]:
    """The mistakes of text that stands at two of these paths."""
    first: dict[str, int] = {}
    for loc in locs:
        node = document.at(loc)
        if not isinstance(node, Scalar) or node.broken:
            continue
        if node.text in first:
            hint = f"line {first[node.text]} has it already"
            yield note_of(Wrong(f"duplicate {noun} {VALUE}", hint), document, loc)
        first.setdefault(node.text, node.place[0])
