"""What an endpoint's checks saw until now. It survives reloads with the endpoint."""

from proxy.providers.checks import Result
from proxy.providers.evidence import Judgement, Seen


class Checked:
    """good, bad: checks that came to that, until somebody counts them. last: what the latest came to.

    seen: what they showed of where it is. judgement: what that comes to, None before the first.
    """

    __slots__ = ("bad", "good", "judgement", "last", "seen")

    def __init__(self) -> None:
        self.good = 0
        self.bad = 0
        self.last: Result | None = None
        self.seen = Seen()
        self.judgement: Judgement | None = None
