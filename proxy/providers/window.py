"""What became of an endpoint's requests lately, in constant memory, and whether that shows that it is sick.

- Time is cut into slices, a tenth of the window each. The window is the slice at hand and the nine before it.
- Latencies are counted in bins, each a quarter wider than the one before, from a tenth of a millisecond to a minute: a
  median is right to an eighth. A median and no mean: one report that takes a minute does not make a provider slow.
- Who is asked most often is quickest: a success is two additions.

Not pure, for it counts in place: every request passes here. The time is given to it.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import inf, sqrt
from typing import Final, Literal

from proxy.policy.health import Passive

Failure = Literal["connect", "error", "timeout", "truncation"]
"""Not reached; answered with a 5xx; too slow; cut off under way."""

Sick = Literal["failures-in-a-row", "failure-share"]
"""What failures show. That it is slow is shown by others only: see `slow`."""

FAILURES: Final[tuple[Failure, ...]] = ("connect", "error", "timeout", "truncation")

SLICES: Final = 10

EDGES: Final = tuple(1e-4 * 1.25**n for n in range(61))
"""Where one bin of latencies ends and the next begins, in seconds."""

SLOWER_BY: Final = 0.05
"""Nobody is slow by less than this, in seconds, however many times faster the others are."""

# Places in a slice: successes, failures, the failures by kind, the successes by latency.
_SUCCESSES, _FAILURES = 0, 1
_KINDS: Final = {failure: place for place, failure in enumerate(FAILURES, 2)}
_BINS: Final = 2 + len(FAILURES)
_WIDTH: Final = _BINS + len(EDGES) + 1

# What each bin stands for: its geometric middle, and at either end the only edge that it has.
_MIDDLES: Final = (
    EDGES[0],
    *(sqrt(low * high) for low, high in pairwise(EDGES)),
    EDGES[-1],
)

# These two say what is wrong with the request.
_ASKED_FOR: Final = frozenset({501, 505})


class Window:
    """in_a_row: failures of the connection since the last answer, however long ago they were; no repeats."""

    __slots__ = ("_ends", "_number", "_passive", "_past", "_present", "_ring", "_slice", "in_a_row")

    in_a_row: int
    _number: int  # of the slice at hand, counted from the clock's zero
    _ends: float  # when that is over
    _present: list[int]
    _past: list[int]  # the sum of the ring's other slices
    _ring: list[list[int]]

    def __init__(self, passive: Passive) -> None:
        self._passive = passive
        self._slice = passive.window / SLICES
        self.clear()

    def clear(self) -> None:
        """Forget everything, as when a breaker opens: what comes back is judged by what it does then."""
        self.in_a_row = 0
        self._ends = -inf
        self._begin(0)

    def succeeded(self, latency: float, now: float) -> None:
        """One request was answered whole; latency: the seconds until its first byte came."""
        if now >= self._ends:
            self._turn(now)
        present = self._present
        present[_SUCCESSES] += 1
        present[bisect_right(EDGES, latency) + _BINS] += 1
        self.in_a_row = 0

    def failed(self, failure: Failure, now: float, *, again: bool = False) -> Sick | None:
        """One request failed; what that, after all the others, shows of the endpoint. again: elsewhere, too."""
        if now >= self._ends:
            self._turn(now)
        present, passive = self._present, self._passive
        present[_FAILURES] += 1
        present[_KINDS[failure]] += 1
        # A 5xx is an answer, if a bad one, and clients can ask for what is answered so.
        if failure == "error":
            self.in_a_row = 0
        elif not again:
            self.in_a_row += 1
        if passive.consecutive is not None and self.in_a_row >= passive.consecutive:
            return "failures-in-a-row"
        failures = self._past[_FAILURES] + present[_FAILURES]
        samples = self._past[_SUCCESSES] + present[_SUCCESSES] + failures
        if passive.share is not None and samples >= passive.samples and failures >= passive.share * samples:
            return "failure-share"
        return None

    def counts(self, now: float) -> dict[Failure | Literal["success"], int]:
        """How many requests of the window came to what."""
        totals = self._totals(now)
        return {"success": totals[_SUCCESSES], **{failure: totals[place] for failure, place in _KINDS.items()}}

    def median(self, now: float) -> float | None:
        """The median latency of the window's successes (the lower of two); None while they are too few."""
        totals = self._totals(now)
        successes = totals[_SUCCESSES]
        if successes < max(self._passive.samples, 1):
            return None
        before = (successes - 1) // 2
        place = _BINS
        while totals[place] <= before:
            before -= totals[place]
            place += 1
        return _MIDDLES[place - _BINS]

    def _totals(self, now: float) -> list[int]:
        if now >= self._ends:
            self._turn(now)
        return [past + present for past, present in zip(self._past, self._present, strict=True)]

    def _turn(self, now: float) -> None:
        """Go on to the slice that holds this moment, leaving out those that are too old by then."""
        number = int(now // self._slice)
        if number - self._number >= SLICES:
            self._begin(number)
        else:
            for place in (passing % SLICES for passing in range(self._number + 1, number + 1)):
                columns = zip(self._past, self._present, self._ring[place], strict=True)
                self._past = [past + present - oldest for past, present, oldest in columns]
                self._present = self._ring[place] = [0] * _WIDTH
        self._number = number
        self._ends = (number + 1) * self._slice

    def _begin(self, number: int) -> None:
        """All slices are empty, and this one is at hand."""
        self._number = number
        self._past = [0] * _WIDTH
        self._present = [0] * _WIDTH
        self._ring = [self._past] * SLICES
        self._ring[number % SLICES] = self._present


def failure_of(status: int) -> Failure | None:
    """What an answer of this status says of its provider; None is nothing bad."""
    return "error" if status >= 500 and status not in _ASKED_FOR else None


def slow(median: float, others: Sequence[float], factor: float) -> bool:
    """Whether an endpoint is slow beside the medians of the other providers of its zone.

    The fastest of all never is, so there is always one left.
    """
    if not others:
        return False
    typical = _middle(sorted(others))
    return median > typical * max(factor, 1.0) and median - typical >= SLOWER_BY


def _middle(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
