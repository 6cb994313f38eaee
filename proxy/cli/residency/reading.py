"""Files of rows: CSV with a header line, or one JSON object a line. They are read once, in little memory.

Bytes that are not UTF-8 come through as characters that are not printable, so that they are a mistake of their line
and not of the file. After a mistake reading goes on; only a quote that is never closed ends it, since everything
behind it is inside it.
"""

import csv
import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from io import StringIO
from itertools import chain
from typing import BinaryIO

from proxy.cli.residency.rows import COLUMNS, Mistakes, Rows
from proxy.config.note import did_you_mean

_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 20

_HEADER = "the first line names the columns, such as subject,home or subject,home,from,reason"
_OBJECT = 'write one object a line, such as {"subject": "...", "home": "eu"}'


class _Endless(Exception):
    """A line that is longer than any row can be."""


def read_rows(file: BinaryIO, rows: Rows, mistakes: Mistakes, seen: Callable[[int], None]) -> str:
    """Hand all rows of a file on. seen: told of bytes as they are read. Returns the SHA-256 of the file as hex.

    Raises OSError. Whatever is wrong with the content goes to `mistakes`.
    """
    digest = sha256()
    pieces = _pieces(file, digest.update, seen)
    beginning = next(pieces, "")
    while beginning.isspace():  # blank lines count as lines
        following = next(pieces, "")
        if not following:
            break
        beginning += following
    lines = _lines(chain((beginning,), pieces))
    first = beginning.lstrip()[:1]
    try:
        if beginning[:2] in ("\udcff\udcfe", "\udcfe\udcff") or "\0" in beginning[:8]:
            mistakes.add(1, "the file is not UTF-8 (UTF-16, by its looks)", "save it as UTF-8")
        elif not first:
            mistakes.add(1, "the file is empty", _HEADER)
        elif first == "[":
            mistakes.add(1, "a JSON array", _OBJECT)
        elif first == "{":
            _read_json(lines, rows, mistakes)
        else:
            _read_csv(lines, rows, mistakes)
    except _Endless:
        mistakes.add(1, "a line is longer than 1 MiB", "no row is; end rows with a line feed")
    for _ in pieces:
        pass  # the digest is of the whole file, read or not
    rows.flush()
    return digest.hexdigest()


def _pieces(file: BinaryIO, *told: Callable[..., None]) -> Iterator[str]:
    """The text in pieces that end where lines end."""
    update, seen = told
    rest = b""
    first = True
    while data := file.read(_CHUNK):
        update(data)
        seen(len(data))
        if first and data.startswith(b"\xef\xbb\xbf"):
            data = data[3:]
        first = False
        cut = data.rfind(b"\n") + 1
        if not cut:
            rest += data
            if len(rest) > _LONGEST_LINE:
                raise _Endless
            continue
        yield (rest + data[:cut]).decode(errors="surrogateescape")
        rest = data[cut:]
    if rest:
        yield rest.decode(errors="surrogateescape")


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    for piece in pieces:
        yield from StringIO(piece, newline="")


def _read_csv(lines: Iterator[str], rows: Rows, mistakes: Mistakes) -> None:
    reader = csv.reader(lines, strict=True)
    columns: list[str] = []
    wide = 0
    plain = False
    last = 0
    while True:
        try:
            for record in reader:
                line, last = last + 1, reader.line_num
                if plain and len(record) == 2:
                    rows.take(line, record[0], record[1])
                elif not record:
                    pass
                elif not columns:
                    columns = _header(line, record, mistakes)
                    if not columns:
                        return
                    wide, plain = len(columns), columns == ["subject", "home"]
                elif len(record) != wide:
                    mistakes.add(
                        line,
                        f"{len(record)} field{'' if len(record) == 1 else 's'} where the header names {wide}",
                        "quote fields that hold commas, and write a comma for each that is empty",
                    )
                else:
                    named = dict(zip(columns, record, strict=True))
                    rows.take(line, named["subject"], named["home"], named.get("from"), named.get("reason"))
            return
        except csv.Error as error:
            line, last = last + 1, reader.line_num
            if last > line or "unexpected end" in str(error):
                mistakes.add(line, "a quote is opened and not closed", "nothing was read from there on; close it")
                return
            if "limit" in str(error):
                mistakes.add(line, "a field is too long", "no subject, home or reason is")
            else:
                mistakes.add(line, "a quote in the wrong place", "quote the whole field, and double a quote inside")


def _header(line: int, record: list[str], mistakes: Mistakes) -> list[str]:
    """The columns' names; empty if they are wrong."""
    before = mistakes.count
    if len(record) == 1 and ";" in record[0]:
        mistakes.add(line, "columns are separated by semicolons", "separate them by commas")
    elif len(record) == 1 and "\t" in record[0]:
        mistakes.add(line, "columns are separated by tabs", "separate them by commas")
    else:
        names = [name.strip() for name in record]
        for ordinal, name in enumerate(names, 1):
            if name not in COLUMNS:
                hint = did_you_mean(name, COLUMNS) or _HEADER
                mistakes.add(line, f"column {ordinal} is none of {', '.join(COLUMNS)}", hint)
            elif name in names[: ordinal - 1]:
                mistakes.add(line, f"`{name}` is there twice", "leave one out")
        for name in COLUMNS[:2]:
            if name not in names and before == mistakes.count:
                mistakes.add(line, f"there is no column `{name}`", _HEADER)
        if before == mistakes.count:
            return names
    return []


def _read_json(lines: Iterator[str], rows: Rows, mistakes: Mistakes) -> None:
    load = json.JSONDecoder(object_pairs_hook=tuple).decode
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            pairs = load(line)
        except (ValueError, RecursionError):
            mistakes.add(number, "not JSON", _OBJECT)
            continue
        if type(pairs) is not tuple:
            mistakes.add(number, "not an object", _OBJECT)
            continue
        named = dict(pairs)
        if _is_sound(number, len(pairs), named, mistakes):
            rows.take(number, named["subject"], named["home"], named.get("from"), named.get("reason"))


def _is_sound(line: int, pairs: int, named: dict[str, object], mistakes: Mistakes) -> bool:
    before = mistakes.count
    if len(named) < pairs:
        mistakes.add(line, "a key is there twice", "leave one out")
    for name, value in named.items():
        if name not in COLUMNS:
            hint = did_you_mean(name, COLUMNS) or f"keys are {', '.join(COLUMNS)}"
            mistakes.add(line, "a key that does not belong here", hint)
        elif type(value) is not str and not (value is None and name in COLUMNS[2:]):
            mistakes.add(line, f"`{name}` is not text", "write it in quotes")
    for name in COLUMNS[:2]:
        if name not in named:
            mistakes.add(line, f"`{name}` is missing", _OBJECT)
    return before == mistakes.count
