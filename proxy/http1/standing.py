"""Whether a living request may go on with the provider in hand, when another line is in force or a date has passed."""

from typing import TYPE_CHECKING

from proxy.http1.attempts import Attempts
from proxy.http1.plan import Plan, Planner
from proxy.identity.answers import Pending

if TYPE_CHECKING:
    from proxy.http1.client import ClientConnection
    from proxy.http1.plane import HttpPlane


class Standing:
    """Of one request. plan: what was decided. shown: when its credential was (epoch seconds)."""

    __slots__ = ("_attempts", "_client", "_plan", "_plane", "_shown")

    def __init__(
        self, plane: "HttpPlane", client: "ClientConnection", attempts: Attempts, plan: Plan, shown: float
    ) -> None:
        self._plane = plane
        self._client = client
        self._attempts = attempts
        self._plan = plan
        self._shown = shown

    def again(self, planner: Planner, wall: float) -> Plan:
        """What it comes to now. Where a source has to be asked first, the question is put again after."""
        plan = planner.again(self._client.arrival, self._plan, self._shown, wall)
        if isinstance(plan.verdict, Pending):
            self._plane.redecide_when(plan.verdict, self._client)
        return plan

    def allowed(self, plan: Plan) -> bool:
        """Whether it may go on by that; for now, where a source has to be asked first."""
        return isinstance(plan.verdict, Pending) or self._attempts.covered(plan.verdict)

    def withdrawn(self) -> None:
        """Count that the permit was withdrawn under way."""
        place = self._attempts.place
        if place is not None:
            listener = self._client.arrival.listener.name
            self._plane.metrics.withdrawn(listener, place.state.definition.name).count += 1
