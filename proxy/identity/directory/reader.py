"""What the `directory` source asks: one reader a kind of store, and what a reader may say.

A reader keeps nothing: what was found is cached by the source. It may be asked for several keys at once, and
whoever asks gives it a time limit by cancelling: a cancelled look-up leaves the reader as good as before.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

Fault = Literal["refused", "unreachable", "timeout", "login", "protocol", "query", "store", "busy", "closed"]
"""Why a look-up failed.

The store's or the network's: refused (nobody listens), unreachable (name, network, TLS), timeout, busy (more
look-ups at once than the policy allows), protocol (an answer that the store should never give, or that is too
large), store (a file that is missing, damaged or locked; an error that the store reports).
The operator's: login (credentials that are not accepted), query (what the policy asks cannot be asked here: no
such table, wrong columns). Ours: closed (asked after `close`).
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a subject lives.

    home: what the directory says, not yet a zone's name; None where it knows the subject and no home that holds
    now. until: when a change that is dated ahead takes effect (seconds since the epoch), None when none is known
    of; the entry says nothing of that moment or later.
    """

    home: str | None = field(repr=False)
    until: float | None = None


class ReaderFailed(Exception):
    """The directory could not be asked, or made no sense. `fault` says whose fault; nothing here names a key."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault: Fault = fault


class Reader(Protocol):
    """Looks subjects up in one store. Belongs to one event loop; opened without I/O, connects when first asked."""

    async def find(self, key: str, now: float) -> Entry | None:
        """What the store says of this key at `now` (seconds since the epoch); None: it does not know the key.

        key: at least one character, at most 512 bytes as UTF-8, no control characters. Raises ReaderFailed, and
        nothing else but CancelledError.
        """
        ...

    async def close(self) -> None:
        """Let go of connections, files and threads. Look-ups under way may fail; it may be called twice."""
        ...
