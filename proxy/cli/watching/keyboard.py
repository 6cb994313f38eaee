"""Single keys from a terminal, and the signals that end a program, as one thing to wait for."""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Left(Exception):
    """Whoever looks on wants to leave."""


class Keyboard:
    """Keys of standard input, if that is a terminal."""

    def __init__(self) -> None:
        self._there = sys.stdin.isatty()

    def wait(self, seconds: float) -> None:
        """So long, or until any key. Raises Left for q."""
        if self._there and select.select([sys.stdin], [], [], seconds)[0]:
            pressed = os.read(sys.stdin.fileno(), 64)
            if not pressed or pressed[:1] in b"qQ":
                raise Left
        elif not self._there:
            select.select([], [], [], seconds)


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Keys come at once and unseen meanwhile; signals that end a program raise Left in it, once."""
    before = {number: signal.signal(number, _leave) for number in _ENDING}
    settings = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    try:
        if settings is not None:
            tty.setcbreak(sys.stdin)
        yield Keyboard()
    finally:
        if settings is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)  # what follows is the clean-up, which is short
    raise Left
