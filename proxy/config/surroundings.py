"""What a value may refer to: the names that the file defines, and the folder that its paths start from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from proxy.config.document import Plain
from proxy.config.note import VALUE, Wrong, did_you_mean, quoted
from proxy.config.part import TypedHere
from proxy.policy.facts import SUBJECT, UNCLASSIFIED, UNKNOWN

_LISTED = 8


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The names of one file by kind, whether or not their definitions are right, and its folder."""

    folder: Path
    zones: tuple[str, ...]
    providers: tuple[str, ...]
    operators: tuple[str, ...]
    classes: tuple[str, ...]
    listeners: tuple[str, ...]
    actors: tuple[str, ...]


def surroundings_of(tree: Plain, folder: Path) -> Surroundings:
    """The names that a tree defines; what has another shape than expected defines none."""
    zones = _mapping(_get(tree, "zones"))
    providers = _mapping(_get(tree, "providers"))
    return Surroundings(
        folder=folder,
        zones=tuple(zones),
        providers=tuple(providers),
        operators=tuple(_texts(_get(provider, "operator") for provider in providers.values())),
        classes=tuple(_texts(_get(item, "class") for item in _items(_get(tree, "classes")))),
        listeners=tuple(_texts(_get(item, "name") for item in _items(_get(tree, "listeners")))),
        actors=tuple(_texts(_items(_get(_get(tree, "subject"), "actors")))),
    )


class _Defined(TypedHere):
    """Annotation of a name that the file must define, or that is one of a few words."""

    def __init__(self, kind: str, noun: str, *also: str) -> None:
        def read(text: str, surroundings: Surroundings) -> str:
            known = (*getattr(surroundings, kind), *also)
            if text in known:
                return text
            raise unknown_name(text, noun, known, surroundings)

        super().__init__(read, {"type": "string", "description": " or ".join((f"A defined {noun}", *also))})


ZoneRef = Annotated[str, _Defined("zones", "zone")]
HomeRef = Annotated[str, _Defined("zones", "zone", UNKNOWN)]
ProviderRef = Annotated[str, _Defined("providers", "provider")]
OperatorRef = Annotated[str, _Defined("operators", "operator of a provider")]
ClassRef = Annotated[str, _Defined("classes", "class", UNCLASSIFIED)]
ListenerRef = Annotated[str, _Defined("listeners", "listener")]
ActorRef = Annotated[str, _Defined("actors", "actor", SUBJECT, UNKNOWN)]


def unknown_name(text: str, noun: str, known: tuple[str, ...], surroundings: Surroundings) -> Wrong:
    """The mistake of a name that nothing defines, with what was probably meant."""
    elsewhere = [
        (other, names)
        for other, names in (
            ("zone", surroundings.zones),
            ("provider", surroundings.providers),
            ("operator", surroundings.operators),
            ("class", surroundings.classes),
            ("listener", surroundings.listeners),
        )
        if text in names and not noun.startswith(other)
    ]
    suggestion = did_you_mean(text, known)
    if elsewhere:
        other = elsewhere[0][0]
        suggestion = f"{quoted(text)} is {'an' if other == 'operator' else 'a'} {other}"
        if noun == "zone" and other in ("provider", "operator"):
            suggestion += f": write {{{other}s: [{text}]}}"
    listed = ", ".join(dict.fromkeys(known).keys() if len(known) <= _LISTED else (*known[:_LISTED], "..."))
    hint = f"there are: {listed}" if known else f"this policy defines no {noun}"
    return Wrong(f"{VALUE} is no {noun}", hint, suggestion=suggestion)


def _get(tree: object, key: str) -> object:
    return tree.get(key) if isinstance(tree, dict) else None


def _mapping(tree: object) -> dict[str, object]:
    return tree if isinstance(tree, dict) else {}


def _items(tree: object) -> Iterator[object]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, list):
        yield from tree


def _texts(values: object) -> Iterator[str]:
    for value in values if isinstance(values, Iterator) else ():
        if isinstance(value, str):
            yield value
