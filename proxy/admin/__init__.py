"""Floor 2: health, metrics and status endpoints."""

from proxy.admin.endpoints import AdminServer, Exposition
from proxy.admin.reports import ProviderReport, WorkerReport, provider_statuses, provider_words, summed
from proxy.admin.values import Crew, ListenerStatus, ProviderStatus, Readiness, Status

__all__ = [
    "AdminServer",
    "Crew",
    "Exposition",
    "ListenerStatus",
    "ProviderReport",
    "ProviderStatus",
    "Readiness",
    "Status",
    "WorkerReport",
    "provider_statuses",
    "provider_words",
    "summed",
]
