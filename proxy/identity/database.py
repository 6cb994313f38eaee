"""One set of country data: an MMDB file, read and proved, or the registries' allocations that come with the program.

- Of a record, `country.iso_code` and nothing else: `registered_country` says where a network's owner signed a form.
- Read by maxminddb's reader in Python: the one in C ends the process on some damaged files. It takes tens of
  microseconds, for an address that was not met lately.
- A file is copied into memory when it is opened, so that one which is rewritten in place can neither change nor
  fault what is in use; one that changes while it is copied is refused.
"""

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import iptocc
import maxminddb

from proxy.identity.refused import SourceRefused
from proxy.policy.facts import Address

LARGEST_DATABASE: Final = 1 << 30
"""Bytes of a database that are read; more is refused."""

SEARCHED: Final = 10_000
"""Networks that are read in search of one country when a database is opened."""

_EARLY: Final = 86400.0
"""Seconds that a database may claim to be from the future: clocks differ, files that never age do not pass."""

# The one binary format there is, which the reader in Python takes for granted.
_FORMAT: Final = 2

_PIECE: Final = 1 << 20

# What the reader raises for a damaged file: it says so, or meets text, keys or sizes that cannot be.
_DAMAGE = (
    *(maxminddb.InvalidDatabaseError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(struct.error, MemoryError, RecursionError),
)

FileState = tuple[int, int, int, int, int]
"""Device, inode, size and times of change: another one is another file, or another content."""


_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})


class Unready(SourceRefused):
    """Nothing is known to be wrong with the file: the machine is out of descriptors or memory. Later it may do."""


class Lookup(Protocol):
    """Country data: a code as the data has it for an address that the internet routes, or None."""

    def __call__(self, address: Address, /) -> str | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Database:
    """Data that can be asked. built: when it was made, in epoch seconds, None where it does not say.

    file: the state of the file that it was read from, None for the embedded data.
    """

    lookup: Lookup
    built: float | None = None
    file: FileState | None = None

    def stale_at(self, max_age: float | None) -> float | None:
        """When it outlives max_age and says nothing any more; None for never."""
        return None if self.built is None or max_age is None else self.built + max_age


def _registry(address: Address) -> str | None:
    code = iptocc.country_code(str(address))
    return code if isinstance(code, str) else None


REGISTRY: Final = Database(_registry)
"""What the registries allocated, of the day that the installed iptocc was made. It carries no date."""


def file_state(path: Path) -> FileState | None:
    """The state of a file now; None if there is none that can be looked at."""
    try:
        return _state(os.stat(path))
    except OSError:
        return None


def open_database(path: Path, now: float) -> Database:
    """Read and prove an MMDB file. Reads for up to some tenths of a second; any thread may call it.

    now: seconds since the epoch, against which its date is checked. Raises SourceRefused when it cannot be read, is no
    MMDB, is damaged, comes from the future or knows no country; Unready, which is one, when the cause is elsewhere.
    """
    try:
        descriptor = os.memfd_create("countries", os.MFD_CLOEXEC)
    except OSError as error:
        raise Unready(f"{path}: cannot be read: {error.strerror}") from None
    try:
        try:
            with path.open("rb") as file, open(descriptor, "wb", closefd=False) as copy:
                state = _copied(file, copy, path)
        except OSError as error:
            kind = Unready if error.errno in _OURS else SourceRefused
            raise kind(f"{path}: cannot be read: {error.strerror}") from None
        try:
            reader = maxminddb.open_database(f"/proc/self/fd/{descriptor}", maxminddb.MODE_MMAP)
            if reader.metadata().binary_format_major_version != _FORMAT:
                raise ValueError
            _prove(reader, path)
            built = float(reader.metadata().build_epoch)
        except _DAMAGE:
            raise SourceRefused(f"{path}: not a readable MMDB file") from None
    finally:
        os.close(descriptor)
    if built > now + _EARLY:
        raise SourceRefused(f"{path}: the database is dated in the future")
    return Database(_lookup(reader), built, state)


def _copied(file: BinaryIO, copy: BinaryIO, path: Path) -> FileState:
    state = _state(os.fstat(file.fileno()))
    size = 0
    while piece := file.read(_PIECE):
        size += len(piece)
        if size > LARGEST_DATABASE:
            raise SourceRefused(f"{path}: the database is larger than {LARGEST_DATABASE >> 20} MiB")
        copy.write(piece)
    if _state(os.fstat(file.fileno())) != state:
        raise SourceRefused(f"{path}: it changed while it was read")
    return state


def _state(found: os.stat_result) -> FileState:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _lookup(reader: maxminddb.Reader) -> Lookup:
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


def _prove(reader: maxminddb.Reader, path: Path) -> None:
    """Look across the whole address space for damage, and for one country at least."""
    for address in _probes(reader.metadata().ip_version == 6):
        reader.get(address)
    for searched, (_, record) in enumerate(reader):
        if _iso_code(record) is not None:
            return
        if searched >= SEARCHED:
            break
    raise SourceRefused(f"{path}: the database holds no country.iso_code")


def _probes(six: bool) -> Iterator[Address]:
    yield from (IPv4Address(start << 24) for start in range(256))
    if six:
        yield from (network.network_address for network in IPv6Network("2000::/3").subnets(new_prefix=11))
