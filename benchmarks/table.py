"""Tables as text: for a terminal and for RESULTS.md."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: its title, what it says about itself, a header and rows of as many cells."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def show(self, console: Console) -> None:
        """Print it."""
        table = Table(
            title=self.title,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for number, name in enumerate(self.header):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        console.print(self.note, style="dim", highlight=False)

    def markdown(self) -> str:
        """The same as Markdown."""
        rule = ("---", *("---:" for _ in self.header[1:]))
        lines = ("| " + " | ".join(row) + " |" for row in (self.header, rule, *self.rows))
        return f"## {self.title}\n\n{self.note}\n\n" + "\n".join(lines) + "\n"


def number(value: float | None, scale: float, digits: int) -> str:
    """A figure as a cell."""
    return NOTHING if value is None else f"{value * scale:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as a cell."""
    return NOTHING if value is None else f"{value:.0%}"


def results(grids: Iterable[Grid], machine: Iterable[tuple[str, str]], date: str, rounds: int, seconds: int) -> str:
    """The whole of RESULTS.md."""
    head = (
        "# What a request costs\n\n"
        f"Measured on {date} by `make bench`: {rounds} interleaved rounds of {seconds} s (some two thirds of that), one"
        " core for the proxy and one for load and provider, every proxy with one worker and no privileges, kept"
        " connections where nothing else is said, the same headers towards the provider and a JSON access log; policy,"
        " metrics and log on. [The package](__init__.py) says how.\n\n"
    )
    facts = "\n".join(("| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in machine)))
    return head + facts + "\n\n" + "\n".join(grid.markdown() for grid in grids)
