"""What a source calls a home, as what the policy calls it."""

from collections.abc import Sequence

from proxy.policy.countries import COUNTRIES
from proxy.policy.settings import Zone


class Places:
    """The zones and the ISO 3166-1 codes, by every name that a source may use.

    A zone's exact name wins over a code that reads the same.
    """

    __slots__ = ("_names",)

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._names = {code: code for code in COUNTRIES}
        self._names |= {code: zone.name for zone in zones for code in zone.countries}
        self._names |= {
            spelling: home
            for code, home in list(self._names.items())
            for spelling in (code.lower(), code[0] + code[1].lower(), code[0].lower() + code[1])
        }
        self._names |= {zone.name: zone.name for zone in zones}

    def home(self, value: str) -> str | None:
        """A zone's name; the upper-case code of a country in no zone; None for anything else."""
        return self._names.get(value)
