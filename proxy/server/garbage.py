"""The garbage collector, for a process that lives long and is not to be stopped for long.

What is there once all is loaded stays, and need not be looked through again. What comes later goes: a reload's policy
with the next one, a connection with its end; both are cycles, and go when the collector comes by. By itself it comes by
when much was made, which in a process that frees what it makes is after minutes: a reload calls it.
"""

import asyncio
import gc
from typing import Final

OLDER: Final = 5
"""Looks at what is younger before a look at what is older. With many, a retired policy may stay for an hour."""

RETIRED: Final = 5.0
"""Seconds after a reload when hardly anything holds what it retired any more: two for what lost its permit."""


def set_aside(young: int) -> None:
    """Leave out of every later collection what lives now. young: objects made and not freed before the next one.

    Once in a process: thawing and freezing anew would stop it for as long as a collection of everything takes, some 50
    milliseconds.
    """
    gc.collect()
    gc.freeze()
    # The oldest generation is looked through once what is new in it is a quarter of what there was at the last time,
    # which counted what has just been frozen: it would be out of reach.
    gc.collect()
    gc.set_threshold(young, OLDER, OLDER)


def collect_retired(loop: asyncio.AbstractEventLoop) -> None:
    """Have what a reload retires collected soon. Once in a reload, which costs more than the collection does."""
    loop.call_later(RETIRED, gc.collect)
