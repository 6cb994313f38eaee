"""What stores without columns say of a subject: a home, or a JSON object with a change that is dated ahead.

    eu
    {"home": "eu", "until": "2027-01-01T00:00:00+08:00", "then": "cn-mainland"}

until: seconds since the epoch, or ISO 8601 with an offset. then: the home from that moment on; left out or null,
none. A home that is null is none.
"""

from datetime import datetime
from math import isfinite

from proxy.identity.directory.reader import Entry, ReaderFailed
from proxy.identity.strict import json_object

LARGEST_RECORD = 4096
"""Bytes of what a store says of one subject; more makes no sense."""

LONGEST_HOME = 64
"""Characters of a home: no zone's name is longer."""

_LATEST = 2.0**53


def read_record(text: bytes, now: float) -> Entry | None:
    """A bare home, or an object; nothing at all is no entry. Raises ReaderFailed("protocol")."""
    if len(text) > LARGEST_RECORD:
        raise ReaderFailed("protocol")
    if not text.startswith(b"{"):
        try:
            home = text.decode().strip()
        except UnicodeDecodeError:
            raise ReaderFailed("protocol") from None
        return Entry(checked_home(home)) if home else None
    return read_object(text, now)


def read_object(text: bytes, now: float) -> Entry:
    """The object form alone. Raises ReaderFailed("protocol")."""
    try:
        members = json_object(text)
    except ValueError:
        raise ReaderFailed("protocol") from None
    if "home" not in members:
        raise ReaderFailed("protocol")
    if "until" not in members:
        if "then" in members:
            raise ReaderFailed("protocol")
        return Entry(checked_home(members["home"]))
    until = _moment(members["until"])
    before, after = checked_home(members["home"]), checked_home(members.get("then"))
    return Entry(before, until) if now < until else Entry(after)


def checked_home(home: object) -> str | None:
    """A home of a sensible shape, or None. Raises ReaderFailed("protocol")."""
    if home is None:
        return None
    if not isinstance(home, str) or not 0 < len(home) <= LONGEST_HOME or not home.isprintable():
        raise ReaderFailed("protocol")
    return home


def _moment(value: object) -> float:
    if type(value) is str:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ReaderFailed("protocol") from None
        if moment.tzinfo is None:
            raise ReaderFailed("protocol")
        return moment.timestamp()
    if (type(value) is int or type(value) is float) and isfinite(value) and 0 <= value <= _LATEST:
        return float(value)
    raise ReaderFailed("protocol")
