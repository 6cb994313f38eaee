"""What was measured, as tables."""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.budget import (
    BARS,
    CHOOSING,
    CHOOSING_ENDPOINTS,
    DECISION_NEVER_SEEN,
    DECISION_REPEATED,
    DECISION_RULES,
    OVERLOAD,
    verdict,
)
from benchmarks.choosing import ChoosingCost
from benchmarks.decide import Cost
from benchmarks.figures import Figures
from benchmarks.idle import Held
from benchmarks.overload import CROWD, DELAY, Overload, Phase
from benchmarks.passing.work import PASSING
from benchmarks.proxies import DOMICILE
from benchmarks.rounds import Line, W
from benchmarks.table import NOTHING, Grid, number, percent
from benchmarks.work import COST, MIB, PACED
from benchmarks.workers import ONE, TWO, WORKERS


def ratio_grid(figures: Figures) -> Grid:
    """How many times another's processor time Domicile takes."""
    note = "Domicile's processor time a request over each other proxy's; below 1, Domicile takes less."
    return _ratios("Ratios", note, figures, COST)


def passing_ratio_grid(figures: Figures) -> Grid:
    """The same of what is passed on."""
    note = (
        "The same for connections that are passed on unread, against HAProxy in TCP mode (splicing both ways, pipes of"
        " 1 MiB) and nginx's stream."
    )
    return _ratios("Ratios, passed on", note, figures, PASSING)


def budget_grid(
    all_figures: Iterable[Figures],
    decisions: Sequence[Cost],
    choosing: Sequence[ChoosingCost] = (),
    overload: Overload | None = None,
) -> Grid:
    """Every bar beside what was measured."""
    figures = tuple(all_figures)
    rows = []
    for bar in BARS:
        ratios = (each.ratio(bar.work, DOMICILE, bar.proxy) for each in figures)
        ratio = next((ratio for ratio in ratios if ratio is not None), None)
        measured, at_most = number(ratio, 1, 2), f"{bar.at_most:g} ×"
        rows.append((f"{bar.work} / {bar.proxy}", f"{measured} ×", at_most, verdict(ratio, bar.at_most)))
    under = next((cost for cost in decisions if cost.rules == DECISION_RULES), None)
    chosen = {cost.endpoints: cost.request for cost in choosing}
    for name, seconds, at_most_seconds in (
        ("decision, repeated", under.repeated if under else None, DECISION_REPEATED),
        ("decision, facts never seen", under.never_seen if under else None, DECISION_NEVER_SEEN),
        ("decision, facts and outcome never seen", under.never_seen_outcome if under else None, DECISION_NEVER_SEEN),
        *((f"health and choice, endpoints: {size}", chosen.get(size), CHOOSING) for size in CHOOSING_ENDPOINTS),
    ):
        at_most = f"{at_most_seconds * 1e6:g} µs"
        rows.append((name, f"{number(seconds, 1e6, 2)} µs", at_most, verdict(seconds, at_most_seconds)))
    ratio = None if overload is None else overload.ratio
    rows.append(("overload", f"{number(ratio, 1, 2)} ×", f"{OVERLOAD:g} ×", verdict(ratio, OVERLOAD)))
    note = (
        f"Ratios as above; a decision is one under {DECISION_RULES:,} rules. Health and choice: what choosing among a"
        " provider's endpoints, telling what came of it and the retry budget take of a request. Overload: the 99th"
        " percentile of the admitted when three times as much comes as a worker can do, over the unloaded one."
    )
    return Grid("Budget", note, ("figure", "measured", "at most", "verdict"), tuple(rows))


def summary(budget: Grid) -> str:
    """The budget in a sentence or two: how many bars hold, and which do not."""
    by_verdict = {word: [row[0] for row in budget.rows if row[-1] == word] for word in ("falls short", "not measured")}
    holding = sum(row[-1] == "holds" for row in budget.rows)
    said = [f"{holding} of {len(budget.rows)} bars hold."]
    if short := by_verdict["falls short"]:
        said.append(f"Falling short: {'; '.join(short)}.")
    if missing := by_verdict["not measured"]:
        said.append(f"Not measured: {'; '.join(missing)}.")
    return " ".join(said)


def cost_grid(figures: Figures) -> Grid:
    """Microseconds of processor time a request."""
    note = "Microseconds of the proxy's own processor time, user and kernel; median of the rounds."
    return _costs("Processor time a request", note, figures, COST, lambda work: work.name)


def passing_cost_grid(figures: Figures) -> Grid:
    """Microseconds of processor time of what is passed on."""
    note = "Microseconds as above, each for what its line says: an exchange of 12 bytes each way, or a MiB downloaded."
    return _costs("Processor time, passed on", note, figures, PASSING, lambda work: f"{work.name}: {work.per}")


def workers_grid(figures: Figures) -> Grid:
    """What a second worker costs."""
    one, two = (figures.cost(WORKERS.name, name) for name in (ONE, TWO))
    ratio = figures.ratio(WORKERS.name, TWO, ONE)
    note = (
        "Microseconds of Domicile's processor time a request, the master's included, under the same load on the same"
        " two cores, one of which load and provider use too."
    )
    row = ("12 B", number(one, 1e6, 1), number(two, 1e6, 1), number(ratio, 1, 2))
    return Grid("Two workers", note, ("work", ONE, TWO, "two / one"), (row,))


def idle_grid(rows: Sequence[Held]) -> Grid:
    """Memory of idle connections."""
    note = (
        "Memory that the proxy's processes have resident, in MiB, before and with so many connections that were"
        " answered once; all stay open, and one more is served meanwhile. A connection that is passed on has two"
        " sockets. nginx has a part of each from the start."
    )
    cells = tuple(
        (
            f"{each.kind}: {each.proxy}",
            f"{each.connections:,}",
            number(each.before, 1 / MIB, 1),
            number(each.holding, 1 / MIB, 1),
            f"{each.each:,.0f}",
        )
        for each in rows
    )
    return Grid("Idle connections", note, ("kind and proxy", "held", "before", "with them", "bytes each"), cells)


def latency_grid(figures: Figures) -> Grid:
    """The 99th percentile under a load that all can serve."""
    names = figures.proxies()
    row = (PACED.name, *(number(figures.p99(PACED.name, name), 1e3, 2) for name in names))
    note = (
        f"Milliseconds, median of the rounds' 99th percentiles: {PACED.connections} connections, each with a pause"
        f" of {PACED.think // 2} to {PACED.think * 3 // 2} ms between an answer and the next request, so about"
        f" {PACED.connections * 1000 // PACED.think} requests a second."
    )
    return Grid("Latency, 99th percentile", note, ("work", *names), (row,))


def spread_grid(figures: Figures) -> Grid:
    """How far the rounds lie apart."""
    note = "Largest less smallest processor time of the rounds, as a share of their median."
    return _spreads("Spread of the rounds", note, figures, COST)


def passing_spread_grid(figures: Figures) -> Grid:
    """The same of what is passed on."""
    return _spreads("Spread of the rounds, passed on", "The same.", figures, PASSING)


def overload_grid(overload: Overload) -> Grid:
    """What becomes of the admitted in storms."""
    note = (
        f"One worker that can do {overload.capacity:,.0f} requests a second, a provider that answers in {DELAY} ms,"
        f" heads of which no two are alike, {CROWD:,} connections: two fifths of that, three times that, and the same"
        " without a limit. Requests a second, milliseconds of the admitted, and MiB that the processes grew by"
        " meanwhile."
    )
    rows = []
    for turn, each in enumerate(overload.rounds, 1):
        rows.append(_phase(f"unloaded, {turn}", each.unloaded, NOTHING))
        rows.append(_phase(f"storm, {turn}", each.storm, number(each.ratio, 1, 2)))
    rows.append(_phase("without a limit", overload.unlimited, NOTHING))
    header = ("load", "offered", "done", "shed", "p50", "p99", "MiB more", "storm / unloaded")
    return Grid("Overload", note, header, tuple(rows))


def _phase(name: str, phase: Phase, ratio: str) -> tuple[str, ...]:
    rates = (f"{rate:,.0f}" for rate in (phase.offered, phase.done, phase.shed))
    waits = (number(seconds, 1e3, 1) for seconds in (phase.p50, phase.p99))
    return (name, *rates, *waits, number(phase.grown, 1 / MIB, 1), ratio)


def decision_grid(decisions: Sequence[Cost]) -> Grid:
    """Microseconds of processor time a decision."""
    rows = tuple(
        (
            f"{cost.rules:,}",
            *(number(value, 1e6, 2) for value in (cost.repeated, cost.never_seen, cost.never_seen_outcome)),
        )
        for cost in decisions
    )
    note = (
        "Microseconds of processor time a decision alone; never seen: no request before had its host, path or address."
    )
    return Grid("Decisions", note, ("rules", "repeated", "never seen", "and its outcome neither"), rows)


def _ratios(title: str, note: str, figures: Figures, works: Iterable[Line]) -> Grid:
    others = [name for name in figures.proxies() if name != DOMICILE]
    rows = tuple(
        (work.name, *(number(figures.ratio(work.name, DOMICILE, other), 1, 2) for other in others))
        for work in _measured(figures, works)
    )
    return Grid(title, note, ("work", *(f"/ {name}" for name in others)), rows)


def _costs(title: str, note: str, figures: Figures, works: Iterable[W], label: Callable[[W], str]) -> Grid:
    names = figures.proxies()
    rows = tuple(
        (label(work), *(number(figures.cost(work.name, name), 1e6, 1) for name in names))
        for work in _measured(figures, works)
    )
    return Grid(title, note, ("work", *names), rows)


def _spreads(title: str, note: str, figures: Figures, works: Iterable[Line]) -> Grid:
    names = figures.proxies()
    rows = tuple(
        (work.name, *(percent(figures.spread(work.name, name)) for name in names)) for work in _measured(figures, works)
    )
    return Grid(title, note, ("work", *names), rows)


def _measured(figures: Figures, works: Iterable[W]) -> list[W]:
    return [work for work in works if work.name in figures.works()]
