"""JSON and base64url of tokens and key sets, read one way only."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+")


def base64url(text: bytes) -> bytes:
    """RFC 7515 2: no padding, no line breaks, no stray bits. Raises ValueError."""
    if not _BASE64URL.fullmatch(text):
        raise ValueError("not base64url")
    decoded = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if urlsafe_b64encode(decoded).rstrip(b"=") != text:
        raise ValueError("not canonical base64url")
    return decoded


def json_object(text: bytes) -> dict[str, object]:
    """A JSON object in UTF-8, no name twice at any depth, no NaN. Raises ValueError without the text in it."""
    try:
        value = _DECODER.decode(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("not strict JSON") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name twice")
    return members


def _no_constant(name: str) -> object:
    raise ValueError("a number that JSON has not")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)
