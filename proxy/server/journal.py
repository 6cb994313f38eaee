"""What the service says of itself: one line each on standard error, never about a client.

Text that comes from outside the program (an exception's message, a path with a line break) cannot start a line of
its own, and exceptions nobody foresaw are told by type and place alone: their messages may quote traffic.
"""

import asyncio
import logging
import sys
import time
import traceback
from types import TracebackType
from typing import Any

JOURNAL = logging.getLogger("domicile")


class _Formatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        error = record.exc_info[1] if record.exc_info else None
        record.exc_info = None
        record.exc_text = None
        record.stack_info = None
        text = super().format(record)
        if error is not None:
            text += f": {_where(error)}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def open_journal() -> None:
    """Send this program's log records, and warnings of its libraries, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    JOURNAL.setLevel(logging.INFO)
    logging.raiseExceptions = False  # a reader of standard error that left must not be answered with tracebacks


def unforeseen(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler."""
    error = context.get("exception")
    JOURNAL.error("unforeseen: %s", "no exception" if error is None else _where(error))


def _where(error: BaseException) -> str:
    place = _last(error.__traceback__)
    return type(error).__name__ if place is None else f"{type(error).__name__} at {place}"


def _last(trace: TracebackType | None) -> str | None:
    frames = traceback.extract_tb(trace)
    return f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else None
