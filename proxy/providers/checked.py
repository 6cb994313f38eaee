"""What an endpoint's checks saw until now. It survives reloads with the endpoint."""

from collections.abc import Container

from proxy.policy.facts import Address
from proxy.providers.checks import Result
from proxy.providers.evidence import Judgement, Seen


class Checked:
    """good, bad: checks that came to that, until somebody counts them. last: what the latest came to.

    answered: who answered, and within how many seconds at best. seen: what that shows of where the endpoint is.
    judgement: what it comes to, None before the first.
    """

    __slots__ = ("answered", "bad", "good", "judgement", "last", "seen")

    def __init__(self) -> None:
        self.good = 0
        self.bad = 0
        self.last: Result | None = None
        self.answered: dict[Address, float | None] = {}
        self.seen = Seen()
        self.judgement: Judgement | None = None

    def follow(self, earlier: "Checked | None") -> None:
        """The same endpoint of the same provider was checked before, by another definition of it."""
        if earlier is not None:
            self.answered, self.judgement = earlier.answered, earlier.judgement

    def heard(self, address: Address, rtt: float | None, leads: Container[Address]) -> None:
        """One answered. leads: where the endpoint's name leads now; who else answered once says nothing any more."""
        best = self.answered.get(address)
        shortest = min((each for each in (best, rtt) if each is not None), default=None)
        self.answered = {each: took for each, took in self.answered.items() if each in leads} | {address: shortest}
