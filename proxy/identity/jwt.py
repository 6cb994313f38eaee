"""The `jwt` source: bearer tokens (RFC 6750, RFC 7519) signed by a key of a local set.

The order of the checks is the order of trust: size, shape, header, key, signature, and only then what the
claims say. Nothing that a token carries chooses an algorithm, a key or an address to fetch a key from: `jku`,
`x5u`, `jwk` and `x5c` are not looked at. Extensions that must be understood (`crit`, `b64`) are refused.

Silent are: no Authorization field; another scheme (Basic is another kind of credential); a token whose issuer
is another `jwt` source's, which judges it itself. A staff token's own home is not an answer (see `claims`).
"""

import re
from hashlib import sha256
from typing import Final

from proxy.identity.answers import Home, Invalid, Kind, Silent
from proxy.identity.claims import Claims, Refused
from proxy.identity.evidence import Evidence
from proxy.identity.keyset import KeySet, open_key_set
from proxy.identity.refused import SourceRefused
from proxy.identity.remembered import Remembered
from proxy.identity.strict import base64url, json_object
from proxy.policy.settings import Jwt

LARGEST_TOKEN: Final = 8192
"""Bytes of a token; a larger one is invalid."""

LARGEST_LEEWAY: Final = 300.0
"""Seconds of leeway that a policy may grant; clocks that differ more are broken."""

REMEMBERED: Final = 16384
"""Verified tokens that are kept until they end: about 10 MB."""

_SILENT = Silent()
_AUTHORIZATION = frozenset({b"authorization"})
_NOTHING: frozenset[bytes] = frozenset()

# The scheme, and no longer word that begins with it (RFC 9110 11.4: a scheme is a token).
_BEARER = re.compile(rb"bearer(?![!#$%&'*+\-.^_`|~0-9A-Za-z])", re.IGNORECASE)
# What some servers make of two Authorization fields.
_BEARER_IN_LIST = re.compile(rb",[ \t]*bearer[ \t]", re.IGNORECASE)
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})


def open_jwt(source: Jwt, actors: frozenset[str], other_issuers: frozenset[str]) -> "JwtSource":
    """The source with its keys read.

    other_issuers: issuers of the policy's other `jwt` sources. Raises SourceRefused, the operator's fault.
    """
    if not 0 <= source.leeway <= LARGEST_LEEWAY:
        raise SourceRefused(f"jwt: leeway is 0 to {LARGEST_LEEWAY:.0f} seconds")
    return JwtSource(source, open_key_set(source.jwks), actors, other_issuers)


class JwtSource:
    """Verifies tokens and remembers those that verified until they end; failures are not remembered."""

    __slots__ = ("_claims", "_forward", "_keys", "_other_issuers", "_verified")

    kind: Kind = "jwt"

    def __init__(self, source: Jwt, keys: KeySet, actors: frozenset[str], other_issuers: frozenset[str]) -> None:
        self._claims = Claims(source, actors)
        self._keys = keys
        self._other_issuers = other_issuers
        self._forward = source.forward
        self._verified: Remembered[bytes, tuple[Home | Silent, float]] = Remembered(REMEMBERED)

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Home | Silent | Invalid:
        credential: bytes | None = None
        for name, value in evidence.fields:
            if name == b"authorization":
                if credential is not None:
                    return Invalid("jwt", "repeated")
                credential = value
        if credential is None:
            return _SILENT
        try:
            token = _token(credential)
            return _SILENT if token is None else self._judge(token, now)
        except Refused as refused:
            return Invalid("jwt", refused.cause)

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        if self._forward:
            return _NOTHING
        for name, value in fields:
            if name == b"authorization" and (_BEARER.match(value) or _BEARER_IN_LIST.search(value)):
                return _AUTHORIZATION
        return _NOTHING

    def _judge(self, token: bytes, now: float) -> Home | Silent:
        digest = sha256(token).digest()
        verified = self._verified.get(digest)
        if verified is None:
            claims = self._verify(token)
            if claims is None:
                return _SILENT
            verified = self._claims.read(claims)
            _in_time(verified, now)
            self._verified.put(digest, verified)
        else:
            _in_time(verified, now)
        return verified[0]

    def _verify(self, token: bytes) -> dict[str, object] | None:
        """The claims of a token that a key of the set signed; None when another source is to judge it."""
        parts = token.split(b".")
        if len(parts) != 3:
            raise Refused("malformed")
        try:
            header = json_object(base64url(parts[0]))
            claims = json_object(base64url(parts[1]))
            signature = base64url(parts[2]) if parts[2] else b""
        except ValueError:
            raise Refused("malformed") from None
        issuer = claims.get("iss")
        if isinstance(issuer, str) and issuer in self._other_issuers:
            return None
        if "crit" in header or "b64" in header:
            raise Refused("critical")
        kind = header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise Refused("type")
        algorithm = header.get("alg")
        if algorithm not in ("RS256", "ES256", "EdDSA"):
            raise Refused("algorithm")
        if "kid" not in header:
            key = self._keys.only(algorithm)
        else:
            key = self._keys.named(kid, algorithm) if isinstance(kid := header["kid"], str) else None
        if key is None:
            raise Refused("key")
        if not key.verifies(token[: -len(parts[2]) - 1], signature):
            raise Refused("signature")
        return claims


def _in_time(verified: tuple[Home | Silent, float], now: float) -> None:
    answer, since = verified
    if answer.until is None or now >= answer.until:
        raise Refused("expired")
    if now < since:
        raise Refused("not-yet")


def _token(credential: bytes) -> bytes | None:
    """The bearer token of an Authorization value; None for another scheme. Raises Refused."""
    scheme = _BEARER.match(credential)
    if scheme is None:
        if _BEARER_IN_LIST.search(credential):
            raise Refused("repeated")
        return None
    rest = credential[scheme.end() :]
    token = rest.lstrip(b" ")
    if not token:
        raise Refused("empty")
    if len(token) == len(rest):  # RFC 9110 11.4: 1*SP after the scheme
        raise Refused("malformed")
    if len(token) > LARGEST_TOKEN:
        raise Refused("oversize")
    return token
