"""Request targets and Host (RFC 9112 section 3.2, RFC 9110 section 7.2): one authority, one path.

The bytes of path and query are never changed. An absolute-form target is taken apart: its authority must
be the Host's, and what goes on is its origin form, since a provider that is told another Host than the
target's authority would have two readings.
"""

import re
from dataclasses import dataclass

from proxy.policy.canonical import canonical_host

# Visible ASCII but `#`: a fragment is never sent, and a reader that cuts there sees another path.
TARGET = rb"[!\x22\x24-~]++"

_ABSOLUTE = re.compile(rb"[hH][tT][tT][pP][sS]?://([^/?]*)(.*)")
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Authority:
    """A host in canonical form and its port as text, empty where none was given."""

    host: str
    port: str

    @property
    def wire(self) -> bytes:
        """As it is written in a Host field."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode() if self.port else host.encode()


def read_authority(value: bytes) -> Authority | None:
    """The one reading of a Host field's value; None if it has none or more."""
    match = _AUTHORITY.fullmatch(value)
    if match is None:
        return None
    host = canonical_host(match[1].decode("ascii"))
    if host is None:
        return None
    if match[2] is None:
        return Authority(host, "")
    port = int(match[2])
    return Authority(host, str(port)) if 0 < port < 65536 else None


def split_absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """(authority, path and query) of an http or https absolute-form target; None if it is not one.

    The second is empty or begins with `/` or `?`.
    """
    match = _ABSOLUTE.fullmatch(target)
    return None if match is None else (match[1], match[2])
