"""A writer of small MMDB files (the MaxMind DB format, version 2.0, 24-bit records)."""

import struct
from ipaddress import IPv4Network, ip_network
from typing import Any


def encoded(value: object) -> bytes:
    """One value of the data section: text, mappings, lists, booleans and unsigned numbers."""
    if isinstance(value, str):
        content = value.encode()
        return _control(2, len(content)) + content
    if isinstance(value, bool):
        return _control(14, int(value))
    if isinstance(value, int):
        return _unsigned(6, value)
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(map(encoded, value))
    if isinstance(value, dict):
        return _control(7, len(value)) + b"".join(
            encoded(name) + (_unsigned(_NUMBERS[name], member) if name in _NUMBERS else encoded(member))
            for name, member in value.items()
        )
    raise TypeError(type(value))


# The metadata's numbers that are not uint32 (6): readers insist on uint16 (5) and uint64 (9).
_NUMBERS = {
    "record_size": 5,
    "ip_version": 5,
    "binary_format_major_version": 5,
    "binary_format_minor_version": 5,
    "build_epoch": 9,
}


def _unsigned(kind: int, value: int) -> bytes:
    content = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return _control(kind, len(content)) + content


def _control(kind: int, size: int) -> bytes:
    extended = b"" if kind <= 7 else bytes([kind - 7])
    first = (kind if kind <= 7 else 0) << 5
    if size < 29:
        return bytes([first | size]) + extended
    return bytes([first | 29]) + extended + bytes([size - 29])


def mmdb(records: dict[str, Any], build_epoch: int, ip_version: int = 6, **metadata: Any) -> bytes:
    """A database in which each network has its record; later and longer networks win."""
    nodes: list[list[int | None]] = [[None, None]]
    data = bytearray()
    leaves: dict[tuple[int, int], int] = {}
    for text, record in records.items():
        network = ip_network(text)
        bits, length = int(network.network_address), network.max_prefixlen
        path = f"{bits:0{length}b}"[: network.prefixlen]
        if isinstance(network, IPv4Network) and ip_version == 6:
            path = "0" * 96 + path
        node = 0
        for step in path[:-1]:
            following = nodes[node][int(step)]
            if following is None:
                nodes.append([None, None])
                following = nodes[node][int(step)] = len(nodes) - 1
            node = following
        leaves[node, int(path[-1])] = len(data)
        data += encoded(record)
    tree = bytearray()
    for index, branches in enumerate(nodes):
        for side, following in enumerate(branches):
            offset = leaves.get((index, side))
            value = len(nodes) if following is None else following
            if offset is not None:
                value = len(nodes) + 16 + offset
            tree += struct.pack(">I", value)[1:]
    about = {
        "node_count": len(nodes),
        "record_size": 24,
        "ip_version": ip_version,
        "database_type": "Test-Country",
        "languages": ["en"],
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": build_epoch,
        "description": {"en": "made for tests"},
    }
    return bytes(tree + bytes(16) + data) + b"\xab\xcd\xefMaxMind.com" + encoded(about | metadata)
