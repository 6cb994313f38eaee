"""Annotated types of figures: durations, sizes, counts, shares, versions."""

from typing import Annotated, Literal

from proxy.config.part import VARIABLE, Json, Typed, pattern, words
from proxy.config.scalars import (
    one_of,
    or_none,
    read_count,
    read_duration,
    read_factor,
    read_grace,
    read_leeway,
    read_number,
    read_share,
    read_size,
)

_TIME = "[0-9]{1,9}(\\.[0-9]{1,3})?(ms|s|m|h|d)"
_DATA = "[0-9]{1,15}(B|KiB|MiB|GiB|TiB)?"
_WHOLE = {"type": "integer", "minimum": 1}
_COUNT = {"anyOf": [_WHOLE, {"type": "string", "pattern": VARIABLE}]}
_PERCENT = "[0-9]{1,3}(\\.[0-9]{1,6})?%"
_NUMBER = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": VARIABLE}]}
_SHARE = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, pattern(_PERCENT)]}
_FACTOR = {
    "anyOf": [{"type": "number", "exclusiveMinimum": 1, "maximum": 1000}, {"type": "string", "pattern": VARIABLE}]
}


def _also_none(schema: Json) -> Json:
    return {"anyOf": [*schema["anyOf"], {"enum": ["none"]}]}


Duration = Annotated[float, Typed(read_duration, pattern(_TIME))]
Grace = Annotated[float, Typed(read_grace, pattern(_TIME))]
Leeway = Annotated[float, Typed(read_leeway, pattern(_TIME))]
Age = Annotated[float | None, Typed(or_none(read_duration), pattern(f"{_TIME}|none"))]
Size = Annotated[int, Typed(read_size, {"anyOf": [_WHOLE, pattern(_DATA)]})]
Bound = Annotated[int | None, Typed(or_none(read_size), {"anyOf": [_WHOLE, pattern(f"{_DATA}|none")]})]
Count = Annotated[int, Typed(read_count, _COUNT)]
CountOrNone = Annotated[int | None, Typed(or_none(read_count), _also_none(_COUNT))]
Number = Annotated[float, Typed(read_number, _NUMBER)]
Share = Annotated[float, Typed(read_share, _SHARE)]
Factor = Annotated[float, Typed(read_factor, _FACTOR)]
FactorOrNone = Annotated[float | None, Typed(or_none(read_factor), _also_none(_FACTOR))]
TlsVersion = Annotated[Literal["1.2", "1.3"], Typed(one_of(("1.2", "1.3")), words("1.2", "1.3"))]
