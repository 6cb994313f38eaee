"""Annotated types of figures: durations, sizes, counts, versions."""

from typing import Annotated, Literal

from proxy.config.part import VARIABLE, Typed, pattern, words
from proxy.config.scalars import (
    one_of,
    read_age,
    read_bound,
    read_count,
    read_duration,
    read_grace,
    read_leeway,
    read_size,
)

_TIME = "[0-9]{1,9}(\\.[0-9]{1,3})?(ms|s|m|h|d)"
_DATA = "[0-9]{1,15}(B|KiB|MiB|GiB|TiB)?"
_WHOLE = {"type": "integer", "minimum": 1}

Duration = Annotated[float, Typed(read_duration, pattern(_TIME))]
Grace = Annotated[float, Typed(read_grace, pattern(_TIME))]
Leeway = Annotated[float, Typed(read_leeway, pattern(_TIME))]
Age = Annotated[float | None, Typed(read_age, pattern(f"{_TIME}|none"))]
Size = Annotated[int, Typed(read_size, {"anyOf": [_WHOLE, pattern(_DATA)]})]
Bound = Annotated[int | None, Typed(read_bound, {"anyOf": [_WHOLE, pattern(f"{_DATA}|none")]})]
Count = Annotated[int, Typed(read_count, {"anyOf": [_WHOLE, {"type": "string", "pattern": VARIABLE}]})]
TlsVersion = Annotated[Literal["1.2", "1.3"], Typed(one_of(("1.2", "1.3")), words("1.2", "1.3"))]
