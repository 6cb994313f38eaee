"""What the demo prints: eighty columns, coloured where the terminal is."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import median

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from proxy.cli.demonstration.checks import Check
from proxy.cli.demonstration.outage import Outage
from proxy.cli.demonstration.plots import area, bars, rounded_up
from proxy.cli.demonstration.scrape import Scrape, bandwidth, quantile
from proxy.cli.demonstration.storage import Storage
from proxy.cli.demonstration.visits import TELECOM, Seen

_WIDE, _WIDEST = 78, 100
_BLOCKS = "[\u2580-\u259f#]+"
_PLAIN_FRAME = str.maketrans("┤│┼├└┬┴─", "||||+---")
_QUANTILES = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))


class Screen:
    """Prints to standard output."""

    def __init__(self) -> None:
        if hasattr(sys.stdout, "reconfigure"):
            # A terminal without Unicode gets question marks rather than a traceback.
            sys.stdout.reconfigure(errors="replace")
        self._console = Console(highlight=False)
        self._console.width = min(self._console.width, _WIDEST)
        self._unicode = unicode = self._console.encoding.lower().startswith("utf")
        self._yes, self._no = ("✓", "✗") if unicode else ("+", "x")
        self._area, self._bar = ("hd", "full") if unicode else ("#", "#")

    def headline(self) -> None:
        """The story in two lines."""
        self._console.print()
        self._console.print(Text("2014: a cloud takes China Telecom as its provider for mainland China.", "bold"))
        self._console.print("Mainland users' data must go there, wherever they are; nobody else's ever may.")

    def part(self, title: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(title, "bold"), align="left", style="dim", characters="─"))

    def working(self, what: str) -> AbstractContextManager[object]:
        """Says what is under way while a context is open, in a terminal only."""
        if not sys.stdout.isatty():  # FORCE_COLOR makes a log coloured, and no terminal of it
            return nullcontext()
        return self._console.status(Text(what, "dim"))

    def say(self, text: str) -> None:
        self._console.print(Text(text, "dim"))

    def check(self, check: Check) -> None:
        mark = Text(self._yes, "bold green") if check.holds else Text(self._no, "bold red")
        row = Table.grid(padding=(0, 1))
        row.add_row(mark, Text(check.says, "" if check.holds else "bold red"))
        self._console.print(row)

    def visits(self, seen: Sequence[Seen]) -> None:
        """Who went where, and why."""
        table, wide = _table(), self._console.width >= _WIDE
        for name in ("account", "from", "home", "served by", "", "because"):
            table.add_column(name, no_wrap=wide and name != "because")
        for each in seen:
            residence = "" if each.visit.account is None else f" ({each.visit.account.residence})"
            style = "red" if each.wrong else _style(each.operator)
            table.add_row(
                each.visit.who + residence,
                f"{each.visit.place.name} {each.country}",
                each.home,
                Text(each.operator or "nobody", style),
                Text(str(each.status), style),
                each.why,
            )
        self._console.print(table)
        self.say("Home: by the signed token. From: by the address, which decides nothing here.")

    def plots(self, scrapes: Sequence[Scrape], providers: Sequence[Storage], event: Outage) -> None:
        """Bandwidth and latency of each provider, by the proxy's metrics; response times as its clients saw them."""
        width = self._console.width - 2
        curves = {each.name: [(x, y / 1e6) for x, y in bandwidth(scrapes, each.name)] for each in providers}
        top = rounded_up(max((y for curve in curves.values() for _, y in curve), default=0.0))
        for each in providers:
            self._console.print(Text(f"{each.operator}, bandwidth in MB/s", "bold"))
            self._draw(area(curves[each.name], width=width, top=top, marker=self._area), _style(each.operator))
        self.say(_told(event, scrapes[0].time))
        self._console.print(Text("Time to the first byte of an answer, all on this machine", "bold"))
        rows = [
            (f"{each.operator} {name}", 1000 * value)
            for each in providers
            for share, name in _QUANTILES
            if (value := quantile(scrapes[0].of(each.name), scrapes[-1].of(each.name), share)) is not None
        ]
        if rows:
            longest = max(len(label) for label, _ in rows)
            labelled = [(f"{label:{longest}} {value:6.1f} ms", value) for label, value in rows]
            top = rounded_up(max(value for _, value in rows))
            self._draw(bars(labelled, width=width, top=top, unit="ms", marker=self._bar))
        for each in providers:
            if seconds := event.tallies[each.name].seconds:
                self.say(
                    f"{each.operator}: {len(seconds):,} answers, whole after {1000 * median(seconds):.1f} ms "
                    "(median, at the client)"
                )

    def witnesses(self, providers: Sequence[Storage]) -> None:
        """What each provider has seen, by its own count."""
        table = _table()
        table.add_column("provider")
        for name in ("connections", "requests", "MB in", "MB out"):
            table.add_column(name, justify="right")
        table.add_column("accounts by residence")
        for each in providers:
            seen = each.seen
            table.add_row(
                Text(each.operator, _style(each.operator)),
                f"{seen.connections:,}",
                f"{seen.requests:,}",
                f"{seen.received / 1e6:,.1f}",
                f"{seen.sent / 1e6:,.1f}",
                ", ".join(f"{name} {count:,}" for name, count in sorted(seen.residences.items())),
            )
        self._console.print(table)

    def verdict(self, made: Sequence[Check], trouble: str) -> None:
        """The end: how many checks hold. trouble: what the proxy last said, shown if one does not."""
        failed = [check for check in made if not check.holds]
        self._console.print()
        if not failed:
            self._console.print(Text(f"{self._yes} All {len(made)} checks hold.", "bold green"))
            return
        self._console.print(Text(f"{self._no} {len(failed)} of {len(made)} checks do not hold:", "bold red"))
        for check in failed:
            self._console.print(Padding(Text(check.says, "red"), (0, 0, 0, 2)))
        if trouble:
            self.say("The proxy's last words:")
            self._console.print(Padding(Text(trouble), (0, 0, 0, 2)))

    def failure(self, text: str) -> None:
        """It could not be shown at all."""
        self._console.print(Text(f"{self._no} {text}", "bold red"))

    def lines(self, text: str) -> None:
        """Lines that can be copied: never broken, never styled."""
        self._console.print(Text(text), soft_wrap=True)

    def _draw(self, plot: str, style: str | None = None) -> None:
        """style: of the whole plot; None where each line begins with its operator."""
        for line in (plot if self._unicode else plot.translate(_PLAIN_FRAME)).split("\n"):
            text = Text(line, no_wrap=True, overflow="crop")
            own = _style(TELECOM if line.lstrip().startswith(TELECOM) else "")
            text.highlight_regex(_BLOCKS, own if style is None else style)
            self._console.print(Padding(text, (0, 0, 0, 1), expand=False))


def _told(event: Outage, begin: float) -> str:
    back = "not yet" if event.back is None else f"at {event.back - begin:.1f} s"
    return (
        f"Off at {event.off - begin:.1f} s (then for a moment only Li Na sends), on at {event.on - begin:.1f} s,\n"
        f"served again {back}: an endpoint that failed is left alone for five seconds."
    )


def _table() -> Table:
    return Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _style(operator: str | None) -> str:
    if operator is None:
        return "yellow"
    return "magenta" if operator == TELECOM else "cyan"
