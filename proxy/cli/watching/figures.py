"""Figures in few characters."""

from collections.abc import Sequence

_SIZES = ("B", "kB", "MB", "GB", "TB")
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-~=+*#"


def count(number: float) -> str:
    """`0`, `0.3`, `12`, `1.2k`, `3.4M`."""
    if 0 < number < 10:
        return f"{number:.1f}".removesuffix(".0") if number >= 0.05 else "<0.1"
    for size in ("", "k", "M"):
        if number < 999.5:
            return f"{number:.1f}{size}" if size and number < 9.95 else f"{number:.0f}{size}"
        number /= 1000
    return f"{number:.1f}G"


def size(number: float) -> str:
    """Bytes: `0 B`, `640 B`, `1.2 kB`, `34 MB`."""
    for unit in _SIZES:
        if number < 999.5 or unit == _SIZES[-1]:
            break
        number /= 1000
    return f"{number:.1f} {unit}" if unit != "B" and number < 9.95 else f"{number:.0f} {unit}"


def short(seconds: float | None) -> str:
    """A duration: `0.4 ms`, `12 ms`, `1.3 s`; `-` for none."""
    if seconds is None:
        return "-"
    ms = seconds * 1000
    if ms < 9.95:
        return f"{ms:.1f} ms"
    return f"{ms:.0f} ms" if ms < 999.5 else f"{seconds:.1f} s"


def long(seconds: float) -> str:
    """How long something has run: `12 s`, `3 min`, `5 h 20 min`, `4 d 6 h`."""
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 1440:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def sparkline(values: Sequence[float | None], width: int, unicode: bool) -> str:
    """The last values, the highest of them as the full height; a gap where there was none."""
    last = values[-width:]
    steps = _BLOCKS if unicode else _ASCII
    highest = max((value for value in last if value is not None), default=0.0)
    if not highest:
        return " " * len(last)
    top = len(steps) - 1
    return "".join(" " if value is None else steps[round(value / highest * top)] for value in last)
