"""What of a request a directory is asked about.

- A key header is believed from trusted proxies only; from anybody else it is not there, and no provider sees it.
- A header that is there twice, or beside a twin that CGI-like readers take for it (`X_Account`), is unusable:
  providers could read the other one.
- A token's or a certificate's subject is a key only if a source of that kind verified it.
- A path without a canonical form is unusable where paths are keys: being ambiguous must not be a way around.
"""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

from proxy.identity.answers import Cause, Silent
from proxy.identity.evidence import Evidence
from proxy.policy.subject import DirectoryKey

LONGEST_KEY: Final = 512
"""Bytes of a key as UTF-8."""

FindKey = Callable[[Evidence, Silent], str | None]
"""The key of a request, None for none. Raises UnusableKey."""

# What CGI-like readers make one name of; as `proxy.wire.request_writer` has it.
_TWIN: Final = bytes.maketrans(b"!#$%&'*+.^_`|~", b"-" * 14)


class UnusableKey(Exception):
    """The client's, or the trusted proxy's: a key that cannot be looked up. Carries a cause and nothing of it."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause: Cause = cause


def find_key(key: DirectoryKey) -> FindKey:
    """How this key is found. What it gives may still be unusable: see `usable`."""
    match key.kind:
        case "header":
            return _of_header(key.text.encode("ascii"))
        case "token":
            return lambda evidence, known: known.subject if known.source == "jwt" else None
        case "certificate":
            return lambda evidence, known: known.subject if known.source == "client_certificate" else None
        case "sni":
            return lambda evidence, known: evidence.sni
        case "path":
            return _of_path(_path_pattern(key.text))
        case "host":
            return _of_host(_pattern(key.text, "[^.]+"))


def usable(key: str) -> str:
    """The key, if it can be looked up. Raises UnusableKey."""
    if len(key) > LONGEST_KEY or len(key.encode()) > LONGEST_KEY:
        raise UnusableKey("oversize")
    if not key.isprintable():
        raise UnusableKey("malformed")
    return key


def _of_header(wanted: bytes) -> FindKey:
    dashed, length = wanted.translate(_TWIN), len(wanted)

    def find(evidence: Evidence, known: Silent) -> str | None:
        if not evidence.trusted:
            return None
        found: bytes | None = None
        for name, value in evidence.fields:
            if len(name) == length and (name == wanted or name.translate(_TWIN) == dashed):
                if found is not None or name != wanted:
                    raise UnusableKey("repeated")
                found = value
        if not found:
            return None  # how some proxies write that nobody is logged in
        try:
            return found.decode()
        except UnicodeDecodeError:
            raise UnusableKey("malformed") from None

    return find


def _of_path(pattern: re.Pattern[str]) -> FindKey:
    def find(evidence: Evidence, known: Silent) -> str | None:
        if evidence.path is None:
            raise UnusableKey("ambiguous")
        match = pattern.fullmatch(evidence.path)
        return None if match is None else unquote(match[1])

    return find


def _of_host(pattern: re.Pattern[str]) -> FindKey:
    def find(evidence: Evidence, known: Silent) -> str | None:
        match = pattern.fullmatch(evidence.host)
        return None if match is None else match[1]

    return find


def _pattern(text: str, anything: str) -> re.Pattern[str]:
    before, _, after = text.partition("{}")
    return re.compile(f"{re.escape(before)}({anything}){re.escape(after)}")


def _path_pattern(text: str) -> re.Pattern[str]:
    if not text.endswith("/*"):
        return _pattern(text, "[^/]+")
    return re.compile(_pattern(text.removesuffix("/*"), "[^/]+").pattern + "(?:/.*)?")
