"""Figures, verdicts and tables: what the benchmark says of what it measured."""

import io

from rich.console import Console

from benchmarks.budget import BARS, DECISION_RULES, verdict
from benchmarks.choosing import ChoosingCost
from benchmarks.decide import Cost
from benchmarks.figures import Figure, Figures
from benchmarks.grids import (
    budget_grid,
    cost_grid,
    decision_grid,
    idle_grid,
    latency_grid,
    overload_grid,
    passing_cost_grid,
    passing_ratio_grid,
    ratio_grid,
    spread_grid,
    summary,
    workers_grid,
)
from benchmarks.groups import LINES, Report
from benchmarks.idle import Held, Idle
from benchmarks.overload import Overload, Phase, Round
from benchmarks.proxies import PROXIES
from benchmarks.table import results
from benchmarks.work import MIB, PACED
from benchmarks.workers import ONE, TWO, WORKERS

FIGURES = Figures(
    [
        *(Figure("12 B", "Domicile", cost, 0.002, 1000) for cost in (30e-6, 32e-6, 99e-6)),
        *(Figure("12 B", "nginx", cost, 0.001, 1000) for cost in (16e-6, 10e-6, 17e-6)),
        *(Figure("12 B", "Envoy", 40e-6, 0.001, 1000) for _ in range(3)),
        *(
            Figure(PACED.name, name, 50e-6, p99, 1000)
            for name in ("Domicile", "nginx")
            for p99 in (0.001, 0.003, 0.002)
        ),
        Figure("64 KiB", "nginx", 16e-6, 0.001, 1000),
    ],
    {("64 KiB", "nginx"): "3 requests failed"},
)
PASSED = Figures(
    [
        *(Figure("passed, 12 B", name, cost, None, 1000) for name, cost in (("Domicile", 15e-6), ("HAProxy", 10e-6))),
        *(Figure("passed, 1 MiB", name, cost, None, 9) for name, cost in (("Domicile", 3e-4), ("HAProxy", 1e-4))),
    ]
)
TWO_WORKERS = Figures([Figure(WORKERS.name, name, cost, None, 9) for name, cost in ((ONE, 30e-6), (TWO, 33e-6))])
HELD = [Held("passed on", "Domicile", 10_000, before=100 * MIB, holding=120 * MIB)]
DECISIONS = [Cost(DECISION_RULES, never_seen=12e-6, never_seen_outcome=21e-6, repeated=1.5e-6)]


def test_a_cost_is_the_median_of_the_rounds() -> None:
    assert FIGURES.cost("12 B", "Domicile") == 32e-6
    assert FIGURES.p99(PACED.name, "nginx") == 0.002
    assert FIGURES.spread("12 B", "nginx") == (17e-6 - 10e-6) / 16e-6


def test_a_ratio_is_one_of_medians() -> None:
    assert FIGURES.ratio("12 B", "Domicile", "nginx") == 2.0


def test_what_was_not_measured_or_failed_in_some_round_has_no_figure() -> None:
    assert FIGURES.cost("1 MiB", "nginx") is None
    assert FIGURES.cost("64 KiB", "nginx") is None
    assert FIGURES.ratio("64 KiB", "Domicile", "nginx") is None


def test_a_bar_holds_up_to_itself() -> None:
    assert verdict(2.0, 2.0) == "holds"
    assert verdict(2.01, 2.0) == "falls short"
    assert verdict(None, 2.0) == "not measured"


def test_the_bars_are_of_works_and_proxies_that_run() -> None:
    assert {bar.work for bar in BARS} <= set(LINES)
    assert {bar.proxy for bar in BARS} <= set(PROXIES)


def test_the_budget_has_a_row_a_bar_with_its_verdict() -> None:
    rows = {row[0]: row[1:] for row in budget_grid((FIGURES, PASSED), DECISIONS).rows}
    assert rows["12 B / nginx"] == ("2.00 ×", "2 ×", "holds")
    assert rows["12 B / Envoy"] == ("0.80 ×", "0.6 ×", "falls short")
    assert rows["64 KiB / nginx"] == ("– ×", "1 ×", "not measured")
    assert rows["passed, 12 B / HAProxy"] == ("1.50 ×", "1.6 ×", "holds")
    assert rows["passed, 1 MiB / HAProxy"] == ("3.00 ×", "2 ×", "falls short")
    assert rows["decision, repeated"] == ("1.50 µs", "2 µs", "holds")
    assert rows["decision, facts and outcome never seen"] == ("21.00 µs", "20 µs", "falls short")


def test_health_and_choice_have_a_row_for_each_number_of_endpoints() -> None:
    costs = [ChoosingCost(1, 1.25e-6), ChoosingCost(4, 2.1e-6)]
    rows = {row[0]: row[1:] for row in budget_grid((), (), costs).rows}
    assert rows["health and choice, endpoints: 1"] == ("1.25 µs", "2 µs", "holds")
    assert rows["health and choice, endpoints: 4"] == ("2.10 µs", "2 µs", "falls short")
    assert rows["health and choice, endpoints: 32"] == ("– µs", "2 µs", "not measured")


def storm(p99: float) -> Round:
    calm = Phase(2000.0, 1900.0, 0.0, 0.011, 0.015, None, 0.6, 1 << 20)
    return Round(calm, Phase(15000.0, 3000.0, 11000.0, 0.016, p99, 0.008, 1.0, 0))


def test_overload_goes_by_the_median_of_its_storms() -> None:
    found = Overload(5000.0, [storm(0.018), storm(0.09), storm(0.024)], storm(1.5).storm)
    rows = {row[0]: row[1:] for row in budget_grid((), (), (), found).rows}
    assert rows["overload"] == ("1.60 ×", "2 ×", "holds")
    table = overload_grid(found).rows
    assert table[0] == ("unloaded, 1", "2,000", "1,900", "0", "11.0", "15.0", "1.0", "–")
    assert table[1] == ("storm, 1", "15,000", "3,000", "11,000", "16.0", "18.0", "0.0", "1.20")
    assert [row[0] for row in table[-2:]] == ["storm, 3", "without a limit"]
    assert [grid.title for grid in Report(overload=found).grids()] == ["Budget", "Overload"]


def test_the_summary_names_what_falls_short_and_what_was_not_measured() -> None:
    said = summary(budget_grid((FIGURES, PASSED), DECISIONS))
    assert said.startswith("4 of 16 bars hold. Falling short: 12 B / Envoy; passed, 1 MiB / HAProxy; decision,")
    assert said.endswith(
        "Not measured: 64 KiB / nginx; 12 B, TLS both sides / nginx; passed, 12 B, new connections / HAProxy;"
        " passed, 1 MiB, new connections / HAProxy; passed, 100 MiB / HAProxy; health and choice, endpoints: 1;"
        " health and choice, endpoints: 4; health and choice, endpoints: 32; overload."
    )
    assert summary(budget_grid((), ())).startswith("0 of 16 bars hold. Not measured: ")


def test_what_is_passed_on_says_what_a_figure_is_for() -> None:
    assert passing_cost_grid(PASSED).rows == (
        ("passed, 12 B: an exchange", "15.0", "10.0"),
        ("passed, 1 MiB: a MiB", "300.0", "100.0"),
    )
    assert passing_ratio_grid(PASSED).rows == (("passed, 12 B", "1.50"), ("passed, 1 MiB", "3.00"))


def test_a_second_worker_and_idle_connections_have_their_rows() -> None:
    assert workers_grid(TWO_WORKERS).rows == (("12 B", "30.0", "33.0", "1.10"),)
    assert idle_grid(HELD).rows == (("passed on: Domicile", "10,000", "100.0", "120.0", "2,097"),)


def test_a_report_shows_what_was_measured_and_nothing_else() -> None:
    def titles(report: Report) -> list[str]:
        return [grid.title for grid in report.grids()]

    assert titles(Report()) == []
    assert titles(Report(idle=Idle(HELD))) == ["Idle connections"]
    assert titles(Report(passing=PASSED, workers=TWO_WORKERS)) == [
        "Ratios, passed on",
        "Budget",
        "Processor time, passed on",
        "Two workers",
        "Spread of the rounds, passed on",
    ]
    assert not Report(passing=PASSED).failed
    assert Report(idle=Idle(failures={("passed on", "nginx"): "3 of 9 idle connections ended"})).failed


def test_the_terminal_and_the_file_show_the_same_cells() -> None:
    grids = (ratio_grid, cost_grid, latency_grid, spread_grid)
    tables = [grid(FIGURES) for grid in grids] + [
        budget_grid((FIGURES,), DECISIONS),
        decision_grid(DECISIONS),
        idle_grid(HELD),
    ]
    written = results(tables, [("processor", "some")], "1 January 2026", 5, 3)
    shown = io.StringIO()
    for table in tables:
        table.show(Console(file=shown, width=120))
        assert f"## {table.title}\n" in written
        for row in table.rows:
            assert "| " + " | ".join(row) + " |" in written
            assert all(cell in shown.getvalue() for cell in row)
    assert "| processor | some |" in written
