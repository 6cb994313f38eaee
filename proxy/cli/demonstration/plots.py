"""Plots of the terminal, as plain text: colours are the screen's business."""

from collections.abc import Sequence
from typing import Any

import plotext

_PANEL = 7
"""Rows of a panel of bandwidth, its title left out."""


def area(points: Sequence[tuple[float, float]], *, width: int, top: float, marker: str) -> str:
    """A filled curve over seconds. top: where the y axis ends, so that panels can share a scale."""
    figure = _figure(width, _PANEL)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    figure.draw(figure.signal(xs, ys, marker=marker).lines(True).fillx(True))
    figure.ruler("y").lim(0, top).alignment(lim="edge").ticks([0, top / 2, top], ["0", f"{top / 2:g}", f"{top:g}"])
    last = int(xs[-1])
    step = max(1, last // 5)
    seconds = list(range(0, last + 1, step))
    figure.ruler("x").lim(0, xs[-1]).ticks(seconds, [f"{each} s" for each in seconds])
    return _drawn(figure)


def bars(rows: Sequence[tuple[str, float]], *, width: int, top: float, unit: str, marker: str) -> str:
    """One bar a row, from the top down. rows: labels and values; top: where the axis ends."""
    count = len(rows)
    figure = _figure(width, count + 2)
    labels, values = [label for label, _ in reversed(rows)], [value for _, value in reversed(rows)]
    # A bar thinner than a row, and limits at the first and last bar, give each bar one row exactly.
    figure.draw(figure.bar(labels, values, orientation="h", marker=marker, width=0.1))
    figure.ruler("y").lim(1, max(2, count))
    ticks = [0.0, top / 2, top]
    figure.ruler("x").lim(0, top).alignment(lim="edge").ticks(ticks, [f"{tick:g} {unit}" for tick in ticks])
    return _drawn(figure)


def rounded_up(value: float) -> float:
    """The next of 1, 2, 3, 4, 5, 6, 8, 10 times a power of ten: where an axis may end."""
    if value <= 0:
        return 1.0
    scale = 1.0
    while value > 10 * scale:
        scale *= 10
    while value <= scale:
        scale /= 10
    return next(step * scale for step in (1, 2, 3, 4, 5, 6, 8, 10) if value <= step * scale)


def _figure(width: int, height: int) -> Any:
    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, height)
    figure.axes(False, axis="x", side="upper").axes(False, axis="y", side="right")
    return figure


def _drawn(figure: Any) -> str:
    text: str = figure.build().string(colorless=True)
    return "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))
