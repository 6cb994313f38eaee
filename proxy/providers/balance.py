"""Which of a provider's healthy endpoints is tried next.

- A chooser is given the loads of those that may be tried, never none, and says which by its place among them. It can
  choose nothing else, so it widens nothing. For the next try it is asked again, without those tried before.
- A load is one endpoint's figures in this process. Each try tells it, in this order: `begin`, then `first_byte` and
  `end`; or `begin` and `leave`, where the answer did not come and that is not the endpoint's fault.
- `share` is what slow start leaves of an endpoint: above 0, 1 when it is over. No chooser gives it more than that part
  of what it would get.
- No clock and no chance of its own: `now` is monotonic seconds, chance a function to numbers in [0, 1).
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import ceil, exp, log
from typing import Final, Protocol

from proxy.policy.balance import Balance

DECAY: Final = 10.0
"""Seconds in which what was measured loses two thirds of its say."""

UNMEASURED: Final = 1.0
"""Seconds that an endpoint is expected to take while its first answer is awaited."""

_MASK: Final = 0xFFFFFFFFFFFFFFFF


class Load:
    """What one endpoint has to do.

    outstanding: tries under way. awaited: those without a first byte. latency: of the first byte, smoothed over DECAY
    but raised at once, 0 before the first. heard: when the endpoint last answered, or was first asked to.
    """

    __slots__ = ("awaited", "credit", "heard", "latency", "measured", "outstanding", "seed", "share", "weight")

    def __init__(self, name: str, weight: float = 1.0) -> None:
        """name: the endpoint's, alike in every process: by it subjects find it again."""
        self.seed = _digest(name.encode())
        self.weight = weight
        self.share = 1.0
        self.outstanding = 0
        self.awaited = 0
        self.latency = 0.0
        self.measured = 0.0
        self.heard = 0.0
        self.credit = 0.0

    def begin(self, now: float) -> None:
        """A try is on its way there."""
        if not self.awaited:
            self.heard = now
        self.awaited += 1
        self.outstanding += 1

    def first_byte(self, seconds: float, now: float) -> None:
        """It answered after so many seconds; or failed, having taken them."""
        self.awaited -= 1
        self.heard = now
        if seconds >= self.latency:
            self.latency = seconds
        else:
            self.latency = seconds + (self.latency - seconds) * exp((self.measured - now) / DECAY)
        self.measured = now

    def end(self) -> None:
        """A try that had its first byte is over."""
        self.outstanding -= 1

    def leave(self) -> None:
        """A try is over that had none, and nothing is to be learnt of it."""
        self.awaited -= 1
        self.outstanding -= 1

    def expected(self, now: float) -> float:
        """Seconds that one more try would take here, by what is known.

        One that does nothing is forgiven with time. One that owes answers is expected to take no less than it has
        been silent, so a black hole is left alone long before anything times out.
        """
        outstanding = self.outstanding
        if not outstanding:
            return self.latency * exp((self.heard - now) / DECAY) / self.weight
        latency = self.latency or UNMEASURED
        if self.awaited and now - self.heard > latency:
            latency = now - self.heard
        return latency * (outstanding + 1) / self.weight


class Chooser(Protocol):
    def choose(self, loads: Sequence[Load], key: bytes, now: float) -> int:
        """The place of the one to try. key: what stays together: the subject, else the client's address."""
        ...


class PeakEwma:
    """Of two drawn by chance, the one expected to answer first.

    Two, and not the best of all: else every process would run to the same one at once.
    """

    __slots__ = ("_chance",)

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance

    def choose(self, loads: Sequence[Load], key: bytes, now: float) -> int:
        count = len(loads)
        if count == 1:
            return 0
        first, second = 0, 1
        if count > 2:
            # Both of one number, for each costs as much as all that follows.
            drawn = int(self._chance() * count * (count - 1))
            first = drawn % count
            second = drawn // count
            if second >= first:
                second += 1
        one, two = loads[first], loads[second]
        if one.share < 1.0 or two.share < 1.0:
            chance = self._chance
            admitted = chance() < one.share
            if admitted is not (chance() < two.share):
                return first if admitted else second
        # What `expected` says, without calling it for one that is idle: this is done for every request.
        takes = one.expected(now) if one.outstanding else one.latency * exp((one.heard - now) / DECAY) / one.weight
        other = two.expected(now) if two.outstanding else two.latency * exp((two.heard - now) / DECAY) / two.weight
        return second if other < takes else first


class LeastConnections:
    """The one with the least under way for its weight; equal ones take turns."""

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn = 0

    def choose(self, loads: Sequence[Load], key: bytes, now: float) -> int:
        count = len(loads)
        self._turn = turn = (self._turn + 1) % count
        busy = [(load.outstanding + 1) / (load.weight * load.share) for load in loads]
        least = min(busy)
        while busy[turn] > least:
            turn = turn + 1 if turn + 1 < count else 0
        return turn


class SmoothRoundRobin:
    """Turns, as many as the weights say and as evenly spread as they can be (as nginx does it).

    At each choice all are credited with their weight, and the one with the most credit pays for all.
    """

    __slots__ = ("_weighted",)

    def __init__(self, weighted: bool) -> None:
        self._weighted = weighted

    def choose(self, loads: Sequence[Load], key: bytes, now: float) -> int:
        total = 0.0
        found, best = 0, loads[0]
        for place, load in enumerate(loads):
            weight = load.weight * load.share if self._weighted else load.share
            total += weight
            load.credit += weight
            if load.credit > best.credit:
                found, best = place, load
        best.credit -= total
        return found


class ConsistentHash:
    """Each key has its own order of the endpoints, and takes the first that is not too busy.

    The order is by weighted rendezvous, as in choice.py: when an endpoint goes, its keys alone move, and each to where
    it would have gone next. Too busy: with one more it would have over `bound` times its part, by weight, of all
    that is under way (Mirrokni et al., "Consistent hashing with bounded loads", 2018). One always is not.
    """

    __slots__ = ("_bound",)

    def __init__(self, bound: float) -> None:
        self._bound = bound

    def choose(self, loads: Sequence[Load], key: bytes, now: float) -> int:
        if len(loads) == 1:
            return 0
        digest = _digest(key)
        weights = [load.weight * load.share for load in loads]
        under_way = 1 + sum([load.outstanding for load in loads])
        each = self._bound * under_way / sum(weights)
        # 52 bits, so that the half keeps the number off 0 and 1 exactly: its logarithm is finite and negative.
        ranks = [((_mixed(digest ^ load.seed) >> 12) + 0.5) / 2**52 for load in loads]
        if min(weights) < max(weights):  # else the logarithms are in the same order
            ranks = [log(rank) / weight for rank, weight in zip(ranks, weights, strict=True)]
        first = found = ranks.index(max(ranks))
        for _ in loads:
            if loads[found].outstanding < ceil(each * weights[found]):
                return found
            ranks[found] = float("-inf")
            found = ranks.index(max(ranks))
        return first


def chooser(balance: Balance, chance: Callable[[], float]) -> Chooser:
    """What the policy asks for."""
    if balance.kind == "peak_ewma":
        return PeakEwma(chance)
    if balance.kind == "least_connections":
        return LeastConnections()
    if balance.kind == "consistent_hash":
        return ConsistentHash(balance.bound)
    return SmoothRoundRobin(weighted=balance.kind == "weighted")


def _digest(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def _mixed(number: int) -> int:
    """Spreads 64 bits: the finaliser of MurmurHash3."""
    number = ((number ^ number >> 33) * 0xFF51AFD7ED558CCD) & _MASK
    number = ((number ^ number >> 33) * 0xC4CEB9FE1A85EC53) & _MASK
    return number ^ number >> 33
