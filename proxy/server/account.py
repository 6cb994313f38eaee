"""What an instance tells of itself, from what it has: to its admin endpoints and when it starts."""

import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields

from proxy.admin import ListenerStatus, ProviderReport, WorkerReport
from proxy.http1.line import Line
from proxy.policy.policy import Policy
from proxy.policy.settings import Endpoint, Listener
from proxy.server.door import Door
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.fleet import EndpointReport, FleetReport
from proxy.telemetry.metrics import Metrics


def worker_report(policy: Policy, line: Line, metrics: Metrics, log: AccessLog, now: float) -> WorkerReport:
    """How things stand in this process. now: the loop's time."""
    return WorkerReport(
        providers={name: ProviderReport(state.healthy(now), state.open) for name, state in line.fleet.states.items()},
        connections={each.name: metrics.connections(each.name).count for each in policy.listeners},
        log_problem=log.problem,
    )


def health(line: Line, now: float) -> list[tuple[str, str, bool]]:
    """Name, zone and whether it is healthy, of each provider. now: the loop's time."""
    states = line.fleet.states
    return [(name, state.definition.zone, state.healthy(now)) for name, state in states.items()]


def fleet_report(line: Line, now: float) -> FleetReport:
    """How each endpoint stands. now: the loop's time."""
    return FleetReport(
        EndpointReport(
            name,
            state.definition.zone,
            place(each.endpoint),
            "closed" if now >= each.down_until else "open",
        )
        for name, state in line.fleet.states.items()
        for each in (*state.endpoints, *state.passing)
    )


def listener_statuses(
    listeners: Iterable[Listener], addresses: Mapping[str, Sequence[str]], total: WorkerReport
) -> tuple[ListenerStatus, ...]:
    """What /status shows of the listeners of a policy."""
    return tuple(
        ListenerStatus(
            each.name, _protocol(each), tuple(addresses.get(each.name, ())), total.connections.get(each.name, 0)
        )
        for each in listeners
    )


def refusals(doors: Iterable[Door]) -> Iterator[tuple[str, str, int]]:
    """Listener, cause and count of the connections that never reached the data plane."""
    for door in doors:
        for cause in fields(door.counts):
            yield door.opening.listener.name, cause.name.replace("_", "-"), getattr(door.counts, cause.name)


def introduction(policy: Policy, addresses: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A line for each provider, then for each listener."""
    for provider in policy.providers:
        places = ", ".join(map(_endpoint_text, provider.endpoints))
        yield f"provider {provider.name}: {provider.operator} in {provider.zone}, {places}"
    for listener in policy.listeners:
        yield f"listener {listener.name}: {_protocol(listener)} on {', '.join(addresses[listener.name])}"


def version() -> str:
    try:
        return importlib.metadata.version("domicile")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _protocol(listener: Listener) -> str:
    return "https" if listener.certificates else listener.protocol


def place(endpoint: Endpoint) -> str:
    """What labels an endpoint: `host:port` as the policy file has it."""
    return f"[{endpoint.host}]:{endpoint.port}" if ":" in endpoint.host else f"{endpoint.host}:{endpoint.port}"


def _endpoint_text(endpoint: Endpoint) -> str:
    return f"{endpoint.scheme}://{place(endpoint)}"
