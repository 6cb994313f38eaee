"""Pydantic's errors as notes: each at its place, in this project's words."""

import typing
from typing import Any

from pydantic import ValidationError

from proxy.config.document import Document, Loc, Scalar
from proxy.config.file import PolicyFile
from proxy.config.note import VALUE, Note, Wrong, did_you_mean, quoted
from proxy.config.part import Part


def notes_of(error: ValidationError, document: Document) -> list[Note]:
    """One note for each error, but for those of values that were noted when the text was read."""
    notes = []
    for each in error.errors(include_url=False, include_input=False):
        loc: Loc = each["loc"]
        _, node = document.nearest(loc)
        if not (isinstance(node, Scalar) and node.broken):
            notes.append(_note(document, loc, each["type"], each.get("ctx", {})))
    return notes


def note_of(wrong: Wrong, document: Document, loc: Loc, *, key: bool = False) -> Note:
    """The mistake of one value, with the value as it is written."""
    _, node = document.nearest(loc)
    written = str(loc[-1]) if key else node.written if isinstance(node, Scalar) else ""
    secret = isinstance(node, Scalar) and node.from_environment and not key
    hint = wrong.hint if secret else wrong.suggestion or wrong.hint
    return document.note(loc, wrong.what.replace(VALUE, quoted(written)), hint, key=key)


def _note(document: Document, loc: Loc, kind: str, context: dict[str, Any]) -> Note:
    if loc and loc[-1] == "[key]":
        return note_of(context["error"], document, loc[:-1], key=True)
    if kind == "value_error":
        return note_of(context["error"], document, loc)
    if kind == "missing":
        return document.note(loc[:-1], f"{quoted(str(loc[-1]))} is missing", _description(loc))
    if kind == "extra_forbidden":
        return _unknown_key(document, loc)
    found = {str: "a single value", list: "a list", dict: "a mapping"}
    node = document.at(loc)
    what = found[str] if isinstance(node, Scalar) else found[list] if node is not None else "nothing"
    return document.note(loc, f"expected a mapping, found {what}", _keys_hint(_part_at(loc)))


def _unknown_key(document: Document, loc: Loc) -> Note:
    key, part = str(loc[-1]), _part_at(loc[:-1])
    if part is not None and key in part.later:
        return document.note(loc, f"{quoted(key)} is not available in this version", "leave it out", key=True)
    if part is not None and key in part.barred:
        return document.note(loc, f"{quoted(key)} cannot be tested here", part.barred[key], key=True)
    known = [] if part is None else _keys(part)
    hint = did_you_mean(key, known) or _keys_hint(part)
    return document.note(loc, f"unknown key {quoted(key)}", hint, key=True)


def _keys(part: type[Part]) -> list[str]:
    return [field.alias or name for name, field in part.model_fields.items()]


def _keys_hint(part: type[Part] | None) -> str | None:
    return None if part is None else f"its keys are {', '.join(_keys(part))}"


def _description(loc: Loc) -> str | None:
    part = _part_at(loc[:-1])
    for name, field in part.model_fields.items() if part else ():
        if (field.alias or name) == loc[-1] and field.description:
            return f"add it: {field.description}"
    return None


def _part_at(loc: Loc) -> type[Part] | None:
    """The part of the model that describes the mapping at this path."""
    kind: Any = PolicyFile
    for step in loc:
        if typing.get_origin(kind) is dict:
            kind = _inside(typing.get_args(kind)[1])
        elif isinstance(step, str):
            fields = kind.model_fields.items() if isinstance(kind, type) and issubclass(kind, Part) else ()
            kind = next((_inside(field.annotation) for name, field in fields if (field.alias or name) == step), None)
    return kind if isinstance(kind, type) and issubclass(kind, Part) else None


def _inside(annotation: Any) -> Any:
    """What lists, options and annotations hold: a part, a mapping of parts, or a plain type."""
    while typing.get_origin(annotation) is not dict:
        arguments = [each for each in typing.get_args(annotation) if each not in (type(None), ...)]
        if not arguments:
            break
        annotation = arguments[0]
    return annotation
