"""Steady traffic of accounts that upload and download, as long as a context is open."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice

from proxy.cli.demonstration.accounts import Account
from proxy.cli.demonstration.client import Place
from proxy.cli.demonstration.stage import Stage

_SIZES = (64 << 10, 256 << 10, 128 << 10, 32 << 10)
_PAUSE = 0.03
"""Seconds between two requests of one visitor: the demo shows traffic, it does not measure what the machine can do."""

_REFUSED_PAUSE = 0.1
"""The same after an answer that was no success."""


@dataclass(slots=True)
class Tally:
    """statuses: how often each came. operators: who gave the successes. seconds: that successes took, in order."""

    statuses: Counter[int] = field(default_factory=Counter)
    operators: Counter[str | None] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.statuses.total()

    @property
    def succeeded(self) -> int:
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300)


@asynccontextmanager
async def traffic(stage: Stage, visitors: Sequence[tuple[Account, Place]]) -> AsyncIterator[Tally]:
    """Each visitor sends one request after the other; when the context closes, those under way are finished."""
    tally, ending = Tally(), asyncio.Event()
    tasks = [
        asyncio.create_task(_visit(stage, account, place, number, tally, ending))
        for number, (account, place) in enumerate(visitors)
    ]
    try:
        yield tally
        ending.set()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _visit(
    stage: Stage, account: Account, place: Place, number: int, tally: Tally, ending: asyncio.Event
) -> None:
    token, path = stage.tokens[account], f"/photo-{number}"
    # Visitors are out of step with one another, or their uploads would come in waves.
    for turn, size in enumerate(islice(cycle(_SIZES), number, None), number):
        if ending.is_set():
            return
        if turn % 3 == 0 or turn == number:
            answer = await stage.client.send(place, token, method="PUT", path=path, body=bytes(size))
        else:
            answer = await stage.client.send(place, token, path=path)
        tally.statuses[answer.status] += 1
        good = 200 <= answer.status < 300
        if good:
            tally.operators[answer.operator] += 1
            tally.seconds.append(answer.seconds)
        await asyncio.sleep(_PAUSE if good else _REFUSED_PAUSE)
