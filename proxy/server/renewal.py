"""Takes in country databases whose files are replaced while the service runs, and says so."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from proxy.identity.country import Countries
from proxy.identity.renewal import renew
from proxy.server.journal import JOURNAL

LOOK = 2.0
"""Seconds between looks at the files. A new one is read when it was the same twice."""


class CountryRenewal:
    """`countries()`: the data in force; a reload changes which that is."""

    def __init__(self, countries: Callable[[], Countries]) -> None:
        self._countries = countries
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look from now on, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def end(self) -> None:
        """Look no more. One that is just being read is not used."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            for came in await renew(self._countries(), time.time()):
                if came.problem is None:
                    JOURNAL.info("country data: %s of %s is in use", came.name, _date(came.built))
                else:
                    JOURNAL.error("country data: %s", came.problem)
                    JOURNAL.error("country data: %s of %s stays in use", came.name, _date(came.built))


def _date(built: float | None) -> str:
    return "unknown date" if built is None else datetime.fromtimestamp(built, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
