"""The groups that a run is made of, and what they come to together."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from benchmarks import choosing, decide, overload
from benchmarks.choosing import ChoosingCost
from benchmarks.cores import Cores
from benchmarks.decide import Cost
from benchmarks.figures import Figures
from benchmarks.grids import (
    budget_grid,
    cost_grid,
    decision_grid,
    idle_grid,
    latency_grid,
    overload_grid,
    passing_cost_grid,
    passing_ratio_grid,
    passing_spread_grid,
    ratio_grid,
    spread_grid,
    workers_grid,
)
from benchmarks.idle import WANTED, Idle, measure_idle
from benchmarks.overload import Overload
from benchmarks.passing.measure import measure_passing
from benchmarks.passing.proxies import PASSING_PROXIES
from benchmarks.passing.work import PASSING
from benchmarks.proxies import DOMICILE, PROXIES
from benchmarks.requests import measure_requests
from benchmarks.rounds import Rounds
from benchmarks.table import Grid
from benchmarks.work import COST, PACED
from benchmarks.workers import WORKERS, measure_workers

Group = Literal["requests", "passing", "workers", "idle", "decisions", "overload"]
GROUPS: tuple[Group, ...] = get_args(Group)

LINES = tuple(work.name for work in (*COST, PACED, *PASSING, WORKERS))


@dataclass(slots=True)
class Report:
    """What was measured; empty, what was not asked for."""

    requests: Figures = field(default_factory=Figures)
    passing: Figures = field(default_factory=Figures)
    workers: Figures = field(default_factory=Figures)
    idle: Idle = field(default_factory=Idle)
    decisions: list[Cost] = field(default_factory=list)
    choosing: list[ChoosingCost] = field(default_factory=list)
    overload: Overload | None = None

    @property
    def failed(self) -> bool:
        """Whether something that was asked for has no figure."""
        return any(each.failures for each in (self.requests, self.passing, self.workers, self.idle))

    def budget(self) -> Grid:
        """Every bar beside what was measured."""
        return budget_grid((self.requests, self.passing), self.decisions, self.choosing, self.overload)

    def grids(self) -> list[Grid]:
        """All tables that have something to say."""
        requests, passing = self.requests, self.passing
        grids = []
        if DOMICILE in requests.proxies():
            grids.append(ratio_grid(requests))
        if DOMICILE in passing.proxies():
            grids.append(passing_ratio_grid(passing))
        if grids or self.decisions or self.overload is not None:
            grids.append(self.budget())
        if requests.rows:
            grids.append(cost_grid(requests))
        if passing.rows:
            grids.append(passing_cost_grid(passing))
        if PACED.name in requests.works():
            grids.append(latency_grid(requests))
        if self.workers.rows:
            grids.append(workers_grid(self.workers))
        if self.idle.rows:
            grids.append(idle_grid(self.idle.rows))
        if requests.rows:
            grids.append(spread_grid(requests))
        if passing.rows:
            grids.append(passing_spread_grid(passing))
        if self.decisions:
            grids.append(decision_grid(self.decisions))
        if self.overload is not None:
            grids.append(overload_grid(self.overload))
        return grids


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked for; with nothing named, all of it. only: proxies, by name; works: lines, by name."""

    groups: Collection[str] = ()
    only: Collection[str] = ()
    works: Collection[str] = ()

    @property
    def all(self) -> bool:
        """Whether nothing is left out."""
        return not (self.groups or self.only or self.works)

    def has(self, group: Group) -> bool:
        """A group that is named; or else, that has what is named."""
        if self.groups and group not in self.groups:
            return False
        if self.works and group in ("idle", "decisions", "overload"):
            return False
        return not self.only or group not in ("workers", "decisions", "overload") or group in self.groups

    def proxies(self, names: Sequence[str]) -> list[str]:
        """Those of these that are asked for."""
        return [name for name in names if not self.only or name in self.only]

    def asks(self, line: str) -> bool:
        """Whether a line is asked for."""
        return not self.works or line in self.works


def measure_groups(choice: Choice, rounds: Rounds, cores: Cores, folder: Path, idle: int = WANTED) -> Report:
    """Measure what is asked for, a group after another. idle: how many idle connections."""
    report = Report()
    works = [work for work in (*COST, PACED) if choice.asks(work.name)]
    names = choice.proxies(tuple(PROXIES))
    if choice.has("requests") and works and names:
        report.requests = measure_requests(names, works, rounds, cores, folder / "requests")
    passing = [work for work in PASSING if choice.asks(work.name)]
    names = choice.proxies(tuple(PASSING_PROXIES))
    if choice.has("passing") and passing and names:
        report.passing = measure_passing(names, passing, rounds, cores, folder / "passing")
    if choice.has("workers") and choice.asks(WORKERS.name):
        report.workers = measure_workers(rounds, cores, folder / "workers")
    if choice.has("idle") and names:
        report.idle = measure_idle(names, cores, folder / "idle", rounds.say, idle)
    if choice.has("decisions"):
        rounds.say("decisions")
        report.decisions = decide.measure()
        report.choosing = choosing.measure()
    if choice.has("overload"):
        rounds.say("overload")
        report.overload = overload.measure(cores, 2.0 * rounds.seconds, rounds.number)
    return report
