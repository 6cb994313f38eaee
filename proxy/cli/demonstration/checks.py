"""What must hold, and what was seen."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation. says: what was seen, as a sentence. holds: whether it is what had to be."""

    says: str
    holds: bool


class Checks:
    """All checks of a run; each is shown as it is made."""

    def __init__(self, show: Callable[[Check], None]) -> None:
        self._show = show
        self.made: list[Check] = []

    def __call__(self, says: str, holds: bool) -> None:
        check = Check(says, holds)
        self.made.append(check)
        self._show(check)

    def note(self, says: str, holds: bool) -> None:
        """As a call, for what another part of the screen shows; it is shown here only if it does not hold."""
        check = Check(says, holds)
        self.made.append(check)
        if not holds:
            self._show(check)

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.made if not check.holds]
