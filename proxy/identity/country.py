"""The country of an address: evidence of where a client is, never more than that.

- Without a database, the embedded registry data (iptocc); with one, its `country.iso_code` and nothing else:
  `registered_country` says where a network's owner signed a form.
- Only addresses that the internet routes to one place are looked up. Private, reserved, documentation,
  shared (CGNAT), multicast, 6to4, Teredo and NAT64 addresses are `unknown`, whatever the data says of them.
- Only ISO 3166-1 codes are countries: EU, AP, ZZ, XK and the like are `unknown`.
- A database older than `max_age` knows nothing any more. The embedded data does not say how old it is.
"""

import os
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from time import time
from typing import Protocol

import iptocc
import maxminddb

from proxy.identity.addresses import unmapped
from proxy.identity.networks import Networks
from proxy.identity.refused import SourceRefused
from proxy.identity.remembered import Remembered
from proxy.policy.countries import COUNTRIES
from proxy.policy.facts import UNKNOWN, Address
from proxy.policy.settings import GeoIP

REMEMBERED = 16384
"""Addresses whose country is kept: about 4 MB."""

LARGEST_DATABASE = 1 << 30
"""Bytes of a database that are read; more is refused."""

SEARCHED = 10_000
"""Networks that are read in search of one country when a database is opened."""

_EARLY = 86400.0
"""Seconds that a database may claim to be from the future: clocks differ, files that never age do not pass."""

# What the reader raises for a damaged file: it says so, or meets text, keys or sizes that cannot be.
_DAMAGE = (maxminddb.InvalidDatabaseError, ValueError, KeyError, TypeError, OverflowError, MemoryError, RecursionError)

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


class Lookup(Protocol):
    """Country data: a code as the data has it for an address that the internet routes, or None."""

    def __call__(self, address: Address, /) -> str | None: ...


class Countries:
    """Where addresses are. Made by `open_countries`; belongs to one thread.

    built: when the data was made, seconds since the epoch; None for the embedded data. stale_at: when it
    outlives max_age and every country becomes unknown; None for never.
    """

    __slots__ = ("_clock", "_lookup", "_seen4", "_seen6", "built", "stale_at")

    def __init__(
        self, lookup: Lookup, built: float | None, max_age: float | None, clock: Callable[[], float] = time
    ) -> None:
        self.built = built
        self.stale_at = None if built is None or max_age is None else built + max_age
        self._lookup = lookup
        self._clock = clock
        self._seen4: Remembered[int, str] = Remembered(REMEMBERED)
        self._seen6: Remembered[int, str] = Remembered(REMEMBERED)

    def age(self, now: float) -> float | None:
        """Seconds since the data was made; None for the embedded data."""
        return None if self.built is None else now - self.built

    def country(self, address: Address | None) -> str:
        """Upper-case ISO 3166-1 alpha-2 code, or `unknown`; IPv4-mapped addresses count as IPv4."""
        if address is None or (self.stale_at is not None and self._clock() >= self.stale_at):
            return UNKNOWN
        address = unmapped(address)
        seen = self._seen4 if type(address) is IPv4Address else self._seen6
        key = int(address)
        country = seen.get(key)
        if country is None:
            country = self._find(address)
            seen.put(key, country)
        return country

    def _find(self, address: Address) -> str:
        if address in _NOWHERE:
            return UNKNOWN
        code = self._lookup(address)
        if code is None:
            return UNKNOWN
        code = code.upper()
        return code if code in COUNTRIES else UNKNOWN


def open_countries(geoip: GeoIP, now: float, clock: Callable[[], float] = time) -> Countries:
    """The country data that a policy names, checked.

    now: seconds since the epoch, against which the data's date is checked; clock: the same, whenever a country
    is asked for. Stale data is no error: it answers `unknown`. Raises SourceRefused when the file cannot be
    read, is no MMDB, is damaged, comes from the future or knows no country.
    """
    if geoip.database is None:
        return Countries(_registry, None, geoip.max_age, clock)
    reader = _opened(geoip.database)
    built = float(reader.metadata().build_epoch)
    if built > now + _EARLY:
        raise SourceRefused(f"{geoip.database}: the database is dated in the future")
    return Countries(_database(reader), built, geoip.max_age, clock)


def _registry(address: Address) -> str | None:
    code = iptocc.country_code(str(address))
    return code if isinstance(code, str) else None


def _database(reader: maxminddb.Reader) -> Lookup:
    six = reader.metadata().ip_version == 6

    def lookup(address: Address) -> str | None:
        if type(address) is not IPv4Address and not six:
            return None
        try:
            return _iso_code(reader.get(address))
        except _DAMAGE:  # that opening did not come across: not known
            return None

    return lookup


def _iso_code(record: object) -> str | None:
    country = record.get("country") if isinstance(record, dict) else None
    code = country.get("iso_code") if isinstance(country, dict) else None
    return code if isinstance(code, str) else None


def _opened(path: Path) -> maxminddb.Reader:
    """A reader over a private copy of the file: one that is rewritten in place cannot change or fault it."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_DATABASE + 1)
    except OSError as error:
        raise SourceRefused(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_DATABASE:
        raise SourceRefused(f"{path}: the database is larger than {LARGEST_DATABASE >> 20} MiB")
    descriptor = os.memfd_create("countries", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as copy:
            copy.write(content)
        reader = maxminddb.open_database(f"/proc/self/fd/{descriptor}")
        _proved(reader, path)
    except _DAMAGE:
        raise SourceRefused(f"{path}: not a readable MMDB file") from None
    finally:
        os.close(descriptor)
    return reader


def _proved(reader: maxminddb.Reader, path: Path) -> None:
    """Look across the whole address space for damage, and for one country at least."""
    for start in range(256):
        reader.get(IPv4Address(start << 24))
    if reader.metadata().ip_version == 6:
        for network in IPv6Network("2000::/3").subnets(new_prefix=11):
            reader.get(network.network_address)
    for searched, (_, record) in enumerate(reader):
        if _iso_code(record) is not None:
            return
        if searched >= SEARCHED:
            break
    raise SourceRefused(f"{path}: the database holds no country.iso_code")
