"""How providers stand now, as whoever keeps their state tells it at each snapshot, as tables.

Labels are names of the policy file; an endpoint's is `host:port` as it stands there.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.telemetry import families
from proxy.telemetry.snapshot import Table
from proxy.telemetry.words import STATES, VERDICTS, State, Verdict


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """One endpoint. verdict: None where nothing looks for evidence. rtt: the shortest round trip to it, in seconds."""

    provider: str
    zone: str
    endpoint: str
    state: State
    verdict: Verdict | None = None
    rtt: float | None = None


@dataclass(frozen=True, slots=True)
class FleetReport:
    """endpoints: all of the policy in force. queues: provider, zone, and how many wait for it now."""

    endpoints: Iterable[EndpointReport] = ()
    queues: Iterable[tuple[str, str, int]] = ()


def fleet_tables(report: FleetReport) -> dict[str, Table]:
    """All tables of the fleet, by their families."""
    endpoints = [((each.provider, each.zone, each.endpoint), each) for each in report.endpoints]
    return {
        families.ENDPOINT_STATE.name: {labels: (STATES.index(each.state),) for labels, each in endpoints},
        families.EVIDENCE.name: {
            labels: (VERDICTS.index(each.verdict),) for labels, each in endpoints if each.verdict is not None
        },
        families.CHECK_RTT.name: {labels: (each.rtt,) for labels, each in endpoints if each.rtt is not None},
        families.QUEUE_WAITING.name: {(provider, zone): (waiting,) for provider, zone, waiting in report.queues},
    }
