"""What a worker tells the master each second beside its counts, and how several workers stand together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.policy.settings import Provider


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """One provider, as one worker sees it. connections: open to it, in use or idle."""

    healthy: bool
    connections: int


_UNSEEN = ProviderReport(healthy=False, connections=0)


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """One worker's state now, or several workers' together. Made of plain dicts, for it is pickled.

    providers: of the policy in force, by name. connections: clients now, by listener. log_problem: why log lines
    cannot leave the worker at present, None while they can.
    """

    providers: Mapping[str, ProviderReport]
    connections: Mapping[str, int]
    log_problem: str | None = None

    @property
    def open_connections(self) -> int:
        return sum(self.connections.values())


def summed(reports: Iterable[WorkerReport]) -> WorkerReport:
    """All workers' together: a provider is healthy if any worker can use it, connections add up."""
    providers: dict[str, ProviderReport] = {}
    connections: dict[str, int] = {}
    problem = None
    for report in reports:
        for name, each in report.providers.items():
            before = providers.get(name, _UNSEEN)
            providers[name] = ProviderReport(before.healthy or each.healthy, before.connections + each.connections)
        for name, count in report.connections.items():
            connections[name] = connections.get(name, 0) + count
        problem = problem or report.log_problem
    return WorkerReport(providers, connections, problem)


def provider_words(providers: Iterable[Provider], total: WorkerReport) -> dict[str, str]:
    """Each provider's state in a word; `down` for one that no worker reports."""
    return {each.name: provider_word(provider_report(each, total)) for each in providers}


def provider_report(provider: Provider, total: WorkerReport) -> ProviderReport:
    """How one stands."""
    return total.providers.get(provider.name, _UNSEEN)


def provider_word(report: ProviderReport) -> str:
    """Its state, for operators."""
    return "healthy" if report.healthy else "down"
