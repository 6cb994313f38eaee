"""Figures as tables: for a terminal and for RESULTS.md."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.budget import BARS, DECISION_NEVER_SEEN, DECISION_REPEATED, DECISION_RULES, verdict
from benchmarks.decide import Cost
from benchmarks.figures import Figures
from benchmarks.proxies import DOMICILE
from benchmarks.work import COST, PACED, Work

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as text: its title, what it says about itself, a header and rows of as many cells."""

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


def ratio_grid(figures: Figures) -> Grid:
    """How many times another's processor time Domicile takes."""
    others = [name for name in figures.proxies() if name != DOMICILE]
    rows = tuple(
        (work.name, *(_number(figures.ratio(work.name, DOMICILE, other), 1, 2) for other in others))
        for work in _measured(figures)
    )
    note = "Domicile's processor time a request over each other proxy's; below 1, Domicile takes less."
    return Grid("Ratios", note, ("work", *(f"/ {name}" for name in others)), rows)


def budget_grid(figures: Figures, decisions: Sequence[Cost]) -> Grid:
    """Every bar beside what was measured."""
    rows = []
    for bar in BARS:
        ratio = figures.ratio(bar.work, DOMICILE, bar.proxy)
        measured, at_most = _number(ratio, 1, 2), f"{bar.at_most:g} ×"
        rows.append((f"{bar.work} / {bar.proxy}", f"{measured} ×", at_most, verdict(ratio, bar.at_most)))
    under = next((cost for cost in decisions if cost.rules == DECISION_RULES), None)
    for name, seconds, at_most_seconds in (
        ("decision, repeated", under.repeated if under else None, DECISION_REPEATED),
        ("decision, facts never seen", under.never_seen if under else None, DECISION_NEVER_SEEN),
        ("decision, facts and outcome never seen", under.never_seen_outcome if under else None, DECISION_NEVER_SEEN),
    ):
        at_most = f"{at_most_seconds * 1e6:g} µs"
        rows.append((name, f"{_number(seconds, 1e6, 2)} µs", at_most, verdict(seconds, at_most_seconds)))
    note = f"Ratios as above; a decision is one under {DECISION_RULES:,} rules."
    return Grid("Budget", note, ("figure", "measured", "at most", "verdict"), tuple(rows))


def cost_grid(figures: Figures) -> Grid:
    """Microseconds of processor time a request."""
    names = figures.proxies()
    rows = tuple(
        (work.name, *(_number(figures.cost(work.name, name), 1e6, 1) for name in names)) for work in _measured(figures)
    )
    note = "Microseconds of the proxy's own processor time, user and kernel; median of the rounds."
    return Grid("Processor time a request", note, ("work", *names), rows)


def latency_grid(figures: Figures) -> Grid:
    """The 99th percentile under a load that all can serve."""
    names = figures.proxies()
    row = (PACED.name, *(_number(figures.p99(PACED.name, name), 1e3, 2) for name in names))
    note = (
        f"Milliseconds, median of the rounds' 99th percentiles: {PACED.connections} connections, each with a pause"
        f" of {PACED.think // 2} to {PACED.think * 3 // 2} ms between an answer and the next request, so about"
        f" {PACED.connections * 1000 // PACED.think} requests a second."
    )
    return Grid("Latency, 99th percentile", note, ("work", *names), (row,))


def spread_grid(figures: Figures) -> Grid:
    """How far the rounds lie apart."""
    names = figures.proxies()
    rows = tuple(
        (work.name, *(_percent(figures.spread(work.name, name)) for name in names)) for work in _measured(figures)
    )
    note = "Largest less smallest processor time of the rounds, as a share of their median."
    return Grid("Spread of the rounds", note, ("work", *names), rows)


def results(grids: Iterable[Grid], machine: Iterable[tuple[str, str]], date: str, rounds: int, seconds: int) -> str:
    """The whole of RESULTS.md."""
    head = (
        "# What a request costs\n\n"
        f"Measured on {date} by `make bench`: {rounds} interleaved rounds of {seconds} s, one core for the proxy and"
        " one for load and provider, every proxy with one worker, kept connections, the same headers towards the"
        " provider and a JSON access log; policy, metrics and log on. [The package](__init__.py) says how.\n\n"
    )
    facts = "\n".join(("| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in machine)))
    return head + facts + "\n\n" + "\n".join(grid.markdown() for grid in grids)


def _measured(figures: Figures) -> list[Work]:
    works = figures.works()
    return [work for work in COST if work.name in works]


def _number(value: float | None, scale: float, digits: int) -> str:
    return NOTHING if value is None else f"{value * scale:.{digits}f}"


def decision_grid(decisions: Sequence[Cost]) -> Grid:
    """Microseconds of processor time a decision."""
    rows = tuple(
        (
            f"{cost.rules:,}",
            *(_number(value, 1e6, 2) for value in (cost.repeated, cost.never_seen, cost.never_seen_outcome)),
        )
        for cost in decisions
    )
    note = (
        "Microseconds of processor time a decision alone; never seen: no request before had its host, path or address."
    )
    return Grid("Decisions", note, ("rules", "repeated", "never seen", "and its outcome neither"), rows)


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"
