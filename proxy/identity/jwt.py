"""The `jwt` source: signed tokens (RFC 7519), as a bearer (RFC 6750) or in a header or cookie of the policy's choice.

The order of the checks is the order of trust: size, shape, header, key, signature, and only then what the
claims say. Nothing that a token carries chooses an algorithm, a key or an address to fetch a key from: `jku`,
`x5u`, `jwk` and `x5c` are not looked at. Extensions that must be understood (`crit`, `b64`) are refused.

Silent are: no token; another scheme in Authorization (Basic is another kind of credential); a token whose issuer
is another `jwt` source's that reads the same place, which judges it itself. A staff token's own home is not an answer
(see `claims`).

With keys by URL, a token that needs them while they are being fetched is Pending; without keys, and with a key that is
unknown while its issuer cannot be asked, the source is unavailable.
"""

import re
from collections.abc import Awaitable
from hashlib import sha256
from pathlib import Path
from typing import Final

from proxy.identity.answers import Home, Invalid, Kind, Pending, Silent, Unavailable
from proxy.identity.claims import Claims, Refused
from proxy.identity.cookies import cookie_values
from proxy.identity.counts import SourceCount
from proxy.identity.evidence import Evidence
from proxy.identity.keyset import Key, Keys, KeySet, LocalKeys, open_key_set
from proxy.identity.refused import SourceRefused
from proxy.identity.remembered import Remembered
from proxy.identity.remote_keys import RemoteKeys
from proxy.identity.strict import base64url, json_object
from proxy.policy.subject import Jwt, TokenPlace

LARGEST_TOKEN: Final = 8192
"""Bytes of a token; a larger one is invalid."""

LARGEST_LEEWAY: Final = 300.0
"""Seconds of leeway that a policy may grant; clocks that differ more are broken."""

REMEMBERED: Final = 16384
"""Verified tokens that are kept until they end: about 10 MB."""

_SILENT = Silent(why="no-credential")
_OTHER_SCHEME = Silent(why="other-scheme")
_OTHER_ISSUER = Silent(why="other-issuer")
_AUTHORIZATION = frozenset({b"authorization"})
_NOTHING: frozenset[bytes] = frozenset()

# The scheme, and no longer word that begins with it (RFC 9110 11.4: a scheme is a token).
_BEARER = re.compile(rb"bearer(?![!#$%&'*+\-.^_`|~0-9A-Za-z])", re.IGNORECASE)
# What some servers make of two Authorization fields.
_BEARER_IN_LIST = re.compile(rb",[ \t]*bearer[ \t]", re.IGNORECASE)
_SIGNED_WITH = frozenset({"RS256", "ES256", "EdDSA"})
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})


def open_jwt(
    source: Jwt, actors: frozenset[str], other_issuers: frozenset[str], count: SourceCount | None = None
) -> "JwtSource":
    """The source with its keys read, or to be fetched when it begins.

    other_issuers: issuers of the policy's other `jwt` sources that read the same place. Raises SourceRefused, the
    operator's fault.
    """
    if not 0 <= source.leeway <= LARGEST_LEEWAY:
        raise SourceRefused(f"jwt: leeway is 0 to {LARGEST_LEEWAY:.0f} seconds")
    count = SourceCount() if count is None else count
    jwks = source.jwks
    keys = LocalKeys(open_key_set(jwks)) if isinstance(jwks, Path) else RemoteKeys(jwks, source.issuer, count)
    return JwtSource(source, keys, actors, other_issuers, count)


def jwt_made_of(source: Jwt, actors: frozenset[str], other_issuers: frozenset[str]) -> object:
    """What a source depends on: one that was made of the same may go on, with all that it remembers.

    Raises SourceRefused when a file cannot be read.
    """
    path = source.jwks if isinstance(source.jwks, Path) else source.jwks.ca
    try:
        content = b"" if path is None else path.read_bytes()
    except OSError as error:
        raise SourceRefused(f"{path}: cannot be read: {error.strerror}") from None
    return source, actors, other_issuers, sha256(content).digest()


class JwtSource:
    """Verifies tokens and remembers those that verified until they end; failures are not remembered."""

    # fmt: off
    __slots__ = (
        "_claims", "_count", "_digest", "_forward", "_other_issuers", "_place", "_verified", "hidden_cookies", "issuer",
        "keys",
    )
    # fmt: on

    kind: Kind = "jwt"

    def __init__(
        self, source: Jwt, keys: Keys, actors: frozenset[str], other_issuers: frozenset[str], count: SourceCount
    ) -> None:
        self.issuer = source.issuer
        self.keys = keys
        self._claims = Claims(source, actors)
        self._other_issuers = other_issuers
        self._place = source.token
        self._forward = source.forward
        in_cookie = source.token is not None and source.token.kind == "cookie" and not source.forward
        self.hidden_cookies = frozenset({source.token.name.encode("ascii")}) if source.token and in_cookie else _NOTHING
        self._count = count
        self._digest = b""
        self._verified: Remembered[bytes, tuple[Home | Silent, float]] = Remembered(REMEMBERED)

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Home | Silent | Invalid | Unavailable | Pending:
        try:
            token = _bearer(evidence.fields) if self._place is None else _placed(evidence.fields, self._place)
            return token if isinstance(token, Silent) else self._judge(token, now)
        except Refused as refused:
            return Invalid("jwt", refused.cause)

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        if self._forward:
            return _NOTHING
        if self._place is not None:
            return frozenset({self._place.name.encode("ascii")}) if self._place.kind == "header" else _NOTHING
        for name, value in fields:
            if name == b"authorization" and (_BEARER.match(value) or _BEARER_IN_LIST.search(value)):
                return _AUTHORIZATION
        return _NOTHING

    def begin(self) -> None:
        """Have keys by URL fetched."""
        if isinstance(self.keys, RemoteKeys):
            self.keys.begin()

    async def close(self) -> None:
        """Fetch no more."""
        if isinstance(self.keys, RemoteKeys):
            await self.keys.close()

    def _judge(self, token: bytes, now: float) -> Home | Silent | Unavailable | Pending:
        keys = self.keys.current()
        digest = sha256(token).digest()
        verified = None if keys is None else self._remembered(keys).get(digest)
        if verified is not None:
            self._count.hits += 1
            _in_time(verified, now)
            return verified[0]
        self._count.misses += 1
        shown = _Token(token)
        issuer = shown.claims.get("iss")
        if isinstance(issuer, str) and issuer in self._other_issuers:
            return _OTHER_ISSUER
        algorithm = shown.algorithm()
        if keys is None:
            return self._awaited(self.keys.coming())
        key = shown.key(keys, algorithm)
        if key is None:
            if shown.kid is None or keys.knows(shown.kid) or not self._would_do(shown, now):
                raise Refused("key")
            ready = self.keys.look_again()
            if ready is None and not self.keys.failing:
                raise Refused("key")
            return self._awaited(ready)
        if not key.verifies(shown.signed, shown.signature):
            raise Refused("signature")
        verified = self._claims.read(shown.claims)
        _in_time(verified, now)
        self._verified.put(digest, verified)
        return verified[0]

    def _remembered(self, keys: KeySet) -> Remembered[bytes, tuple[Home | Silent, float]]:
        """What these keys verified: another set may have taken away the key of a token."""
        if keys.digest != self._digest:
            self._digest = keys.digest
            self._verified = Remembered(REMEMBERED)
        return self._verified

    def _would_do(self, shown: "_Token", now: float) -> bool:
        """Whether it is worth asking the issuer about an unknown key: all else is as a good token has it."""
        try:
            _in_time(self._claims.read(shown.claims), now)
        except Refused:
            return False
        return True

    def _awaited(self, ready: Awaitable[object] | None) -> Unavailable | Pending:
        return Unavailable("jwt", "key-set") if ready is None else Pending("jwt", ready)


class _Token:
    """A token that has the shape of one; nothing of it is believed yet. Raises Refused."""

    __slots__ = ("claims", "header", "kid", "signature", "signed")

    def __init__(self, token: bytes) -> None:
        parts = token.split(b".")
        if len(parts) != 3:
            raise Refused("malformed")
        try:
            self.header = json_object(base64url(parts[0]))
            self.claims = json_object(base64url(parts[1]))
            self.signature = base64url(parts[2]) if parts[2] else b""
        except ValueError:
            raise Refused("malformed") from None
        self.signed = token[: -len(parts[2]) - 1]
        kid = self.header.get("kid")
        self.kid = kid if isinstance(kid, str) else None

    def algorithm(self) -> str:
        """What the header says it is, if that is one that can be verified here."""
        if "crit" in self.header or "b64" in self.header:
            raise Refused("critical")
        kind = self.header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise Refused("type")
        algorithm = self.header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in _SIGNED_WITH:
            raise Refused("algorithm")
        return algorithm

    def key(self, keys: KeySet, algorithm: str) -> Key | None:
        """The key that the header names; without a name, the only one that it can mean."""
        if "kid" not in self.header:
            return keys.only(algorithm)
        return None if self.kid is None else keys.named(self.kid, algorithm)


def _in_time(verified: tuple[Home | Silent, float], now: float) -> None:
    answer, since = verified
    if answer.until is None or now >= answer.until:
        raise Refused("expired")
    if now < since:
        raise Refused("not-yet")


def _bearer(fields: tuple[tuple[bytes, bytes], ...]) -> bytes | Silent:
    """The bearer token of the one Authorization field. Raises Refused."""
    credential: bytes | None = None
    for name, value in fields:
        if name == b"authorization":
            if credential is not None:
                raise Refused("repeated")
            credential = value
    if credential is None:
        return _SILENT
    scheme = _BEARER.match(credential)
    if scheme is None:
        if _BEARER_IN_LIST.search(credential):
            raise Refused("repeated")
        return _OTHER_SCHEME
    rest = credential[scheme.end() :]
    token = rest.lstrip(b" ")
    if token and len(token) == len(rest):  # RFC 9110 11.4: 1*SP after the scheme
        raise Refused("malformed")
    return _sized(token)


def _placed(fields: tuple[tuple[bytes, bytes], ...], place: TokenPlace) -> bytes | Silent:
    """The token in a header or cookie of its own, which holds nothing else. Raises Refused."""
    wanted = place.name.encode("ascii")
    if place.kind == "cookie":
        found = cookie_values(fields, wanted)
    else:
        found = [value for name, value in fields if name == wanted]
    if len(found) > 1:
        raise Refused("repeated")
    return _sized(found[0]) if found else _SILENT


def _sized(token: bytes) -> bytes:
    if not token:
        raise Refused("empty")
    if len(token) > LARGEST_TOKEN:
        raise Refused("oversize")
    return token
