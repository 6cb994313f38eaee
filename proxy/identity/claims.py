"""What a verified token's claims say: subject, home, actor, times.

- A claim's name with dots is first a literal name (namespaced claims are URLs), else dots go down into objects.
  A token that has both is ambiguous and refused.
- A claim that is null is not there.
- `act` (RFC 8693 4.1) always names an actor: where the policy's actor claim does not say which kind, the actor
  is one that the policy does not list.
"""

from math import isfinite

from proxy.identity.answers import Cause, Home, Silent
from proxy.policy.facts import SUBJECT, UNKNOWN
from proxy.policy.subject import Jwt

LONGEST_SUBJECT = 255
"""Characters of a subject id (OpenID Connect Core 2 has the same bound)."""

_LATEST = 2**53


class Refused(Exception):
    """A token that does not verify. The client's fault; it carries a cause and nothing of the token."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause: Cause = cause


class ClaimName:
    """Where a claim is found."""

    __slots__ = ("_name", "_path")

    def __init__(self, name: str) -> None:
        self._name = name
        self._path = name.split(".") if "." in name else None

    def value(self, claims: dict[str, object]) -> object:
        """The claim's value, None when it is not there. Raises Refused when it is there twice."""
        literal = claims.get(self._name)
        if self._path is None:
            return literal
        nested: object = claims
        for part in self._path:
            nested = nested.get(part) if isinstance(nested, dict) else None
        if literal is not None and nested is not None:
            raise Refused("ambiguous")
        return nested if literal is None else literal


class Claims:
    """How one `jwt` source reads claims. actors: the kinds of staff that the policy lists."""

    __slots__ = ("_actor", "_actors", "_audience", "_home", "_issuer", "_leeway", "_subject")

    def __init__(self, source: Jwt, actors: frozenset[str]) -> None:
        self._issuer = source.issuer
        self._audience = source.audience
        self._leeway = source.leeway
        self._subject = ClaimName(source.subject_claim)
        self._home = ClaimName(source.home_claim)
        self._actor = None if source.actor_claim is None else ClaimName(source.actor_claim)
        self._actors = actors - {SUBJECT, UNKNOWN}

    def read(self, claims: dict[str, object]) -> tuple[Home | Silent, float]:
        """The answer, and the time before which it does not hold. Raises Refused; `until` is not compared."""
        if claims.get("iss") != self._issuer:
            raise Refused("issuer")
        audience = claims.get("aud")
        if audience != self._audience and not (isinstance(audience, list) and self._audience in audience):
            raise Refused("audience")
        expiry = _time(claims.get("exp"))
        if expiry is None:
            raise Refused("expiry")
        starts = [_time(claims.get("nbf")), _time(claims.get("iat"))]
        since = max((start for start in starts if start is not None), default=0.0) - self._leeway
        return self._answer(claims, expiry + self._leeway), since

    def _answer(self, claims: dict[str, object], until: float) -> Home | Silent:
        subject = self._subject.value(claims)
        if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
            raise Refused("subject")
        actor = self._kind(claims)
        home = self._home.value(claims)
        if home is not None and not isinstance(home, str):
            raise Refused("home")
        if home is None or actor != SUBJECT:  # who acts for another says nothing of where the other belongs
            return Silent(subject, actor, until, "no-home" if actor == SUBJECT else "staff")
        return Home(home, subject, actor, until)

    def _kind(self, claims: dict[str, object]) -> str:
        actor = None if self._actor is None else self._actor.value(claims)
        if actor is None:
            if claims.get("act") is not None:
                raise Refused("actor")
            return SUBJECT
        if not isinstance(actor, str) or actor not in self._actors:
            raise Refused("actor")
        return actor


def _time(value: object) -> float | None:
    """RFC 7519 2, NumericDate: seconds since the epoch. Raises Refused for what is there and is none."""
    if value is None:
        return None
    if type(value) is int and 0 <= value <= _LATEST:
        return float(value)
    if type(value) is float and isfinite(value) and 0 <= value <= _LATEST:
        return value
    raise Refused("expiry")
