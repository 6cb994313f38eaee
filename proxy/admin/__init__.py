"""Floor 2: health, metrics and status endpoints."""

from proxy.admin.endpoints import AdminServer, Exposition
from proxy.admin.reports import ProviderReport, WorkerReport, provider_words, summed
from proxy.admin.totals import load_status, provider_statuses, whole, zone_statuses
from proxy.admin.values import (
    Crew,
    Durations,
    EndpointStatus,
    ListenerStatus,
    LoadStatus,
    ProviderStatus,
    Readiness,
    Status,
    ZoneStatus,
)

__all__ = [
    "AdminServer",
    "Crew",
    "Durations",
    "EndpointStatus",
    "Exposition",
    "ListenerStatus",
    "LoadStatus",
    "ProviderReport",
    "ProviderStatus",
    "Readiness",
    "Status",
    "WorkerReport",
    "ZoneStatus",
    "load_status",
    "provider_statuses",
    "provider_words",
    "summed",
    "whole",
    "zone_statuses",
]
