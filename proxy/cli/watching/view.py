"""The picture that `domicile status` draws: what an operator looks for first stands first. Eighty columns suffice."""

from collections.abc import Iterator, Mapping
from functools import partial

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.admin import EndpointStatus, ProviderStatus, Status, ZoneStatus
from proxy.cli.watching.figures import count, long, short, size, sparkline
from proxy.cli.watching.history import History

_COLOURS = {
    **dict.fromkeys(("healthy", "closed", "ok"), "green"),
    **dict.fromkeys(("slow-start", "half-open", "empty", "unknown"), "yellow"),
    **dict.fromkeys(("down", "open", "country-mismatch", "distance-impossible"), "bold red"),
}
_FLAGGED = ("country-mismatch", "distance-impossible")
_SPARK = 10


def picture(history: History, unicode: bool, note: str | None = None) -> Group:
    """All of it. note: what is wrong with asking."""
    status = history.last
    parts: list[RenderableType] = [_headline(status), _load(history)]
    if trouble := _trouble(status, note):
        parts.append(trouble)
    parts += ["", _zones(history, unicode), "", _denials(history)]
    if waiting := {each.name: each.waiting for each in status.providers if each.waiting}:
        parts.append(_waiting(waiting))
    if any(each.endpoints for each in status.providers):
        parts += ["", _endpoints(status)]
    return Group(*parts)


def _headline(status: Status) -> Text:
    workers = f"{status.workers.living} of {status.workers.wanted} workers"
    digest = "no policy" if status.digest is None else f"policy {status.digest[:19]}"
    text = Text.assemble(
        ("Domicile", "bold"), f" {status.version}  up {long(status.uptime)}  ", (workers, _workers_style(status))
    )
    return text.append(f"  {digest}")


def _workers_style(status: Status) -> str:
    return "" if status.workers.living >= status.workers.wanted else "bold red"


def _load(history: History) -> Text:
    load = history.last.load
    seconds = history.seconds
    parts = [
        f"{count(history.rate(lambda each: each.load.requests))} req/s",
        f"{count(history.last.connections)} clients",
        f"{count(load.under_way)} of {count(load.limit)} under way" if load.limit else "",
        f"lag p99 {short(history.loop_lag().p99)}",
    ]
    over = "since start" if seconds is None else f"over {long(seconds)}"
    return Text("  ".join(filter(None, parts))).append(f"  ({over})", "dim")


def _trouble(status: Status, note: str | None) -> Text | None:
    said = [
        note,
        "it is draining" if status.draining else None,
        f"access log: {status.log_problem.lower()}" if status.log_problem else None,
        f"log lines dropped: {count(status.log_dropped)}" if status.log_dropped else None,
        f"workers that died: {status.restarts}" if status.restarts else None,
    ]
    found = [each for each in said if each]
    return Text("! " + "  ! ".join(found), "bold red") if found else None


# -- zones and their providers


def _zones(history: History, unicode: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("zone, provider", min_width=12)
    table.add_column("state", no_wrap=True)
    for title in ("req/s", "to prov.", "to client", "p50", "p99"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("first byte", no_wrap=True, min_width=_SPARK)
    providers = {each.name: each for each in history.last.providers}
    for zone in history.last.zones:
        table.add_row(*_zone(zone))
        for name in zone.providers:
            if name in providers:
                table.add_row(*_provider(history, providers[name], unicode))
    return table


def _zone(zone: ZoneStatus) -> Iterator[Text]:
    yield _name(zone.name, "bold")
    yield _word("no provider" if zone.state == "empty" else zone.state, zone.state)


def _provider(history: History, provider: ProviderStatus, unicode: bool) -> Iterator[Text]:
    name, quantiles = provider.name, history.first_byte(provider.name)
    flagged = any(each.evidence in _FLAGGED for each in provider.endpoints)
    yield _name(f"  {name}")
    state = _word(provider.state)
    yield state.append(" ⚑" if unicode else " !", "bold red") if flagged else state
    yield Text(count(history.provider_rate(name, lambda each: each.requests + each.passed)))
    yield Text(size(history.provider_rate(name, lambda each: each.to_provider)) + "/s")
    yield Text(size(history.provider_rate(name, lambda each: each.to_client)) + "/s")
    yield Text(short(quantiles.p50))
    yield Text(short(quantiles.p99))
    yield Text(sparkline(history.medians(name), _SPARK, unicode), "cyan")


# -- what was turned away


def _denials(history: History) -> Text:
    load = history.last.load
    text = Text("denied", "dim")
    turned_away = {**load.denials, "rate-limited": load.rate_limited, "shed": load.shed}
    shown = {reason: number for reason, number in turned_away.items() if number}
    if not shown:
        return text.append("  nothing")
    for reason, number in shown.items():
        rate = history.rate(partial(_turned_away, reason))
        text.append(f"  {reason} ").append(count(number), "bold")
        if history.seconds is not None and rate:
            text.append(f" ({count(rate)}/s)", "yellow")
    return text


def _waiting(waiting: Mapping[str, int]) -> Text:
    """How many wait now for providers that are full."""
    text = Text("waiting", "dim")
    for name, number in waiting.items():
        text.append(f"  {name} ").append(count(number), "bold yellow")
    return text


def _turned_away(reason: str, status: Status) -> int:
    if reason == "rate-limited":
        return status.load.rate_limited
    return status.load.shed if reason == "shed" else status.load.denials.get(reason, 0)


# -- endpoints


def _endpoints(status: Status) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("endpoint")
    table.add_column("provider")
    table.add_column("breaker", no_wrap=True)
    for title in ("trips", "round trip"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("evidence", no_wrap=True)
    found = [(provider.name, each) for provider in status.providers for each in provider.endpoints]
    # The screen may be too short for all: what is well comes last.
    for name, each in sorted(found, key=lambda pair: _well(pair[1])):
        evidence = Text("-") if each.evidence is None else _word(each.evidence)
        table.add_row(_name(each.endpoint), _name(name), _word(each.state), str(each.trips), short(each.rtt), evidence)
    return table


def _well(endpoint: EndpointStatus) -> bool:
    return endpoint.state == "closed" and endpoint.evidence not in _FLAGGED


def _name(name: str, style: str = "") -> Text:
    """Where the terminal is narrow, names give way to figures."""
    return Text(name, style, no_wrap=True, overflow="ellipsis")


def _word(word: str, state: str | None = None) -> Text:
    return Text(word, _COLOURS.get(state or word, ""))
