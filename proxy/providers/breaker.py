"""A breaker: whether, and how much, an endpoint may be sent. Pure: a state and an event make the next state.

    closed ---- tripped, checks say down ----> open ---- its time is over ----> half-open
      ^                                        ^  ^                               |   |
      |                                        |  +-- one fails, or most end ill -+   |
      +---- its time is over ---- slow-start --+                                      |
                                      ^         `trials` trials have ended, most well |
                                      +-----------------------------------------------+

- While open it gets nothing, whatever the others' states are: there is no threshold from which all are tried again.
- Open ends by time alone, within `longest`. Each trip doubles it; staying closed for `longest` forgets the trips.
- Half-open gives out `trials` trials, and as many anew each `open` seconds: an outcome that never comes blocks nothing.
  One of which nothing is learnt is given out again at once.
- A trial that was answered with an error has ended ill, and no more: who knows a path that is answered so could keep a
  provider out for good. When `trials` of them have ended, the majority decides, and a draw is for the endpoint. One
  that was not reached, was too slow or was cut off opens it at once.
- The outcome of a request that began before counts for nothing: those that a dead provider left behind come late.
- While active checks say that it is down, they are the trials, and no request is. When they say that it is up again, it
  starts slowly, open or not: their own threshold has been the trial. Checks that never saw it down end no open state,
  for it failed in what they do not see; in half-open each is a trial.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from proxy.policy.health import Breaker

Kind = Literal["closed", "open", "half-open", "slow-start"]

LEAST_SHARE = 0.1
"""The share of traffic that a slow start begins with."""


@dataclass(frozen=True, slots=True)
class BreakerState:
    """Events return the state that follows; `now` is monotonic, `began` is when the request was sent.

    since: when it came to be in this kind. until: when it changes by itself; inf is never.
    counts_from: when it last opened; outcomes of requests that began earlier are passed over. trips: how often it
    opened without having been well in between. tried, passed, ill: trials given out, succeeded, and answered with an
    error. down: the checks say so.
    """

    breaker: Breaker
    kind: Kind = "closed"
    since: float = -inf
    until: float = inf
    counts_from: float = -inf
    trips: int = 0
    tried: int = 0
    passed: int = 0
    ill: int = 0
    down: bool = False

    # What it lets through

    def share(self, now: float) -> float:
        """The share of its usual traffic that it may take now, trials apart: 0 is none, 1 is all."""
        if self.kind == "closed":
            return 1.0
        if self.kind != "slow-start":
            return 0.0
        if now >= self.until:
            return 1.0
        grown = (now - self.since) / (self.until - self.since)
        return LEAST_SHARE + (1.0 - LEAST_SHARE) * max(grown, 0.0)

    def trial(self, now: float) -> bool:
        """Whether one request may try it now; `trying` says that one does."""
        if self.kind == "closed":
            return False
        state = self.at(now)
        return state.kind == "half-open" and not state.down and state.tried < self.breaker.trials

    # What time alone does

    def at(self, now: float) -> "BreakerState":
        """What it is by now if nothing else happened."""
        if now < self.until:
            return self
        if self.kind == "open":
            return replace(self, kind="half-open", since=self.until, until=inf)
        if self.kind == "half-open":
            return replace(self, until=inf, tried=0)
        return replace(self, kind="closed", since=self.until, until=inf)

    # Events

    def tripped(self, now: float) -> "BreakerState":
        """Its traffic shows that it is sick. Half-open it has trials for that."""
        state = self.at(now)
        return state._opened(now) if state.kind in ("closed", "slow-start") else state

    def trying(self, now: float) -> "BreakerState":
        """One trial begins."""
        state = self.at(now)
        if state.kind != "half-open":
            return state
        until = now + self.breaker.open if state.tried == 0 else state.until
        return replace(state, tried=state.tried + 1, until=until)

    def given_back(self, given: "BreakerState") -> "BreakerState":
        """Nothing came of a trial. given: the state that it was given out in."""
        if self.kind != "half-open" or not self.tried or self.until != given.until:
            return self
        return replace(self, tried=self.tried - 1)

    def succeeded(self, began: float, now: float) -> "BreakerState":
        """A request succeeded."""
        if self.kind == "closed":
            return self
        state = self.at(now)
        return replace(state, passed=state.passed + 1)._judged(now) if state._asks(began) else state

    def erred(self, began: float, now: float) -> "BreakerState":
        """A request was answered with an error. Unless half-open, one alone says nothing: see `tripped`."""
        state = self.at(now)
        return replace(state, ill=state.ill + 1)._judged(now) if state._asks(began) else state

    def failed(self, began: float, now: float) -> "BreakerState":
        """A request failed, and not by its answer. Unless half-open, one alone says nothing: see `tripped`."""
        state = self.at(now)
        return state._opened(now) if state._asks(began) else state

    def checked(self, up: bool, now: float) -> "BreakerState":
        """An active check ended: what the checks say by now, thresholds included."""
        state = self.at(now)
        if up:
            if state.down:
                return replace(state, down=False)._started(now)
            return replace(state, passed=state.passed + 1)._judged(now) if state.kind == "half-open" else state
        if state.down:
            return state
        return replace(state if state.kind == "open" else state._opened(now), down=True)

    def counts(self, began: float) -> bool:
        """Whether the outcome of a request that began then says anything about it as it is."""
        return began >= self.counts_from

    def _asks(self, began: float) -> bool:
        """Whether a request that began then is one of the trials by which it finds out."""
        return self.kind == "half-open" and not self.down and began >= self.counts_from

    def _opened(self, now: float) -> "BreakerState":
        well = self.kind == "closed" and now - self.since >= self.breaker.longest
        trips = 1 if well else self.trips + 1
        until = now + open_for(self.breaker, trips)
        state = replace(self, kind="open", since=now, until=until, counts_from=now, trips=trips)
        return replace(state, tried=0, passed=0, ill=0)

    def _judged(self, now: float) -> "BreakerState":
        """One more trial has ended, well or ill."""
        if self.passed + self.ill < self.breaker.trials:
            return self
        return self._opened(now) if self.ill > self.passed else self._started(now)

    def _started(self, now: float) -> "BreakerState":
        return replace(self, kind="slow-start", since=now, until=now + self.breaker.slow_start).at(now)


def open_for(breaker: Breaker, trips: int) -> float:
    """How long the breaker stays open after so many trips in a row."""
    # No exponent that overflows: 2 ** 60 seconds are longer than any bound.
    return min(breaker.open * 2.0 ** min(trips - 1, 60), max(breaker.longest, breaker.open))
