"""What a table of bad inputs is, so that `test_bad_inputs` can try all of them in one way.

A module in this folder has `TABLES`: each says what its policy's `subject` holds, what is accepted, and what is not.
Rows are made when they are asked for, so that tokens and certificates are fresh; `good` is tried first, and must
reach a provider.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.identity.house import STRANGER

Bytes = Callable[[], bytes]


@dataclass(frozen=True)
class Row:
    """One bad input. data: all that a client sends, from its first byte. status: what it is answered."""

    data: Bytes
    status: int = 401


@dataclass(frozen=True)
class Table:
    """Bad inputs for one policy.

    sources: of `subject`, as `house` takes them. files: writes what they name into the policy's folder. more: further
    listeners. listener, source: where the rows are sent, and from which address (`house.PROXY` is trusted).
    credential: what of a good input may be changed at random, so that it is not a good one any more; empty for none.
    rules: further rules; None for one that lets everybody in whose home is unknown.
    """

    name: str
    sources: str
    good: Bytes
    rows: Mapping[str, Row]
    files: Callable[[Path], None] = field(default=lambda folder: None)
    more: str = ""
    listener: str = "edge"
    source: str = STRANGER
    credential: Bytes = field(default=lambda: b"")
    rules: str | None = None


def rows(status: int, made: Mapping[str, Bytes]) -> dict[str, Row]:
    """Rows of one status."""
    return {name: Row(data, status) for name, data in made.items()}
