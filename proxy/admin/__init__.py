"""Floor 2: health, metrics and status endpoints."""

from proxy.admin.endpoints import AdminServer
from proxy.admin.values import ListenerStatus, ProviderStatus, Readiness, Status

__all__ = ["AdminServer", "ListenerStatus", "ProviderStatus", "Readiness", "Status"]
