"""The `home_cookie` source: what a stronger source said of this device, remembered by the device itself.

    1.KEY.HOME.END.MAC      such as 1.5f0c9a1b.cn-mainland.7cdf4100.f3Zk...

- KEY names the key (the start of its own digest), END is when it ends, in hexadecimal seconds since the epoch, MAC is
  HMAC-SHA256 over all of it, the cookie's name and the host that it was set for. The first key signs, all verify.
- It holds a home and nothing of whom it was set for. END falls on one of few moments (`grain`), and nothing is
  random, so that many devices have the same cookie and none is told apart by it.
- It speaks for a device while nobody was verified and nothing says that an account is concerned, and is silent
  then: whoever uses the device may not be whom it was set for.
- One that ended is silence. One that does not verify, twice the same cookie, or one of another host is invalid.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from proxy.identity.answers import Home, Invalid, Kind, Silent
from proxy.identity.cookies import cookie_values
from proxy.identity.evidence import Evidence
from proxy.identity.refused import SourceRefused
from proxy.policy.facts import UNKNOWN
from proxy.policy.subject import HomeCookie

SMALLEST_KEY: Final = 32
"""Bytes of a key: as many as the MAC has (RFC 2104 section 3)."""

LARGEST_KEY: Final = 1024
"""Bytes of a key file; more is another file."""

GRAINS: Final = 8
"""Parts of its life that a cookie's end is rounded down to: a device's first request is not told from another's."""

LONGEST_GRAIN: Final = 86400.0
"""Seconds between two moments at which cookies end, at most."""

STRONGER: Final = frozenset({"jwt", "client_certificate", "directory", "proxy_header"})
"""The sources whose homes are remembered."""

_VALUE = re.compile(rb"1\.([0-9a-f]{8})\.([a-z][a-z0-9-]{0,63}|[A-Z]{2})\.([0-9a-f]{1,10})\.([A-Za-z0-9_-]{43})")

_NONE = Silent(why="no-credential")
_ACCOUNT = Silent(why="account")
_ENDED = Silent(why="expired")

State = Literal["none", "good", "ended", "wrong"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a request shows of the cookie. home, end: of one that verified."""

    state: State
    home: str = field(default="", repr=False)
    end: float = 0.0


_NOT_SHOWN = Shown("none")
_WRONG = Shown("wrong")


@dataclass(frozen=True, slots=True)
class _Key:
    name: bytes
    secret: bytes = field(repr=False)


class HomeCookies:
    """Reads and makes the cookies of one policy."""

    __slots__ = ("_grain", "_keys", "_name", "max_age", "name")

    def __init__(self, name: str, keys: tuple[bytes, ...], max_age: float) -> None:
        """keys: the first signs, all verify."""
        self.name = name
        self.max_age = max_age
        self._name = name.encode("ascii")
        self._grain = max(1.0, min(LONGEST_GRAIN, max_age / GRAINS))
        self._keys = tuple(
            _Key(sha256(b"domicile home cookie key\0" + key).hexdigest()[:8].encode(), key) for key in keys
        )

    def read(self, fields: tuple[tuple[bytes, bytes], ...], host: str, now: float) -> Shown:
        """What these fields show, at a host in canonical form."""
        values = cookie_values(fields, self._name)
        if not values:
            return _NOT_SHOWN
        match = _VALUE.fullmatch(values[0])
        if match is None or len(values) > 1:
            return _WRONG
        key = next((each for each in self._keys if each.name == match[1]), None)
        signed = values[0][: match.start(4)]
        if key is None or not hmac.compare_digest(self._mac(key, signed, host), match[4]):
            return _WRONG
        end = float(int(match[3], 16))
        return Shown("good" if now < end else "ended", match[2].decode("ascii"), end)

    def line(self, home: str, host: str, now: float) -> bytes:
        """The Set-Cookie field that remembers a home at this host from now on, without CRLF."""
        end = (now + self.max_age) // self._grain * self._grain
        key = self._keys[0]
        signed = b"1.%b.%b.%x." % (key.name, home.encode("ascii"), int(end))
        return self._field(signed + self._mac(key, signed, host), max(1, int(end - now)))

    def clearing(self) -> bytes:
        """The Set-Cookie field that takes the cookie away."""
        return self._field(b"", 0)

    def _field(self, value: bytes, age: int) -> bytes:
        # Caches leave the field out of what they keep (RFC 9111 section 5.2.2.4): it is not for whoever comes next.
        return (
            b"Set-Cookie: %b=%b; Max-Age=%d; Path=/; Secure; HttpOnly; SameSite=Lax\r\n" % (self._name, value, age)
            + b'Cache-Control: no-cache="Set-Cookie"'
        )

    def _mac(self, key: _Key, signed: bytes, host: str) -> bytes:
        bound = b"\0".join((b"domicile home cookie", self._name, host.encode("ascii"), signed))
        return urlsafe_b64encode(hmac.digest(key.secret, bound, "sha256")).rstrip(b"=")


class HomeCookieSource:
    """Believes a cookie that verifies while nobody was verified."""

    __slots__ = ("cookies", "hidden_cookies")

    kind: Kind = "home_cookie"

    def __init__(self, cookies: HomeCookies, forward: bool) -> None:
        self.cookies = cookies
        self.hidden_cookies = frozenset() if forward else frozenset({cookies.name.encode("ascii")})

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Home | Silent | Invalid:
        shown = self.cookies.read(evidence.fields, evidence.host, now)
        if shown.state == "none":
            return _NONE
        if shown.state == "wrong":
            return Invalid("home_cookie", "signature")
        if shown.state == "ended":
            return _ENDED
        if known.subject is not None or known.account:
            return _ACCOUNT
        return Home(shown.home, None, UNKNOWN, shown.end)

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        return frozenset()


def open_home_cookie(source: HomeCookie) -> HomeCookieSource:
    """The source with its keys read. Raises SourceRefused, the operator's fault."""
    keys = tuple(_key(each) if isinstance(each, Path) else each.reveal().encode() for each in source.keys)
    for key, given in zip(keys, source.keys, strict=True):
        if not SMALLEST_KEY <= len(key) <= LARGEST_KEY:
            where = given if isinstance(given, Path) else "home_cookie: a key from the environment"
            raise SourceRefused(f"{where}: a key has {SMALLEST_KEY} to {LARGEST_KEY} bytes")
    return HomeCookieSource(HomeCookies(source.name, keys, source.max_age), source.forward)


def _key(path: Path) -> bytes:
    """A key file's bytes, but for the newline that editors and `openssl rand` add."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_KEY + 2).rstrip(b"\r\n")
    except OSError as error:
        raise SourceRefused(f"{path}: cannot be read: {error.strerror}") from None
