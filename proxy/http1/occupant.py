"""What can have a client's connection to itself, and what the connection's deadline is for meanwhile."""

from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.http1.plan import Planner
    from proxy.http1.tally import Tally


class Wait(Enum):
    """What a connection's deadline is for."""

    NOTHING = "nothing"
    FIRST_HEAD = "first-head"
    HEAD = "head"
    KEEP_ALIVE = "keep-alive"
    BODY = "body"
    FIRST_BYTE = "first-byte"
    IDLE = "idle"
    LINGER = "linger"


class Occupant(Protocol):
    """What has a client's connection to itself: a request that waits, an exchange, a tunnel.

    withdrawn_at: when it ends because its permit was withdrawn (monotonic seconds). changes_at: when its subject is
    known to move, so that it is decided again (seconds since the epoch). tally: whose place of the limit it has.
    """

    withdrawn_at: float
    changes_at: float

    @property
    def tally(self) -> "Tally": ...

    def client_half_closed(self) -> bool:
        """The client sends no more; whether its connection stays open until it has its answer."""

    def client_may_be_leaving(self) -> bool:
        """Whether an end of what the client sends, behind what was not read yet, may be its end."""

    def client_paused(self) -> None:
        """The client takes no more for now."""

    def client_resumed(self) -> None:
        """The client takes bytes again."""

    def client_left(self) -> None:
        """The client's connection is gone."""

    def overdue(self, now: float, wait: Wait) -> None:
        """What was waited for did not come in time."""

    def redecide(self, planner: "Planner", now: float, wall: float) -> None:
        """Another line is in force, or a date has passed: may this go on?"""

    def end_withdrawn(self) -> None:
        """The moment that it had to finish without a permit is over."""
