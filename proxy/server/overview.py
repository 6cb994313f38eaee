"""What the admin endpoints are told: the workers' counts and states together, beside the master's own."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from proxy.admin import Crew as Size
from proxy.admin import (
    Readiness,
    Status,
    WorkerReport,
    load_status,
    provider_statuses,
    provider_words,
    summed,
    whole,
    zone_statuses,
)
from proxy.policy.policy import Policy
from proxy.server.account import listener_statuses, version
from proxy.server.crew import Crew
from proxy.server.orders import Reported
from proxy.telemetry import families
from proxy.telemetry.histogram import BOUNDS
from proxy.telemetry.merged import Merged
from proxy.telemetry.metrics import Metrics

FRESH = 0.1
"""Seconds that a scrape waits for the workers' counts."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the program stands. addresses: where each listener really listens. log_problem: see Status."""

    policy: Policy
    addresses: Mapping[str, Sequence[str]]
    started: bool
    draining: bool
    log_problem: str | None


class Overview:
    """Takes what workers report, and answers for all. metrics: the master's own. standing(): how it stands now."""

    def __init__(self, metrics: Metrics, crew: Callable[[], Crew], standing: Callable[[], Standing]) -> None:
        self._metrics = metrics
        self._crew = crew
        self._standing = standing
        self._merged = Merged()
        self._reports: dict[int, WorkerReport] = {}
        self._began = time.monotonic()

    def heard(self, serial: int, said: Reported) -> None:
        """One worker's report."""
        self._reports[serial] = said.report
        self._merged.take(serial, said.snapshot)

    def gone(self, serial: int) -> None:
        """That worker's process has ended: what it counted stays, how it stood does not."""
        self._reports.pop(serial, None)
        self._merged.gone(serial)

    async def exposition(self, accept: str) -> tuple[str, Iterator[bytes]]:
        """For /metrics."""
        await self._crew().report(FRESH)
        process = await asyncio.to_thread(self._metrics.process)
        return self._merged.pieces(self._metrics.snapshot(), accept, process)

    def readiness(self) -> Readiness:
        """For /readyz."""
        standing = self._standing()
        return Readiness(
            policy_loaded=standing.started,
            listeners_bound=bool(standing.addresses),
            draining=standing.draining,
            providers=provider_words(standing.policy.providers, summed(self._reports.values())),
            workers=self._size(),
        )

    async def status(self) -> Status:
        """For /status."""
        await self._crew().report(FRESH)
        standing, total = self._standing(), summed(self._reports.values())
        policy, counted = standing.policy, self._merged.snapshot(self._metrics.snapshot())
        return Status(
            version=version(),
            digest=policy.digest,
            uptime=time.monotonic() - self._began,
            draining=standing.draining,
            connections=total.open_connections,
            listeners=listener_statuses(policy.listeners, standing.addresses, total),
            zones=zone_statuses(policy.zones, policy.providers, total),
            providers=provider_statuses(policy.providers, total, counted),
            load=load_status(counted),
            log_dropped=whole(counted, families.LOG_DROPPED),
            log_problem=standing.log_problem or total.log_problem,
            workers=self._size(),
            restarts=whole(counted, families.WORKER_RESTARTS),
            bounds=BOUNDS,
        )

    def _size(self) -> Size:
        crew = self._crew()
        return Size(crew.living, crew.size)
