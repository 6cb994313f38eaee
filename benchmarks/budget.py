"""What a request and a decision may cost: the bars of the design, as values."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Bar:
    """Domicile's processor time at some work is at most this many times another proxy's."""

    work: str
    proxy: str
    at_most: float


BARS = (
    Bar("12 B", "nginx", 2.0),
    Bar("12 B", "Envoy", 0.6),
    Bar("64 KiB", "nginx", 1.0),
    Bar("12 B, TLS both sides", "nginx", 2.3),
    Bar("passed, 12 B", "HAProxy", 1.6),
    Bar("passed, 12 B, new connections", "HAProxy", 2.5),
    Bar("passed, 1 MiB", "HAProxy", 2.0),
    Bar("passed, 1 MiB, new connections", "HAProxy", 2.0),
    Bar("passed, 100 MiB", "HAProxy", 2.0),
)

DECISION_RULES = 1000
DECISION_REPEATED = 2e-6
DECISION_NEVER_SEEN = 20e-6
"""Seconds that one decision under that many rules may take, for facts decided before and for new ones."""

CHOOSING = 2e-6
"""Seconds that a request's share of health, choice and retry budget may take."""

CHOOSING_ENDPOINTS = (1, 4, 32)
"""For a provider of so many endpoints."""

OVERLOAD = 2.0
"""Times the unloaded 99th percentile that the admitted may take when three times as much comes as can be done."""

Verdict = Literal["holds", "falls short", "not measured"]


def verdict(measured: float | None, at_most: float) -> Verdict:
    """How a figure stands to its bar, in words for a table."""
    if measured is None:
        return "not measured"
    return "holds" if measured <= at_most else "falls short"
