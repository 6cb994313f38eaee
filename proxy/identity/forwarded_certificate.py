"""A client's certificate in the words of the proxy that spoke TLS with it: Client-Cert, Client-Cert-Chain (RFC 9440).

Only a trusted proxy's are read, and read one way: each field once, a byte sequence (RFC 8941 section 3.3.5) in
canonical base64 without parameters, the chain a list of such. Whatever else stands there is a credential that does
not verify. A chain without its certificate is one too (RFC 9440 section 2.3).
"""

import re
from base64 import b64decode, b64encode
from binascii import Error
from typing import Final

from proxy.identity.claims import Refused

LARGEST: Final = 16 << 10
"""Bytes of one certificate."""

LONGEST_CHAIN: Final = 8
"""Certificates of Client-Cert-Chain."""

CLIENT_CERT: Final = b"client-cert"
CLIENT_CERT_CHAIN: Final = b"client-cert-chain"
NAMES: Final = frozenset({CLIENT_CERT, CLIENT_CERT_CHAIN})

_BYTES = re.compile(rb":([A-Za-z0-9+/]*={0,2}):")
_BETWEEN = re.compile(rb"[ \t]*,[ \t]*")


def forwarded(fields: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, tuple[bytes, ...]] | None:
    """The certificate and what stands between it and a root, DER; None where none was forwarded. Raises Refused."""
    leaf: bytes | None = None
    chain: bytes | None = None
    for name, value in fields:
        if name == CLIENT_CERT:
            if leaf is not None:
                raise Refused("repeated")
            leaf = value
        elif name == CLIENT_CERT_CHAIN:
            if chain is not None:
                raise Refused("repeated")
            chain = value
    if leaf is None:
        if chain is not None:
            raise Refused("malformed")
        return None
    listed = [] if not chain else _BETWEEN.split(chain)
    if len(listed) > LONGEST_CHAIN:
        raise Refused("oversize")
    return _sequence(leaf), tuple(map(_sequence, listed))


def byte_sequence(data: bytes) -> bytes:
    """As Client-Cert carries it."""
    return b":%b:" % b64encode(data)


def _sequence(value: bytes) -> bytes:
    match = _BYTES.fullmatch(value)
    if match is None:
        raise Refused("malformed")
    if len(match[1]) > LARGEST * 4 // 3 + 4:
        raise Refused("oversize")
    try:
        data = b64decode(match[1], validate=True)
    except Error:
        raise Refused("malformed") from None
    if not data:
        raise Refused("empty")
    if b64encode(data) != match[1]:
        raise Refused("malformed")
    return data
