"""What the admin endpoints are told by the server, as values."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Crew:
    """Worker processes: how many live, and how many the policy wants."""

    living: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether this instance should be sent traffic.

    providers: each provider's state in a word (`healthy`, `down`), shown and never judged: one provider's outage
    must not take every instance out. workers: one that lives is enough.
    """

    policy_loaded: bool
    listeners_bound: bool
    draining: bool
    providers: Mapping[str, str]
    workers: Crew

    @property
    def ready(self) -> bool:
        return self.policy_loaded and self.listeners_bound and not self.draining and self.workers.living > 0


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """binds: where it is bound, ports as the kernel gave them. connections: clients now."""

    name: str
    protocol: str
    binds: tuple[str, ...]
    connections: int


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """state: a word, as in Readiness. connections: open to it, in use or idle."""

    name: str
    operator: str
    zone: str
    state: str
    connections: int


@dataclass(frozen=True, slots=True)
class Status:
    """What this instance is doing. uptime: seconds. digest: of the policy in force, None before the first.

    log_problem: why the access log cannot be written at present, None while it can.
    """

    version: str
    digest: str | None
    uptime: float
    draining: bool
    connections: int
    listeners: tuple[ListenerStatus, ...]
    providers: tuple[ProviderStatus, ...]
    log_dropped: int
    log_problem: str | None
    workers: Crew
