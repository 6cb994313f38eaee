"""`domicile demo`: real traffic through a proxy of its own, and where it went."""

import asyncio
import signal
import sys
from contextlib import suppress

import aiohttp
import click
import uvloop

from proxy.cli.demonstration.invitation import invitation, write_credentials
from proxy.cli.demonstration.proxy_process import ProxyFailed
from proxy.cli.demonstration.screen import Screen
from proxy.cli.demonstration.stage import Stage, open_stage
from proxy.cli.demonstration.tour import tour

_LONGEST = 90.0
"""Seconds that the tour may take, on a machine that is very busy; on others it takes twelve."""


@click.command()
@click.option("--once", is_flag=True, help="Exit after the tour instead of staying up for requests of your own.")
def demo(once: bool) -> None:
    """Send real traffic through a proxy of its own, and show where it went.

    Starts two providers and the proxy on loopback, with certificates and accounts of its own. All of it is gone when
    the demo ends. Exits 0 if everything went where the law wants it, 1 if not.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(_run(once))
    sys.exit(status)


async def _run(once: bool) -> int:
    screen = Screen()
    task = asyncio.create_task(_show(screen, once))
    ended_by = _listen_to_signals(task)
    try:
        return await task
    except asyncio.CancelledError:
        return 128 + ended_by[0]  # as a shell says that a signal ended something
    except ProxyFailed as error:
        screen.failure(f"The proxy does not run:\n{error}")
    except aiohttp.ClientError as error:
        screen.failure(f"The proxy does not answer ({type(error).__name__}).")
    except TimeoutError:
        screen.failure(f"The tour is not over after {_LONGEST:g} seconds.")
    return 1


def _listen_to_signals(task: "asyncio.Task[int]") -> list[int]:
    """Cancel the task at the first signal to end, and at that one only: what follows is the clean-up, which is short.

    Returns the list that the signal's number will be in.
    """
    came: list[int] = []

    def end(number: int) -> None:
        came.append(number)
        if len(came) == 1:
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    return came


async def _show(screen: Screen, once: bool) -> int:
    screen.headline()
    async with open_stage() as stage:
        try:
            async with asyncio.timeout(_LONGEST):
                good = await tour(stage, screen)
        except aiohttp.ClientError:
            if not stage.proxy.running:
                raise ProxyFailed(stage.proxy.said) from None
            raise
        if not good:
            return 1
        if not once:
            await _stay(stage, screen)
        return 0


async def _stay(stage: Stage, screen: Screen) -> None:
    write_credentials(stage)
    screen.part("Try it: all of it stays up until Ctrl-C")
    screen.lines(invitation(stage))
    with suppress(asyncio.CancelledError):
        status = await stage.proxy.until_ended()
        raise ProxyFailed(f"it ended with status {status}\n{stage.proxy.said}")
