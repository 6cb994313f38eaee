"""Cookies of a request (RFC 6265 section 4.2), as far as a source needs them: by exact name."""

from typing import Final

_OWS: Final = b" \t"


def cookie_values(fields: tuple[tuple[bytes, bytes], ...], name: bytes) -> list[bytes]:
    """The values of all cookies of this name, in order, over all Cookie fields; case counts, quotes stay."""
    found: list[bytes] = []
    for field, value in fields:
        if field == b"cookie" and name in value:
            for pair in value.split(b";"):
                key, equals, cookie = pair.partition(b"=")
                if equals and key.strip(_OWS) == name:
                    found.append(cookie.strip(_OWS))
    return found
