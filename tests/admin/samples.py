"""An instance's status, with something in every field."""

from proxy.admin import (
    Crew,
    Durations,
    EndpointStatus,
    ListenerStatus,
    LoadStatus,
    ProviderStatus,
    Status,
    ZoneStatus,
)
from proxy.telemetry.histogram import BOUNDS, quantile


def durations(**counts: int) -> Durations:
    """`ms_5=3`: three in the bucket that ends with 5 milliseconds."""
    row = [0] * (len(BOUNDS) + 1)
    for bound, count in counts.items():
        row[BOUNDS.index(int(bound.removeprefix("ms_")) / 1000)] = count
    return Durations(quantile(0.5, row), quantile(0.99, row), tuple(row))


CHINA = ProviderStatus(
    name="china-telecom",
    operator="China Telecom",
    zone="cn-mainland",
    state="healthy",
    connections=2,
    waiting=1,
    requests=200,
    failed=10,
    passed=0,
    retries=1,
    to_provider=1_000_000,
    to_client=5_000_000,
    first_byte=durations(ms_5=150, ms_50=50),
    endpoints=(
        EndpointStatus("ct.example:443", "closed", 0, "ok", 0.031),
        EndpointStatus("ct2.example:443", "half-open", 3, "country-mismatch", 0.002),
    ),
)
OWN = ProviderStatus(
    name="own-eu",
    operator="Example Inc",
    zone="eu",
    state="down",
    connections=0,
    waiting=0,
    requests=0,
    failed=0,
    passed=7,
    retries=0,
    to_provider=0,
    to_client=0,
    first_byte=durations(),
    endpoints=(EndpointStatus("eu.example:443", "open", 1, None, None),),
)
STATUS = Status(
    version="0.1.0",
    digest="sha256:00",
    uptime=12.5,
    draining=False,
    connections=3,
    listeners=(ListenerStatus("edge", "http", ("0.0.0.0:8443",), 3),),
    zones=(
        ZoneStatus("cn-mainland", "healthy", ("china-telecom",)),
        ZoneStatus("eu", "down", ("own-eu",)),
        ZoneStatus("elsewhere", "empty", ()),
    ),
    providers=(CHINA, OWN),
    load=LoadStatus(
        requests=240,
        denials={"no-zone": 0, "home-unknown": 30, "no-rule": 10},
        shed=4,
        rate_limited=2,
        under_way=5,
        limit=64,
        loop_lag=durations(ms_1=40),
    ),
    log_dropped=0,
    log_problem=None,
    workers=Crew(2, 4),
    restarts=1,
    bounds=BOUNDS,
)
