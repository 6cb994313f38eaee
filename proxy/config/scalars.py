"""Readers of single values: each takes text and gives the value, or raises Wrong.

Figures are bounded where a larger one could only be a slip, so that nothing downstream overflows.
"""

import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit

from proxy.config.note import VALUE, Wrong, did_you_mean, quoted

T = TypeVar("T")

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB|TiB)?")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)(%?)")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?P<offset>[Zz]|[+-]\d{2}:\d{2})?")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_RESERVED = frozenset({"unknown", "any", "none"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_URL = re.compile(r"https?://[!#$%&()*+,./0-9:;=?@A-Z\[\]_a-z~-]+")


def read_duration(text: str) -> float:
    """Seconds, more than none."""
    seconds = read_grace(text)
    if seconds == 0:
        raise Wrong(f"{VALUE} is no time at all", "write more than 0")
    return seconds


def read_grace(text: str) -> float:
    """Seconds, perhaps none."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise Wrong(f"{VALUE} is no duration", "write a number with ms, s, m, h or d, such as 250ms or 30s")
    return float(match[1]) * _SECONDS[match[2]]


def read_leeway(text: str) -> float:
    """Seconds, at most five minutes: more would keep expired tokens alive."""
    seconds = read_grace(text)
    if seconds > 300:
        raise Wrong(f"{VALUE} is too long a leeway", "write at most 5m")
    return seconds


def read_size(text: str) -> int:
    """Bytes, more than none."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Wrong(f"{VALUE} is no size", "write bytes or a number with KiB, MiB or GiB, such as 32KiB")
    size = int(match[1]) * _BYTES[match[2] or "B"]
    if not 0 < size < 1 << 60:
        raise Wrong(f"{VALUE} is no sensible size", "write more than 0 bytes and less than an exbibyte")
    return size


def read_count(text: str) -> int:
    """A whole number of at least one."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise Wrong(f"{VALUE} is no count", "write a whole number of at least 1")
    return int(text)


def read_weight(text: str) -> float:
    """A share: any number from zero."""
    if not _NUMBER.fullmatch(text):
        raise Wrong(f"{VALUE} is no weight", "write a number from 0 up, such as 95")
    return float(text)


def read_number(text: str) -> float:
    """Any number from zero."""
    if not _NUMBER.fullmatch(text):
        raise Wrong(f"{VALUE} is no number", "write one from 0 up, such as 2 or 0.5")
    return float(text)


def read_share(text: str) -> float:
    """A part of the whole, from 0 to 1: written as a percentage, or as that number."""
    match = _SHARE.fullmatch(text)
    share = -1.0 if match is None else float(match[1]) / 100 if match[2] else float(match[1])
    if not 0.0 <= share <= 1.0:
        suggestion = f"write {text}%" if _NUMBER.fullmatch(text) and 1 < float(text) <= 100 else None
        raise Wrong(f"{VALUE} is no share", "write 0% to 100%, or 0 to 1", suggestion=suggestion)
    return share


def read_factor(text: str) -> float:
    """How many times as much: above 1."""
    if not _NUMBER.fullmatch(text) or not 1.0 < float(text) <= 1000.0:
        raise Wrong(f"{VALUE} is no factor", "write a number above 1 and up to 1000, such as 1.5")
    return float(text)


def read_flag(text: str) -> bool:
    """`true` or `false`."""
    if text not in ("true", "false"):
        meant = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
        guess = meant.get(text.lower(), text.lower())
        suggestion = f"write {guess}" if guess in ("true", "false") else None
        raise Wrong(f"{VALUE} is neither true nor false", "write true or false", suggestion=suggestion)
    return text == "true"


def read_instant(text: str) -> float:
    """Seconds since the epoch, of an ISO 8601 time with its offset."""
    match = _INSTANT.fullmatch(text)
    if match is None and _DAY.fullmatch(text):
        suggestion = f"write {text}T00:00:00Z, or the offset of where the law says so"
        raise Wrong(f"{VALUE} is a day, not a moment", "add a time and an offset", suggestion=suggestion)
    if match is None:
        raise Wrong(f"{VALUE} is no time", "write it as 2031-12-27T00:00:00Z or with an offset such as +08:00")
    if match["offset"] is None:
        raise Wrong(f"{VALUE} has no offset", "end it with Z or an offset such as +08:00")
    try:
        moment = datetime.fromisoformat(text.upper())
        return moment.timestamp()
    except (ValueError, OverflowError) as error:
        raise Wrong(f"{VALUE} is no time", "there is no such moment in the calendar") from error


def read_name(text: str) -> str:
    """A name that a policy gives: lower case, digits and hyphens."""
    if not _NAME.fullmatch(text):
        guess = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-0123456789")
        suggestion = f"such as {quoted(guess)}" if _NAME.fullmatch(guess) else None
        raise Wrong(
            f"{VALUE} is no name",
            "names are lower-case letters, digits and hyphens, and begin with a letter",
            suggestion=suggestion,
        )
    if text in _RESERVED:
        raise Wrong(f"the name {VALUE} is reserved", "choose another")
    if len(text) > 64:
        raise Wrong(f"the name {VALUE} is too long", "keep it to 64 characters")
    return text


def read_text(text: str) -> str:
    """Any text on one line, without white space around it."""
    if not text.strip():
        raise Wrong("the text is empty", "write something, or leave the key out")
    if not text.isprintable():
        raise Wrong("the text has a character that is not printable", "keep it on one line")
    if text != text.strip():
        raise Wrong("the text has white space around it", "remove it")
    if len(text) > 1024:
        raise Wrong("the text is too long", "keep it to 1,024 characters")
    return text


def read_prose(text: str) -> str:
    """Text that may run over lines in the file: white space becomes single spaces."""
    return read_text(" ".join(text.split()))


def read_claim(text: str) -> str:
    """A claim's name; dots go down."""
    if any(not part or part != part.strip() for part in read_text(text).split(".")):
        raise Wrong(f"{VALUE} is no claim", "write a claim's name, with dots to go down, such as act.role")
    return text


def read_authority(text: str) -> str:
    """A URL that can stand in a Link field (RFC 8288): no spaces, quotes or angle brackets."""
    if not _URL.fullmatch(text):
        raise Wrong(f"{VALUE} is no http or https address", "write https://..., without spaces, quotes or brackets")
    try:
        host = urlsplit(text).hostname
    except ValueError:
        host = None
    if not host:
        raise Wrong(f"{VALUE} has no host", "write https://...")
    return text


def read_method(text: str) -> str:
    """A method's name, `read` or `write`."""
    if text in ("read", "write"):
        return text
    return read_token_method(text, ("read", "write"))


def read_token_method(text: str, words: Collection[str] = ()) -> str:
    """A method's name as it is sent."""
    if not _TOKEN.fullmatch(text) or len(text) > 32:
        raise Wrong(f"{VALUE} is no method", "write a method's name such as GET")
    if text != text.upper():
        suggestion = did_you_mean(text, words) or f"write {quoted(text.upper())}"
        raise Wrong(f"{VALUE} is no method", "methods are upper case", suggestion=suggestion)
    return text


def is_token(text: str) -> bool:
    """Whether it can be a header field's name (RFC 9110 section 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def or_none(read: Callable[[str], T]) -> Callable[[str], T | None]:
    """A reader that also takes `none`, for None."""

    def read_or_none(text: str) -> T | None:
        if text == "none":
            return None
        try:
            return read(text)
        except Wrong as wrong:
            hint = "write none" if wrong.hint is None else f"{wrong.hint}, or none"
            raise Wrong(wrong.what, hint, suggestion=wrong.suggestion) from None

    return read_or_none


def one_of(known: tuple[str, ...], later: frozenset[str] = frozenset()) -> Callable[[str], str]:
    """A reader of one of these words; those of `later` are known and not built."""

    def read(text: str) -> str:
        if text in known:
            return text
        if text in later:
            raise not_built(VALUE)
        hint = f"write {' or '.join(filter(None, (', '.join(known[:-1]), known[-1])))}"
        raise Wrong(
            f"{VALUE} is not among the choices", hint, suggestion=did_you_mean(text, known) if len(known) > 2 else None
        )

    return read


def not_built(what: str) -> Wrong:
    """The answer to what DESIGN names and this version does not do."""
    return Wrong(f"{what} is not available in this version", "leave it out")
