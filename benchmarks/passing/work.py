"""The work: what clients ask for, in each of the lines that the table has."""

from dataclasses import dataclass

from benchmarks.work import KIB, MIB

REQUEST = 12
"""Bytes of a request: the size of its answer, in so many digits."""


def request(answer: int) -> bytes:
    """What asks for so many bytes."""
    return b"%0*d" % (REQUEST, answer)


@dataclass(frozen=True, slots=True)
class Passing:
    """One line of the table.

    answer: bytes. connections: how many at once, each with one request in flight. keep: false makes every request a new
    connection. per: what one figure is for, as a table says it. brief: shorter rounds do.
    """

    name: str
    answer: int
    connections: int
    keep: bool
    per: str
    brief: bool = False

    @property
    def pieces(self) -> float:
        """How many of what a figure is for one answer makes."""
        return self.answer / MIB if self.answer >= KIB else 1.0


PASSING = (
    Passing("passed, 12 B", 12, connections=16, keep=True, per="an exchange"),
    Passing("passed, 12 B, new connections", 12, connections=16, keep=False, per="a connection"),
    Passing("passed, 1 MiB", MIB, connections=4, keep=True, per="a MiB", brief=True),
    Passing("passed, 1 MiB, new connections", MIB, connections=4, keep=False, per="a MiB", brief=True),
    Passing("passed, 100 MiB", 100 * MIB, connections=4, keep=True, per="a MiB", brief=True),
)
