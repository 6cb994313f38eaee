"""What /status shows of zones, providers and load: what all workers have counted together, and how they stand."""

from collections.abc import Iterable

from proxy.admin.reports import WorkerReport, provider_report, provider_word
from proxy.admin.values import Durations, EndpointStatus, LoadStatus, ProviderStatus, ZoneStatus
from proxy.policy.settings import Provider, Zone
from proxy.telemetry import families
from proxy.telemetry.families import Layout
from proxy.telemetry.histogram import BOUNDS, quantile
from proxy.telemetry.snapshot import Row, Snapshot
from proxy.telemetry.words import REASONS, STATES, STATUS_CLASSES, VERDICTS

_FAILED = STATUS_CLASSES.index("5xx")
_NONE = (0.0,) * (len(BOUNDS) + 2)


def zone_statuses(zones: Iterable[Zone], providers: Iterable[Provider], total: WorkerReport) -> tuple[ZoneStatus, ...]:
    """What /status shows of the zones of a policy."""
    known = tuple(providers)
    return tuple(_zone(zone.name, [each for each in known if each.zone == zone.name], total) for zone in zones)


def provider_statuses(
    providers: Iterable[Provider], total: WorkerReport, counted: Snapshot
) -> tuple[ProviderStatus, ...]:
    """What it shows of the providers of a policy."""
    return tuple(_provider(each, total, counted) for each in providers)


def load_status(counted: Snapshot) -> LoadStatus:
    """What it shows of the instance as a whole."""
    denials = _sums(counted.table(families.DENIALS.name).values(), len(REASONS))
    return LoadStatus(
        requests=whole(counted, families.REQUESTS),
        denials={reason: int(number) for reason, number in zip(REASONS, denials, strict=True)},
        shed=whole(counted, families.SHED),
        rate_limited=whole(counted, families.RATE_LIMITED),
        under_way=whole(counted, families.UNDER_WAY),
        limit=whole(counted, families.CONCURRENCY_LIMIT),
        loop_lag=_durations(counted.table(families.LOOP_LAG.name).get((), _NONE)),
    )


def whole(counted: Snapshot, layout: Layout) -> int:
    """All of one family, whatever its labels."""
    return int(sum(map(sum, counted.table(layout.name).values())))


def _zone(name: str, providers: list[Provider], total: WorkerReport) -> ZoneStatus:
    healthy = any(provider_report(each, total).healthy for each in providers)
    state = "healthy" if healthy else "down" if providers else "empty"
    return ZoneStatus(name, state, tuple(each.name for each in providers))


def _provider(provider: Provider, total: WorkerReport, counted: Snapshot) -> ProviderStatus:
    name, zone = place = provider.name, provider.zone
    report = provider_report(provider, total)

    def everywhere(layout: Layout, width: int) -> Row:
        """The sum over all listeners."""
        rows = counted.table(layout.name).items()
        return _sums((row for labels, row in rows if labels[1:] == place), width)

    status = everywhere(families.REQUESTS, len(STATUS_CLASSES))
    to_provider, to_client = everywhere(families.BYTES, 2)
    return ProviderStatus(
        name=name,
        operator=provider.operator,
        zone=zone,
        state=provider_word(report),
        connections=report.connections,
        waiting=int(counted.table(families.QUEUE_WAITING.name).get(place, (0,))[0]),
        requests=int(sum(status)),
        failed=int(status[_FAILED]),
        passed=int(sum(sum(row) for labels, row in counted.table(families.PASSED.name).items() if labels[1:] == place)),
        retries=int(counted.table(families.RETRIES.name).get(place, (0,))[0]),
        to_provider=int(to_provider),
        to_client=int(to_client),
        first_byte=_durations(counted.table(families.FIRST_BYTE.name).get(place, _NONE)),
        endpoints=tuple(
            _endpoint(
                labels[2],
                int(state),
                counted.table(families.BREAKER_TRIPS.name).get(labels),
                counted.table(families.EVIDENCE.name).get(labels),
                counted.table(families.CHECK_RTT.name).get(labels),
            )
            for labels, (state,) in counted.table(families.ENDPOINT_STATE.name).items()
            if labels[:2] == place
        ),
    )


def _endpoint(endpoint: str, state: int, trips: Row | None, verdict: Row | None, rtt: Row | None) -> EndpointStatus:
    return EndpointStatus(
        endpoint=endpoint,
        state=STATES[state],
        trips=0 if trips is None else int(trips[0]),
        evidence=None if verdict is None else VERDICTS[int(verdict[0])],
        rtt=None if rtt is None else rtt[0],
    )


def _durations(row: Row) -> Durations:
    counts = tuple(map(int, row[:-1]))
    return Durations(quantile(0.5, counts), quantile(0.99, counts), counts)


def _sums(rows: Iterable[Row], width: int) -> Row:
    totals = [0.0] * width
    for row in rows:
        totals = [total + number for total, number in zip(totals, row, strict=True)]
    return tuple(totals)
