"""What the master and a worker say to each other, pickled: both ends are one program of one version.

    master                          worker
    Lend, Prepare   ------------->  opens what the policy needs, beside what serves
                    <-------------  Prepared | Refused
    Commit          ------------->  swaps
                    <-------------  InForce
    Abandon         ------------->  throws away what was lent and prepared

A worker reports each second, and at once when asked.
"""

import pickle
from dataclasses import dataclass

from proxy.admin import WorkerReport
from proxy.server.listening import Key
from proxy.telemetry.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Lend:
    """Listening sockets, in the order of their descriptors: each key as often as it has sockets."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Prepare:
    """A policy, pickled by itself so that it can be read beside the loop."""

    policy: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """Put in force what was prepared."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Forget what was prepared."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Report now."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Listen no more, finish within `grace` seconds, end. Said again: at once."""

    grace: float


Order = Lend | Prepare | Commit | Abandon | Ask | Drain


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was asked for is open; nothing can fail any more."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be opened: a line for each mistake. Nothing has changed."""

    mistakes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InForce:
    """The policy of this digest decides from now on."""

    digest: str


@dataclass(frozen=True, slots=True)
class Reported:
    """State, and every count so far."""

    report: WorkerReport
    snapshot: Snapshot


Answer = Prepared | Refused | InForce | Reported


def packed(message: Order | Answer) -> bytes:
    """As a frame."""
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


def order(frame: bytes) -> Order:
    """What the master said."""
    found: Order = pickle.loads(frame)  # noqa: S301 - from our own master, through a socket pair
    return found


def answer(frame: bytes) -> Answer:
    """What a worker said."""
    found: Answer = pickle.loads(frame)  # noqa: S301 - from our own worker, through a socket pair
    return found
