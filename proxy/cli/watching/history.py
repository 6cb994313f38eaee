"""What happened between answers of /status: rates, and quantiles of what came meanwhile.

Answers hold totals since the start of the program. Where they fall, another program answers, and history begins anew.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from proxy.admin import Durations, ProviderStatus, Status
from proxy.telemetry.histogram import quantile

KEPT = 21
"""Answers that are remembered: what is shown is of the twenty intervals between them."""

Find = Callable[[Status], float]
"""Takes one total from an answer."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Seconds; None where nothing came."""

    p50: float | None
    p99: float | None


class History:
    """The last answers, oldest first, by the seconds that the program had run by then."""

    def __init__(self) -> None:
        self._answers: deque[Status] = deque(maxlen=KEPT)

    def add(self, status: Status) -> None:
        if self._answers and (status.uptime <= self.last.uptime or status.load.requests < self.last.load.requests):
            self._answers.clear()
        self._answers.append(status)

    @property
    def last(self) -> Status:
        """The newest answer. There has to be one."""
        return self._answers[-1]

    @property
    def seconds(self) -> float | None:
        """How long the time is that figures are of; None where it is all the time since the start."""
        return self.last.uptime - self._answers[0].uptime if len(self._answers) > 1 else None

    def rate(self, total: Find) -> float:
        """How much one total rose in a second."""
        if self.seconds is None:
            return total(self.last) / max(self.last.uptime, 1e-3)
        return max(0.0, total(self.last) - total(self._answers[0])) / self.seconds

    def provider_rate(self, provider: str, total: Callable[[ProviderStatus], float]) -> float:
        """The same for a total of one provider."""
        return self.rate(lambda status: _of(status, provider, total, 0.0))

    def first_byte(self, provider: str) -> Quantiles:
        """How long the provider took to answer."""
        return self._quantiles(lambda status: _counts(status, provider))

    def loop_lag(self) -> Quantiles:
        """How late the event loops were."""
        return self._quantiles(lambda status: status.load.loop_lag.counts)

    def medians(self, provider: str) -> list[float | None]:
        """The median time to the first byte in each interval, oldest first."""
        counts = (_counts(status, provider) for status in self._answers)
        return [quantile(0.5, _less(after, before), self.last.bounds) for before, after in pairwise(counts)]

    def _quantiles(self, counts: Callable[[Status], Sequence[int]]) -> Quantiles:
        newest = counts(self.last)
        came = newest if self.seconds is None else _less(newest, counts(self._answers[0]))
        return Quantiles(quantile(0.5, came, self.last.bounds), quantile(0.99, came, self.last.bounds))


def _of(status: Status, provider: str, total: Callable[[ProviderStatus], float], absent: float) -> float:
    return next((total(each) for each in status.providers if each.name == provider), absent)


def _counts(status: Status, provider: str) -> Sequence[int]:
    found: Durations | None = next((each.first_byte for each in status.providers if each.name == provider), None)
    return () if found is None else found.counts


def _less(after: Sequence[int], before: Sequence[int]) -> list[int]:
    # What was not there yet had counted nothing.
    return [now - then for now, then in zip(after, before or [0] * len(after), strict=False)]
