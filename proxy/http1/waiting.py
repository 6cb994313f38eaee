"""A request for which somebody has to be asked first, a source of a home or a store of limits of rate.

Nothing is decided, and nobody is told of it yet. Its tally is never recorded: it holds the place that the request was
let in to, until the exchange's does.
"""

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING, Final

from proxy.http1.exchange import Exchange
from proxy.http1.occupant import Wait
from proxy.http1.plan import Plan, Planner, Unproven
from proxy.http1.tally import Tally
from proxy.identity.answers import Pending

if TYPE_CHECKING:
    from proxy.http1.client import ClientConnection
    from proxy.http1.plane import HttpPlane

ROUNDS: Final = 8
"""How often a request may have to wait: once for each source that asks elsewhere, and for an answer that ran out."""


class Waiting:
    """Stands at the client's connection until there is a plan; then an exchange takes its place."""

    withdrawn_at = inf
    changes_at = inf

    def __init__(self, plane: "HttpPlane", client: "ClientConnection", plan: Plan, wall: float, started: float) -> None:
        self._plane = plane
        self._client = client
        self._plan = plan
        self._wall = wall
        self._started = started
        self.tally = Tally(wall, started, b"")
        self.tally.admitted_by = plane.admission.limit
        self._task = plane.loop.create_task(self._wait())

    async def _wait(self) -> None:
        try:
            exceeded = None
            planner, plan = await self._answered(self._plane.planner, self._plan)
            tokens = plan.tokens
            if tokens is not None and tokens.shared:
                exceeded = await tokens.ask(time.monotonic())
                # Another line may be in force by now, or another home.
                planner = self._plane.planner
                planner, plan = await self._answered(planner, self._planned(planner))
            elif tokens is not None:
                exceeded = tokens.take(time.monotonic())
            self._plane.begin_within(self._go_on(planner, plan), self._client, exceeded)
        except Exception as error:
            self._plane.failed(self._client, error)

    def _go_on(self, planner: Planner, plan: Plan) -> Exchange:
        exchange = self._plane.go_on(self._client, planner, plan, self._wall, self._started)
        exchange.tally.parked = self.tally.parked
        return exchange

    async def _answered(self, planner: Planner, plan: Plan) -> tuple[Planner, Plan]:
        for _ in range(ROUNDS):
            if not isinstance(plan.verdict, Pending):
                break
            # Others may wait for the same answer, and this client may leave.
            await asyncio.shield(asyncio.ensure_future(plan.verdict.ready))
            planner = self._plane.planner
            plan = self._planned(planner)
        return planner, self._unanswered() if isinstance(plan.verdict, Pending) else plan

    def _planned(self, planner: Planner) -> Plan:
        return planner.plan(self._client.arrival, self._plan.head_bytes, time.time())

    def _unanswered(self) -> Plan:
        return Plan(self._plan.head_bytes, self._plan.head, Unproven(503, "source-unavailable"))

    def client_half_closed(self) -> bool:
        """The client sends no more; whether its connection stays open until it has its answer."""
        return self._client.leaving()

    def client_may_be_leaving(self) -> bool:
        """Whether an end of what the client sends, behind what was not read yet, may be its end."""
        return True

    def client_paused(self) -> None:
        """Nothing is being written."""

    def client_resumed(self) -> None:
        """Nothing is being written."""

    def client_left(self) -> None:
        """The client's connection is gone; so is this request."""
        self._task.cancel()
        self._go_on(self._plane.planner, self._unanswered()).client_left()

    def overdue(self, now: float, wait: Wait) -> None:
        """Sources keep their own time."""

    def redecide(self, planner: Planner, now: float, wall: float) -> None:
        """Nothing was decided yet; what is in force when the source has answered will be."""

    def end_withdrawn(self) -> None:
        """Nothing was permitted yet."""
