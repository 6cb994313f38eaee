"""How one endpoint does: what became of the tries at it and of its checks, and what may be tried next.

- `steady` is the ordinary case, and then all that is looked at: its breaker is closed, and nothing holds it.
- A try begins once and ends once, in whatever comes first; what comes after that is not heard.
- An endpoint that could not be reached is left alone at once, unless it has answered somebody since that was begun: who
  comes next is not made to wait for what is known already. All other failures add up in the window.
- A request that has failed at one endpoint and fails at the next is none of the failures in a row there, for that says
  more of the request: else one that makes providers hang up could be sent until nobody is left.
- A client that left, a cap that was reached and our own want of descriptors say nothing of the endpoint.
- What began before the breaker opened says nothing either.
- Held: evidence has it that it is not where it has to be. No traffic and no check ends that.

`now` is monotonic seconds.
"""

from math import inf
from typing import Final, Literal

from proxy.policy.health import Breaker, HealthCheck, Passive
from proxy.providers.balance import Load
from proxy.providers.breaker import BreakerState
from proxy.providers.checks import Standing
from proxy.providers.window import Failure, Window, failure_of

Word = Literal["closed", "open", "half-open", "slow-start"]
"""What an endpoint's state is called, from the breaker. One that is held, or that its checks say is down, is open."""

_UNHEARD: Final = -1.0

# What was told of a try so far: nothing, all that can be, and its end.
_UNTOLD, _TOLD, _OVER = range(3)


class Company:
    """The endpoints that one is chosen among. unsteady: how many of them are not steady."""

    __slots__ = ("unsteady",)

    def __init__(self) -> None:
        self.unsteady = 0


class Health:
    """trips: how often the breaker opened, until somebody counts them. standing: what the checks say.

    answered: when it last answered somebody.
    """

    __slots__ = ("_company", "answered", "breaker", "held", "load", "standing", "steady", "trips", "window")

    def __init__(self, name: str, weight: float, passive: Passive, breaker: Breaker) -> None:
        """name: the endpoint's, alike in every process."""
        self.breaker = BreakerState(breaker)
        self.window = Window(passive)
        self.load = Load(name, weight)
        self.standing = Standing()
        self.held = False
        self.steady = True
        self.answered = -inf
        self.trips = 0
        self._company = Company()

    def join(self, company: Company) -> None:
        """It is chosen among these from now on."""
        company.unsteady += not self.steady
        self._company = company

    # What it may be sent

    def share(self, now: float) -> float:
        """The share of its usual traffic that it may take now, trials apart."""
        return 0.0 if self.held else self.breaker.share(now)

    def trial(self, now: float) -> bool:
        """Whether it wants one request to try it now."""
        return not self.held and self.breaker.trial(now)

    def admits(self, now: float) -> bool:
        """Whether it may be sent something now, as usual or as a trial."""
        return self.steady or self.share(now) > 0.0 or self.trial(now)

    def in_service(self, now: float) -> bool:
        """Whether it is being sent anything at all."""
        return self.word(now) != "open"

    def word(self, now: float) -> Word:
        """Its state."""
        return "open" if self.held or self.breaker.down else self.breaker.at(now).kind

    # Tries

    def begin(self, now: float) -> "Try | None":
        """A request is on its way; None where it may not be: what chose it did so before something happened."""
        if self.steady:
            self.load.begin(now)
            return Try(self, now)
        if self.held:
            return None
        state = self.breaker.at(now)
        trial = state.trial(now)
        if trial:
            state = state.trying(now)
        elif state.share(now) <= 0.0:
            return None
        self.become(state)
        self.load.begin(now)
        return Trial(self, now) if trial else Try(self, now)

    # What became of them

    def succeeded(self, began: float, latency: float, now: float) -> None:
        """A request that began then was answered whole; latency: the seconds to its first byte."""
        self.answered = now
        if self.breaker.kind != "closed":
            self.become(self.breaker.succeeded(began, now))
        if began >= self.breaker.counts_from:
            self.window.succeeded(latency, now)

    def failed(self, failure: Failure, began: float, now: float, *, again: bool = False) -> None:
        """A request that began then failed, and that is the endpoint's doing. again: it had failed elsewhere."""
        self._failed(failure, began, now, sick=False, again=again)

    def unreached(self, began: float, now: float) -> None:
        """A connection, begun then, could not be made. Nothing of a request was sent."""
        self._failed("connect", began, now, sick=self.answered < began, again=False)

    def _failed(self, failure: Failure, began: float, now: float, *, sick: bool, again: bool) -> None:
        state = self.breaker
        if not state.counts(began):
            return
        shown = self.window.failed(failure, now, again=again)
        # First, for it does nothing in half-open: what the trials come to is not for the window to say.
        if sick or shown is not None:
            state = state.tripped(now)
        self.become(state.erred(began, now) if failure == "error" else state.failed(began, now))

    def outlier(self, now: float) -> None:
        """It is slow beside the other providers of its zone."""
        self.become(self.breaker.tripped(now))

    # Checks and evidence

    def checked(self, check: HealthCheck, good: bool, now: float) -> None:
        """A check ended."""
        self.standing = self.standing.after(check, good)
        if self.standing.up is not None:
            self.become(self.breaker.checked(self.standing.up, now))

    def hold(self, held: bool) -> None:
        """Whether the evidence takes it out of service."""
        self.held = held
        self.become(self.breaker)

    def become(self, state: BreakerState) -> None:
        """The breaker is in this state from now on."""
        if state.counts_from > self.breaker.counts_from:
            self.trips += 1
            self.window.clear()
        self.breaker = state
        steady = state.kind == "closed" and not self.held
        if steady is not self.steady:
            self.steady = steady
            self._company.unsteady += -1 if steady else 1
        if steady:
            self.load.share = 1.0


class Try:
    """One request at an endpoint, or one connection that is passed on. began: when it was sent there."""

    __slots__ = ("_first", "_health", "_stage", "began")

    def __init__(self, health: Health, now: float) -> None:
        self.began = now
        self._health = health
        self._first = _UNHEARD
        self._stage = _UNTOLD

    def answered(self, seconds: float, now: float) -> None:
        """Its first byte came after so many seconds; or was waited for that long, in vain."""
        if self._first < 0.0:
            self._first = seconds
            self._health.load.first_byte(seconds, now)

    def connected(self, seconds: float, now: float) -> None:
        """For what is passed on: the connection is there, which is all that is asked of the endpoint."""
        if self._stage == _UNTOLD:
            self.answered(seconds, now)
            self._stage = _TOLD
            self._health.succeeded(self.began, seconds, now)

    def completed(self, status: int, now: float) -> None:
        """An answer of this status came, whole."""
        if status >= 500 and (failure := failure_of(status)) is not None:
            self.failed(failure, now)
            return
        stage, health = self._stage, self._health
        if stage == _OVER:
            return
        self._stage = _OVER
        if self._first < 0.0:
            self._first = now - self.began
            health.load.first_byte(self._first, now)
        health.load.outstanding -= 1
        if stage == _UNTOLD:
            health.succeeded(self.began, self._first, now)

    def failed(self, failure: Failure, now: float, before: "Try | None" = None) -> None:
        """It failed after it was connected, and that is the endpoint's doing. before: the request's last that did."""
        if self._end(now):
            again = before is not None and before._health is not self._health
            self._health.failed(failure, self.began, now, again=again)

    def left(self) -> None:
        """It is over, and nothing is to be learnt of that: the client left, or what it came to was told already."""
        if self._stage != _OVER:
            self._stage = _OVER
            if self._first < 0.0:
                self._first = 0.0  # it is not waited for any more
                self._health.load.leave()
            else:
                self._health.load.end()

    def _end(self, now: float) -> bool:
        """Whether its end is told now."""
        stage = self._stage
        if stage == _OVER:
            return False
        if self._first < 0.0:
            self.answered(now - self.began, now)
        self._stage = _OVER
        self._health.load.end()
        return stage == _UNTOLD


class Trial(Try):
    """One by which a half-open breaker finds out. Where nothing is learnt of it, another may be in its place."""

    __slots__ = ("_given",)

    def __init__(self, health: Health, now: float) -> None:
        super().__init__(health, now)
        self._given = health.breaker

    def left(self) -> None:
        given_back = self._stage == _UNTOLD
        super().left()
        if given_back:
            self._health.become(self._health.breaker.given_back(self._given))
