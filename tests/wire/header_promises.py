"""What read_proxy_header promises, whatever the bytes: held by the tests, and by the fuzzer of fuzz/proxy_header.py."""

from collections.abc import Iterable
from itertools import pairwise

from proxy.wire.proxy_header import (
    CRC32C,
    LIMIT,
    LONGEST_LINE,
    SIGNATURE,
    Absent,
    Header,
    Incomplete,
    Malformed,
    proxy_header,
    proxy_line,
    read_proxy_header,
)

CAUSES = frozenset(
    {
        "a line feed alone",
        "a carriage return alone",
        "the line is too long",
        "not a line of version 1",
        "a port out of bounds",
        "not an address",
        "an unknown version",
        "an unknown command",
        "an unknown family or protocol",
        "the header is too large",
        "lengths disagree",
        "a field is repeated",
        "the unique id is too long",
        "the checksum is wrong",
    }
)

Found = Header | Absent | Incomplete | Malformed


def keep(data: bytes, cuts: Iterable[int]) -> None:
    """Every promise, for `data` and for what was there when reading was cut at each of `cuts`."""
    found = read_proxy_header(data)
    _in_bounds(data, found)
    beginnings = [(data[:cut], read_proxy_header(data[:cut])) for cut in sorted({*cuts, len(data)}) if cut <= len(data)]
    for beginning, earlier in beginnings:
        _in_bounds(beginning, earlier)
        if not isinstance(earlier, Incomplete):
            assert found == earlier, "what was said of the beginning stands"
        elif isinstance(found, Header):
            assert len(beginning) < earlier.needed <= found.length, "no more is waited for than the header is long"
    for (_, earlier), (more, later) in pairwise(beginnings):
        if isinstance(earlier, Incomplete) and isinstance(later, Incomplete):
            assert earlier.needed <= later.needed, "what is needed never becomes less"
        if isinstance(earlier, Incomplete) and isinstance(later, Header | Absent):
            assert len(more) >= earlier.needed or isinstance(later, Absent), "nothing is read before it is there"
    end = _by_the_hints(data, found)
    if isinstance(found, Header):
        assert end == found.length, "whoever waits as told has read the header and no byte more"
        _whole(data, found)


def _in_bounds(data: bytes, found: Found) -> None:
    if isinstance(found, Incomplete):
        assert len(data) < found.needed <= LIMIT
    elif isinstance(found, Malformed):
        assert found.cause in CAUSES
    elif isinstance(found, Header):
        assert found.length <= min(len(data), LONGEST_LINE if found.version == 1 else LIMIT)
        assert (found.source is None) == (found.destination is None)
        assert found.version == 2 or not (found.fields or found.tls or found.local)
        assert not found.local or not (found.source or found.fields or found.tls)


def _by_the_hints(data: bytes, found: Found) -> int:
    """Whoever waits for as much as was asked for, each time, reads the same. How far that reading got."""
    have = 0
    while isinstance(step := read_proxy_header(data[:have]), Incomplete) and step.needed <= len(data):
        have = step.needed
    # What was refused already may be waited on a little longer; what is whole is not.
    assert step == found or (isinstance(step, Incomplete) and not isinstance(found, Header))
    return have


def _whole(data: bytes, found: Header) -> None:
    alone = data[: found.length]
    assert isinstance(read_proxy_header(alone[:-1]), Incomplete)
    assert read_proxy_header(alone) == read_proxy_header(alone + b"\0GET ") == found, "what follows is not seen"
    line = proxy_line(found.source, found.destination)
    again = read_proxy_header(line)
    assert isinstance(again, Header)
    assert (again.length, again.source, again.destination) == (len(line), found.source, found.destination)
    fields = tuple(field for field in found.fields if field[0] != CRC32C)
    for checksum in (False, True):
        if checksum and found.length > LIMIT - 7:
            continue
        header = proxy_header(found.source, found.destination, fields, local=found.local, checksum=checksum)
        again = read_proxy_header(header)
        assert isinstance(again, Header)
        assert (again.length, again.local, again.tls) == (len(header), found.local, found.tls)
        assert (again.source, again.destination) == (found.source, found.destination)
        assert tuple(field for field in again.fields if field[0] != CRC32C) == fields


def with_fields(fields: bytes) -> bytes:
    """A version 2 header that ends in these, whatever they are."""
    content = bytes(12) + fields
    return SIGNATURE + b"\x21\x11" + len(content).to_bytes(2, "big") + content
