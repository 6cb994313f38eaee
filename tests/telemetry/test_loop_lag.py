"""Loop lag, measured on a loop that is really held up."""

import asyncio
import time

import pytest
import uvloop

from proxy.telemetry.histogram import Histogram
from proxy.telemetry.loop_lag import PERIOD, LoopLag


async def looks(lateness: Histogram, number: int) -> None:
    while sum(lateness.counts) < number:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_loop_that_is_held_up_is_late(factory):
    lateness = Histogram()

    async def hold_up() -> None:
        lag = LoopLag(lateness)
        lag.begin()
        time.sleep(PERIOD + 0.5)  # noqa: ASYNC251 - what is to be noticed
        await looks(lateness, 1)
        lag.end()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(hold_up())
    assert lateness.total >= 0.49
    assert sum(lateness.counts) == 1


async def test_it_goes_on_until_it_is_ended():
    lateness = Histogram()
    lag = LoopLag(lateness)
    lag.begin()
    await looks(lateness, 2)
    lag.end()
    seen = list(lateness.counts)

    await asyncio.sleep(2 * PERIOD)

    assert lateness.counts == seen
    assert lateness.total >= 0
