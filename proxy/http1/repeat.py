"""Whether a request whose provider failed is sent once more. Made when the first fails: most requests need none.

- What stands against it is `hindrance`'s to say: the law first, then what the client had of an answer, whether what was
  sent may be sent twice, and then the policy's bounds.
- A request waits for answers no longer than one provider may take for one: what the tries before have waited is not
  left to the next. Connecting has its own time, as at the first try.
- The budget is that of the provider that the request was counted for. A kept connection that ended before it was heard
  on is made anew once without asking it: a provider's restart ends hundreds, and what never arrived is no load.
"""

from math import inf
from typing import TYPE_CHECKING

from proxy.http1.attempts import Attempts
from proxy.providers.retry_budget import RetryBudget, hindrance
from proxy.wire.request_head import IDEMPOTENT, RequestHead

if TYPE_CHECKING:
    from proxy.http1.plane import HttpPlane
    from proxy.http1.upload import Upload


class Repeat:
    """Of one request. left: seconds that the next try may take to answer."""

    __slots__ = ("_attempts", "_budget", "_longest", "_plane", "_sent", "_waited", "left")

    def __init__(
        self, plane: "HttpPlane", attempts: Attempts, budget: RetryBudget, longest: float, beside: int
    ) -> None:
        """longest: seconds that the first provider had. beside: tries that were made at the same time."""
        self._plane = plane
        self._attempts = attempts
        self._budget = budget
        self._sent = beside
        self._longest = longest
        self._waited = 0.0
        self.left = inf

    def granted(
        self,
        head: RequestHead,
        upload: "Upload | None",
        now: float,
        *,
        stale: bool,
        waited: float,
        permitted: bool,
        answered: bool,
    ) -> bool:
        """Whether it is sent again, now that one more try has failed.

        stale: a connection ended that had served before, so that its endpoint may never have seen the request. waited:
        for an answer. permitted: its permit stands. answered: the client has had some of an answer.
        """
        self._sent += 1
        free = stale and self._sent == 1
        self._waited += waited
        place = self._attempts.following(stale) if permitted else None
        if place is not None:
            self._longest = max(self._longest, place.state.definition.timeouts.first_byte)
        self.left = self._longest - self._waited
        found = hindrance(
            self._plane.line.policy.retries,
            covered=place is not None,
            answered=answered,
            idempotent=repeatable(head),
            sent=1,
            body_read=1 if upload is not None and upload.kept is None else 0,
            body_held=0,
            attempts=self._sent,
            time_left=self.left,
            needed=0.0,
            budget_left=inf if free else self._budget.left(now),
        )
        if found is None:
            if not free:
                self._budget.spend(now)
            return True
        self._plane.metrics.retries_refused(found).count += 1
        return False


def repeatable(head: RequestHead) -> bool:
    """Whether it does no more when it is sent twice than when it is sent once."""
    return head.method in IDEMPOTENT and head.upgrade is None
