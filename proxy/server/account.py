"""What an instance tells of itself, from what it has: to its admin endpoints and when it starts."""

import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from proxy.admin import ListenerStatus, ProviderReport, WorkerReport
from proxy.http1.line import Line
from proxy.policy.policy import Policy
from proxy.policy.settings import Listener
from proxy.providers.endpoint import EndpointState
from proxy.server.door import Door
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.fleet import EndpointReport, FleetReport
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.words import Verdict


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
    """How each endpoint stands, and who waits. now: the loop's time."""
    states = line.fleet.states.items()
    return FleetReport(
        [_endpoint_report(name, each, now) for name, state in states for each in (*state.endpoints, *state.passing)],
        [(name, state.definition.zone, len(state.waiting)) for name, state in states if state.waiting is not None],
    )


def _endpoint_report(name: str, each: EndpointState[Any], now: float) -> EndpointReport:
    judgement, rtt = each.checked.judgement, each.checked.seen.rtt
    verdict: Verdict | None = None if judgement is None else judgement.verdict
    if judgement is None and each.state.definition.health is not None:
        verdict = "unknown"
    return EndpointReport(name, each.state.definition.zone, each.label, each.health.word(now), verdict, rtt)


def seen_certificates(line: Line) -> dict[str, float]:
    """When the certificates end that providers showed, by provider and endpoint."""
    return {
        f"{name} {each.label}": each.certificate_expires
        for name, state in line.fleet.states.items()
        for each in (*state.endpoints, *state.passing)
        if each.certificate_expires is not None
    }


def settle(line: Line, metrics: Metrics) -> None:
    """Count what has happened to providers since this was called last. Called on the loop.

    Hedges, which are counted where they begin, show at zero from here on.
    """
    for name, state in line.fleet.states.items():
        zone = state.definition.zone
        metrics.hedges(name, zone)
        for each in (*state.endpoints, *state.passing):
            health, checked = each.health, each.checked
            metrics.breaker_trips(name, zone, each.label).count += health.trips
            health.trips = 0
            if state.definition.health is not None:
                metrics.checks(name, zone, each.label, "good").count += checked.good
                metrics.checks(name, zone, each.label, "bad").count += checked.bad
                checked.good = checked.bad = 0
            for result, times in each.admission.answers.items():
                metrics.name_answers(name, zone, result).count += times
                each.admission.answers[result] = 0
        if state.waiting is not None:
            for outcome, times in state.waiting.ended.items():
                metrics.queue_ended(name, zone, outcome).count += times
                state.waiting.ended[outcome] = 0


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
        places = ", ".join(map(str, provider.endpoints))
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
