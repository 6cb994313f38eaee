"""One way that a plan may take: a provider, the head it is sent, and where its traffic is counted."""

from dataclasses import dataclass

from proxy.policy.settings import Provider
from proxy.telemetry.cells import Cell, RequestCell, TimingCell


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """Made once for a plan and a provider; provider None is the way of what reaches none.

    start: the head but for the request id and the empty line. static: the record's part that every request
    on this leg shares.
    """

    provider: Provider | None
    start: bytes
    static: bytes
    requests: RequestCell
    timings: TimingCell
    answered: Cell
