"""How late a process' event loop comes to a timer: what anything else that is due waits as well."""

import asyncio
import time

from proxy.telemetry.histogram import Histogram

PERIOD = 0.25
"""Seconds between looks. A timer each costs less than a thousandth of a per cent of a processor."""


class LoopLag:
    """Observes the running loop's lateness into a histogram, from `begin` to `end`."""

    def __init__(self, lateness: Histogram) -> None:
        self._loop = asyncio.get_running_loop()
        self._lateness = lateness
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        # Not the loop's time, which stands still in a turn and has whole milliseconds.
        self._began = time.monotonic()
        self._timer = self._loop.call_later(PERIOD, self._look)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._lateness.observe(max(0.0, time.monotonic() - self._began - PERIOD))
        self.begin()
