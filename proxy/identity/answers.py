"""What a source may answer: a home, silence, invalid, unavailable.

A home ends the search. Silence lets the next source be asked. Invalid (401) and Unavailable (503) end it
too, so that a weaker source is never reached by breaking a stronger one. Subject ids are personal data and
tokens are credentials: no repr here shows either, and a cause is one of a fixed list, never a value.
"""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Literal

from proxy.policy.facts import UNKNOWN

Kind = Literal["jwt", "client_certificate", "directory", "home_cookie", "proxy_header", "location"]
"""A kind of source, as the policy file writes it."""

Cause = Literal[
    "repeated",
    "empty",
    "oversize",
    "malformed",
    "type",
    "critical",
    "algorithm",
    "key",
    "signature",
    "issuer",
    "audience",
    "expiry",
    "expired",
    "not-yet",
    "subject",
    "actor",
    "home",
    "ambiguous",
]
"""Why a credential did not verify.

repeated: more than one Authorization field, or a field of a PROXY header twice. empty: a scheme and no token.
oversize, malformed: not a token that is read at all. type: a token of another purpose (`typ`). critical: an
extension that must be understood. algorithm, key, signature: not signed by a key of the set. issuer, audience: for
another or by another. expiry: no usable `exp`, or an unusable `nbf` or `iat`. expired, not-yet: outside its time.
subject, actor, home: a claim that is missing, unusable or that the policy does not know. ambiguous: a claim that is
there both under its literal name and nested.
"""


Why = Literal[
    "",
    "no-credential",
    "other-scheme",
    "other-issuer",
    "no-home",
    "staff",
    "account",
    "expired",
    "country-unknown",
    "country-stale",
    "no-key",
    "not-known",
    "untrusted",
]
"""Why a source is silent.

no-credential: none was shown. other-scheme: one of another kind. other-issuer: another source judges it. no-home: it
verified, and says no home. staff: who acts is not the subject. account: a subject was verified already, whose home
this source must not guess. expired: what was remembered has ended. country-unknown, country-stale: no country, or data
too old to tell. no-key: the request has nothing to look up. not-known: the directory does not know it. untrusted: the
key is in a field of somebody who is not believed.
"""


@dataclass(frozen=True, slots=True)
class Home:
    """The source knows the home: what the credential or the address says, not yet a zone's name.

    subject: who was verified, None for nobody. until: seconds since the epoch until which the answer may be
    kept (a token's end), None for ever. changes_at: when another home is known to take its place, None for never.
    """

    home: str
    subject: str | None = field(repr=False)
    actor: str
    until: float | None
    changes_at: float | None = None


@dataclass(frozen=True, slots=True)
class Silent:
    """The source does not know the home. subject and actor: whom it verified all the same. why: for people.

    account: the request belongs to somebody's account, whoever that is, so an address may not speak for it.
    changes_at: when a home is known to take the silence's place, None for never.
    source: filled in by `Sources`, which kind verified the subject.
    """

    subject: str | None = field(default=None, repr=False)
    actor: str = UNKNOWN
    until: float | None = None
    why: Why = field(default="", compare=False)
    account: bool = False
    source: Kind | None = field(default=None, compare=False)
    changes_at: float | None = None


@dataclass(frozen=True, slots=True)
class Invalid:
    """A credential was shown and did not verify: 401, and nothing further is asked."""

    source: Kind
    detail: Cause


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The source could not be asked: 503, and nothing further is asked."""

    source: Kind
    detail: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """The source has to ask elsewhere: wait for `ready`, which always ends, and ask again.

    What was found, or that nothing could be found out, is then in the source's own table.
    """

    source: Kind
    ready: Awaitable[object] = field(repr=False)


Answer = Home | Silent | Invalid | Unavailable | Pending
