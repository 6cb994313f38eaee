"""What a connection may have to wait for before it sets out: a source's answer, a store's. A task, while it lasts."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from proxy.identity.answers import Pending
from proxy.providers.rates import Exceeded, Tokens
from proxy.tcp.arrival import Arrival
from proxy.tcp.plan import Plan, Planner

if TYPE_CHECKING:
    from proxy.tcp.plane import TcpPlane

ROUNDS: Final = 8
"""How often a connection may have to wait: once for each source that asks elsewhere, and for an answer that ran out."""


class Waiting:
    """One connection's. Whatever it waited for is told once, unless it was stopped; a mistake is told to `failed`.

    on: whether it waits.
    """

    __slots__ = ("_failed", "_plane", "_task")

    def __init__(self, plane: "TcpPlane", failed: Callable[[Exception], None]) -> None:
        self._plane = plane
        self._failed = failed
        self._task: asyncio.Task[None] | None = None

    @property
    def on(self) -> bool:
        return self._task is not None

    def for_source(
        self, planner: Planner, plan: Plan, arrival: Arrival, decided: Callable[[Planner, Plan], None]
    ) -> None:
        """A source of a home has to ask elsewhere: nothing is decided before it has its answer."""
        self._begin(self._for_source(planner, plan, arrival, decided))

    def for_tokens(self, tokens: Tokens, told: Callable[[Exceeded | None], None]) -> None:
        """A store says whether a limit of rate is exceeded."""
        self._begin(self._for_tokens(tokens, told))

    def stop(self) -> None:
        """Wait no longer; nobody is told."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._plane.loop.create_task(self._do(work))

    async def _do(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            # A mistake of this program: the client is not left waiting, and the operator is told.
            self._task = None
            self._failed(error)

    async def _for_source(
        self, planner: Planner, plan: Plan, arrival: Arrival, decided: Callable[[Planner, Plan], None]
    ) -> None:
        for _ in range(ROUNDS):
            if not isinstance(plan.verdict, Pending):
                break
            # Others may wait for the same answer, and this client may leave.
            await asyncio.shield(asyncio.ensure_future(plan.verdict.ready))
            planner = self._plane.planner
            plan = planner.plan(arrival, time.time())
        self._task = None
        decided(planner, plan)

    async def _for_tokens(self, tokens: Tokens, told: Callable[[Exceeded | None], None]) -> None:
        exceeded = await tokens.ask(time.monotonic())
        self._task = None
        told(exceeded)
