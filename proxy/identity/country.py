"""The country of an address: evidence of where a client is, never more than that.

- What the operator states for a network (`overrides`) wins over all data, for private networks too.
- Of the rest, only addresses that the internet routes to one place are looked up. Private, reserved, documentation,
  shared (CGNAT), multicast, 6to4, Teredo and NAT64 addresses are `unknown`, whatever the data says of them.
- Only ISO 3166-1 codes are countries: EU, AP, ZZ, XK and the like are `unknown`.
- Several databases must agree: all of them, or more than half. One that does not know an address has not agreed, and
  counts; so does one that is older than `max_age`. Where they do not agree the country is `unknown`.
- A database whose file is replaced is replaced here (`renewal.py`); what was remembered is then forgotten.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from math import inf
from pathlib import Path
from time import time
from typing import Final, Literal

from proxy.identity.addresses import unmapped
from proxy.identity.database import REGISTRY, Database, FileState, file_state, open_database
from proxy.identity.networks import Networks
from proxy.identity.overrides import Overrides
from proxy.identity.remembered import Remembered
from proxy.policy.countries import COUNTRIES
from proxy.policy.facts import UNKNOWN, Address
from proxy.policy.settings import CountryOverride, GeoIP

REMEMBERED = 16384
"""Addresses whose country is kept: about 4 MB."""

# IANA's special-purpose registries (RFC 6890 and its updates), multicast, and whatever is not 2000::/3.
_NOWHERE = Networks(
    [
        *map(
            IPv4Network,
            (
                "0.0.0.0/8",
                "10.0.0.0/8",
                "100.64.0.0/10",
                "127.0.0.0/8",
                "169.254.0.0/16",
                "172.16.0.0/12",
                "192.0.0.0/24",
                "192.0.2.0/24",
                "192.88.99.0/24",
                "192.168.0.0/16",
                "198.18.0.0/15",
                "198.51.100.0/24",
                "203.0.113.0/24",
                "224.0.0.0/3",
            ),
        ),
        *map(
            IPv6Network,
            ("::/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "4000::/2", "8000::/1"),
        ),
    ]
)

EMBEDDED: Final = "registry"
"""What the embedded data is called."""


@dataclass(slots=True)
class Replacements:
    """What came of files that took a database's place, since the process began. Only ever rise."""

    loaded: int = 0
    refused: int = 0


class Slot:
    """One database of the policy, and the file that it is read from; `path` is None for the embedded data.

    name: as metrics and logs have it. seen: the file's state when it was looked at last. refused: the state of the
    file that was refused last; what is in use stands for none.
    """

    __slots__ = ("database", "name", "path", "refused", "replacements", "seen")

    def __init__(self, database: Database, name: str = EMBEDDED, path: Path | None = None) -> None:
        self.database = database
        self.name = name
        self.path = path
        self.replacements = Replacements()
        self.seen: FileState | None = database.file
        self.refused: FileState | None = database.file


@dataclass(frozen=True, slots=True)
class Report:
    """One database for a scrape. age: seconds since it was made, None where it does not say."""

    name: str
    age: float | None
    loaded: int
    refused: int


class Countries:
    """Countries by address, from databases that must agree. Made by `open_countries`; belongs to one thread.

    max_age: seconds that a database lasts from its own date, None for ever. clock: seconds since the epoch.
    """

    __slots__ = (
        "_agree",
        "_clock",
        "_from",
        "_lookups",
        "_max_age",
        "_overrides",
        "_seen4",
        "_seen6",
        "_until",
        "slots",
    )

    def __init__(
        self,
        slots: Sequence[Slot],
        *,
        agree: Literal["all", "majority"] = "all",
        max_age: float | None = None,
        overrides: Iterable[CountryOverride] = (),
        clock: Callable[[], float] = time,
    ) -> None:
        self.slots = tuple(slots)
        self._agree = agree
        self._max_age = max_age
        self._overrides = Overrides(overrides)
        self._clock = clock
        self._compose()

    def country(self, address: Address | None) -> str:
        """Upper-case ISO 3166-1 alpha-2 code, or `unknown`; IPv4-mapped addresses count as IPv4."""
        if address is None:
            return UNKNOWN
        if not self._from <= self._clock() < self._until:
            self._compose()
        address = unmapped(address)
        seen = self._seen4 if type(address) is IPv4Address else self._seen6
        key = int(address)
        country = seen.get(key)
        if country is None:
            country = self._find(address)
            seen.put(key, country)
        return country

    def holds_until(self, now: float) -> float | None:
        """The next moment after `now` at which a database goes stale and answers change; None for never."""
        return min((end for end in self._ends() if end > now), default=None)

    def stale(self, now: float) -> bool:
        """Whether so many databases are older than max_age that no address is known but by an override."""
        return not self._enough(sum(not _is_past(slot.database.stale_at(self._max_age), now) for slot in self.slots))

    def replace(self, slot: Slot, database: Database) -> None:
        """Take a database in the place of another; what was remembered is forgotten."""
        slot.database = database
        self._compose()

    def reports(self) -> Iterator[Report]:
        """Each database whose file can be replaced."""
        now = self._clock()
        for slot in self.slots:
            if slot.path is not None:
                built, counts = slot.database.built, slot.replacements
                yield Report(slot.name, None if built is None else now - built, counts.loaded, counts.refused)

    def _ends(self) -> Iterator[float]:
        for slot in self.slots:
            end = slot.database.stale_at(self._max_age)
            if end is not None:
                yield end

    def _compose(self) -> None:
        """Who is asked from now on, until the next of them goes stale or the clock is set back."""
        now = self._clock()
        self._lookups = [
            slot.database.lookup for slot in self.slots if not _is_past(slot.database.stale_at(self._max_age), now)
        ]
        self._from = max((end for end in self._ends() if end <= now), default=-inf)
        self._until = min((end for end in self._ends() if end > now), default=inf)
        self._seen4: Remembered[int, str] = Remembered(REMEMBERED)
        self._seen6: Remembered[int, str] = Remembered(REMEMBERED)

    def _enough(self, votes: int) -> bool:
        return votes == len(self.slots) > 0 if self._agree == "all" else 2 * votes > len(self.slots)

    def _find(self, address: Address) -> str:
        stated = self._overrides.country(address)
        if stated is not None:
            return stated
        if address in _NOWHERE or not self._enough(len(self._lookups)):
            return UNKNOWN
        said = Counter(map(_code, (lookup(address) for lookup in self._lookups)))
        country, votes = said.most_common(1)[0]
        return country if self._enough(votes) else UNKNOWN


def open_countries(
    geoip: GeoIP, now: float, clock: Callable[[], float] = time, old: Countries | None = None
) -> Countries:
    """The country data that a policy names, checked.

    now: seconds since the epoch, against which the data's date is checked; clock: the same, whenever a country is
    asked for. old: the data in force: databases whose files are unchanged carry over; one whose file is older than
    what is in use stays, and `renewal` says so. Stale data is no error: it answers `unknown`. Raises SourceRefused
    when a file cannot be read, is no MMDB, is damaged, comes from the future or knows no country.
    """
    in_use = {} if old is None else {slot.path: slot for slot in old.slots}
    names = Counter(path.name for path in geoip.databases if path is not None)
    slots = []
    for path in geoip.databases:
        if path is None:
            slots.append(Slot(REGISTRY))
            continue
        slot = in_use.get(path)
        database = slot.database if slot is not None and slot.database.file == file_state(path) else None
        if database is None:
            database = open_database(path, now)
            if slot is not None and is_older(database, slot.database):
                database = slot.database
        taken = Slot(database, path.name if names[path.name] == 1 else str(path), path)
        if slot is not None:
            taken.replacements = slot.replacements
            taken.refused = slot.refused if database is slot.database else database.file
        slots.append(taken)
    return Countries(slots, agree=geoip.agree, max_age=geoip.max_age, overrides=geoip.overrides, clock=clock)


def is_older(database: Database, than: Database) -> bool:
    """Whether taking it would be a step back in time."""
    return database.built is not None and than.built is not None and database.built < than.built


def _is_past(end: float | None, now: float) -> bool:
    return end is not None and now >= end


def _code(code: str | None) -> str:
    """What a database says, as a country or `unknown`."""
    if code is None:
        return UNKNOWN
    upper = code.upper()
    return upper if upper in COUNTRIES else UNKNOWN
