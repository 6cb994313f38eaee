"""How many requests are let in at once, by what latency tells: what is above is shed, so that the admitted stay quick.

- Latency is what a request waits here: what others take is told apart, or a slow provider would shed the requests of
  the quick ones. What counts is the median of a window: a machine that stands still for a moment makes no queue that
  shedding would cure. `unloaded` is the one with nothing queued. A sample counts only if it began under the limit as it
  is now.
- `tolerance` is of the whole: what requests wait elsewhere, `elsewhere`, is added to both sides. It moves slowly, and
  only so much of it counts, so that no provider is slow enough to let a queue grow without bound here.
- Up to half-way to the tolerance the limit grows, where it was reached, and by doubling while what is waited is no more
  than one turn may take. Above, it shrinks by as much as latency is too high; a limit that was not reached comes down
  to what was under way. Few requests (`least`) make no queue: what they take is unloaded, whatever it was before, but
  where turning others away is what takes so long.
- Latency can also rise for reasons that no limit cures: larger answers, a busy machine. So beyond the tolerance the
  limit is halved for one window, as an experiment. If latency follows, the queue is ours, and the limit stays. If not,
  it comes back, and `unloaded` is what was seen, but at most twice the tolerance at a time: a window may be odd. Where
  half the limit was not reached, something else held them back, and nothing was learnt.
- `unloaded` can have been measured under load, at a start into a storm. So while it sheds, the same experiment is made
  every PROBE seconds, unless what is waited is next to nothing.
- A storm can begin within a window: `patience` is how long one may have waited here already and still be let in.
- Who is parked, because it waits for others for long, does not count against the limit, only against `most`.

It starts without a limit but `most`. Sans I/O; `now` is monotonic seconds.
"""

from math import inf, sqrt
from typing import Final

from proxy.policy.balance import Concurrency

WINDOW: Final = 0.1
"""Seconds that a window lasts at least."""

SAMPLES: Final = 64
"""Requests that a window has at least."""

TURNS: Final = 5
"""Times that a window is told of at least."""

SETTLES: Final = 0.2
"""Seconds after an experiment begins for which nothing is seen of it, at most."""

PROBE: Final = 5.0
"""Seconds of shedding after which it is tried whether fewer at once are quicker."""

FOLLOWS: Final = 0.75
"""Halved concurrency is the cure if latency falls below this part of what it was."""

LEAST_ELSEWHERE: Final = 0.001
"""Seconds: what is waited here is no overload before anybody notices it."""

PATIENCE: Final = 0.05
"""Seconds that one may have waited here at least."""

MOST_PATIENCE: Final = 0.2
"""Seconds that one may have waited here at most, however slow all others are: what is unloaded may not be known yet."""

MOST_ELSEWHERE: Final = 0.1
"""Seconds of what is waited elsewhere that count at most."""

_AIM: Final = 0.5
_TURN: Final = 0.3
"""Parts of the way to the tolerance that the limit aims at, and that a turn may take in a storm: the slowest of a
hundred wait for twice what most do."""

_SMOOTHING: Final = 0.25
_SLOWLY: Final = 0.05


class ConcurrencyLimit:
    """limit: how many may be worked on. under_way: those let in and not ended. shed: those refused so far.

    working: those under way and not parked. unloaded, elsewhere: seconds; None before the first window, 0.0 before
    anybody told. patience: seconds. turn: seconds that a turn may take in a storm, of which each waits two; inf before
    the first window. There is one `end` for each `begin` that said yes.
    """

    __slots__ = (
        "_away",
        "_before",
        "_count",
        "_fast",
        "_limit",
        "_peak",
        "_probe_at",
        "_rules",
        "_shed_before",
        "_since",
        "_waits",
        "elsewhere",
        "limit",
        "patience",
        "shed",
        "turn",
        "under_way",
        "unloaded",
        "working",
    )

    def __init__(self, rules: Concurrency, now: float) -> None:
        self._rules = rules
        self._limit = float(rules.most)
        self.limit = rules.most
        self.under_way = 0
        self.working = 0
        self.shed = 0
        self.elsewhere = 0.0
        self.patience = PATIENCE if rules.adaptive else inf
        self.unloaded: float | None = None
        self.turn = inf
        self._before: tuple[float, float] | None = None  # limit and latency before the experiment under way
        self._probe_at = now + PROBE
        self._fast = False  # the limit is known to be far too low
        self._shed_before = 0
        self._peak = 0
        self._open_window(now)

    def renew(self, rules: Concurrency) -> None:
        """Go by other rules from now on. What was learnt stays; a limit that was never lowered is the new `most`."""
        old, self._rules = self._rules, rules
        free = not rules.adaptive or self._limit >= old.most
        self._before = None
        self.patience = PATIENCE if rules.adaptive else inf
        self._set(float(rules.most) if free else self._limit)

    @property
    def free(self) -> bool:
        """Whether it was never lowered, or has come back."""
        return self._limit >= self._rules.most

    def begin(self, late: bool = False) -> bool:
        """Whether one more is let in. late: it has waited here for too long already."""
        if late or self.working >= self.limit or self.under_way >= self._rules.most:
            self.shed += 1
            return False
        self.under_way += 1
        self.working += 1
        if self.working > self._peak:
            self._peak = self.working
        return True

    def park(self) -> None:
        """One that was let in waits for others for long: until its `end`, which has to say so, it counts no more."""
        self.working -= 1

    def end(self, elsewhere: float | None = None, *, parked: bool = False) -> None:
        """One that was let in is over. elsewhere: the seconds for which it waited for others; None: not known."""
        self.under_way -= 1
        if not parked:
            self.working -= 1
        if elsewhere is not None:
            self._away.append(elsewhere)

    def observe(self, latency: float, began: float, now: float, count: int = 1) -> None:
        """So many that were let in waited so many seconds here, from `began` on."""
        if began < self._since:
            return
        self._waits.append(latency)
        self._count += count
        if self._count >= SAMPLES and now - self._since >= WINDOW and len(self._waits) >= TURNS:
            if self._rules.adaptive:
                self._judge(_median(self._waits), now)
            else:
                self._open_window(now)

    def _judge(self, latency: float, now: float) -> None:
        """A window is over: what its latency says of the limit."""
        rules, unloaded = self._rules, self.unloaded
        if self._away and (unloaded is None or latency <= self._times(unloaded, rules.tolerance)):
            away = min(max(_median(self._away) - latency, LEAST_ELSEWHERE), MOST_ELSEWHERE)
            self.elsewhere = away if unloaded is None else self.elsewhere + _SLOWLY * (away - self.elsewhere)
        reached = self._peak >= self.limit
        quick = latency <= self.turn
        if unloaded is None:
            self.unloaded = latency
        elif self._before is not None:
            self._conclude(*self._before, latency, now, reached)
        elif min(self._peak, self.limit) <= rules.least:
            if latency < unloaded or self.shed == self._shed_before:
                self.unloaded = _towards(unloaded, latency)
            self._grow(reached, quick)
        elif reached and (latency > self._times(unloaded, rules.tolerance) or (self._probe_due(now) and not quick)):
            self._before = (self._limit, latency)
            self._set(self._limit / 2)
            # Who was let in before makes others wait until it is over.
            self._open_window(now, now + min(latency + self.elsewhere, SETTLES))
            return
        else:
            if latency < unloaded:
                self.unloaded = unloaded = _towards(unloaded, latency)
            aim = self._times(unloaded, 1.0 + (rules.tolerance - 1.0) * _AIM)
            if latency <= aim:
                self._grow(reached, quick)
            elif reached:
                self._fast = False
                self._set(self._limit * self._part(aim, latency))
            elif latency > self._times(unloaded, rules.tolerance):
                self._set(min(self._limit, self._peak * self._part(aim, latency)))
        tolerated = self._times(self.unloaded or 0.0, rules.tolerance)
        self.turn = self._times(self.unloaded or 0.0, 1.0 + (rules.tolerance - 1.0) * _TURN) / 2
        self.patience = min(max(tolerated, PATIENCE), MOST_PATIENCE)
        self._open_window(now)

    def _conclude(self, limit: float, before: float, latency: float, now: float, reached: bool) -> None:
        """The experiment's window is over: the limit and the latency were these before it."""
        assert self.unloaded is not None
        self._before = None
        self._probe_at = now + PROBE
        if latency > before * FOLLOWS:
            self._fast = before > self._times(self.unloaded, self._rules.tolerance)
            if reached:
                self.unloaded = min(latency, self._times(self.unloaded, 2 * self._rules.tolerance))
            self._set(limit)
        else:
            self.unloaded = min(self.unloaded, latency)
            self._probe_at = now  # What helped once is tried once more.

    def _part(self, aim: float, latency: float) -> float:
        """What part of those under way would wait for `aim` here, when all of them wait for so long."""
        return (aim + self.elsewhere) / (latency + self.elsewhere)

    def _times(self, unloaded: float, factor: float) -> float:
        """What is waited here when the whole, elsewhere too, takes `factor` times as long as unloaded."""
        return (unloaded + self.elsewhere) * factor - self.elsewhere

    def _probe_due(self, now: float) -> bool:
        if self.shed == self._shed_before:
            self._probe_at = max(self._probe_at, now + PROBE)
            return False
        return now >= self._probe_at

    def _grow(self, reached: bool, quick: bool) -> None:
        if reached:
            self._set(self._limit * 2 if self._fast or quick else self._limit + sqrt(self._limit))

    def _set(self, limit: float) -> None:
        self._limit = min(max(limit, float(self._rules.least)), float(self._rules.most))
        self.limit = int(self._limit)

    def _open_window(self, now: float, since: float | None = None) -> None:
        self._since = now if since is None else since
        self._waits: list[float] = []
        self._count = 0
        self._away: list[float] = []
        self._peak = self.working
        self._shed_before = self.shed


def _median(seen: list[float]) -> float:
    seen.sort()
    return seen[len(seen) // 2]


def _towards(before: float, latency: float) -> float:
    return before + _SMOOTHING * (latency - before)
