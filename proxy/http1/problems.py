"""The answers that are our own: which error becomes which, and how it is written.

Problem details (RFC 9457) with a stable `reason`, and nothing of the inside.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from math import ceil
from typing import Final

from proxy.http1.plan import Unproven, Verdict
from proxy.identity.answers import Kind
from proxy.policy.decision import Denial
from proxy.providers.failure import Kind as FailureKind
from proxy.wire.refusal import Refusal
from proxy.wire.request_head import RequestHead
from proxy.wire.response_writer import CLOSE, KEEP

_RETRY_AFTER: Final = (b"Retry-After: 5",)
"""Of every 503: for as long an endpoint that failed is left alone."""

_ALLOW: Final = (b"Allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS",)
"""Of every 405 (RFC 9110 section 15.5.6)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request ends without a provider's answer. reason: of a fixed list.

    lines: further field lines, without CRLF. closes: where a next request would begin is not known.
    """

    status: int
    reason: str
    lines: tuple[bytes, ...] = ()
    closes: bool = False


# The client's

BODY_MALFORMED: Final = Problem(400, "body-malformed", closes=True)
BODY_TOO_SLOW: Final = Problem(408, "body-too-slow", closes=True)
BODY_TOO_LARGE: Final = Problem(413, "body-too-large", closes=True)

# Ours

INTERNAL: Final = Problem(500, "internal")
SHED: Final = Problem(503, "overload", _RETRY_AFTER)
WITHDRAWN: Final = Problem(503, "permit-withdrawn", _RETRY_AFTER)
UNAVAILABLE: Final = Problem(503, "unavailable", _RETRY_AFTER)

# The provider's

TOO_SLOW: Final = Problem(504, "provider-too-slow")
FULL: Final = Problem(503, "provider-full", _RETRY_AFTER)
IDLE: Final = Problem(504, "idle")

UNREACHED: Final[Mapping[FailureKind, Problem]] = {
    "refused": Problem(502, "provider-refused"),
    "tls": Problem(502, "provider-tls"),
    "timeout": Problem(504, "provider-connect-timeout"),
    "name": Problem(503, "provider-name", _RETRY_AFTER),
    "outside": Problem(502, "provider-address-refused"),
    "full": FULL,
    "local": SHED,
}
"""What a failed dial comes to when no other permitted endpoint is left."""


def broken(cause: str) -> Problem:
    """The provider broke the protocol or its connection."""
    return Problem(502, cause)


def rate_limited(wait: float) -> Problem:
    """A limit of rate has no token for so many seconds."""
    return Problem(429, "rate-limited", (b"Retry-After: %d" % max(1, ceil(wait)),))


def of(verdict: Verdict, set_cookie: bytes) -> Problem:
    """What anything but a permit is to the client. set_cookie: a field line for it, or empty."""
    if isinstance(verdict, Denial):
        return Problem(451, verdict.reason, _blocked_by(verdict.authority))
    if isinstance(verdict, Unproven):
        lines = _challenge(verdict.source) if verdict.status == 401 else _RETRY_AFTER
        return Problem(verdict.status, verdict.cause, (*lines, set_cookie) if set_cookie else lines)
    if isinstance(verdict, Refusal):
        return Problem(verdict.status, verdict.cause, _ALLOW if verdict.status == 405 else (), closes=True)
    raise TypeError("a permit is no problem")


def _blocked_by(authority: str | None) -> tuple[bytes, ...]:
    """The Link line of a 451 that names who ordered it (RFC 7725 section 4)."""
    return () if authority is None else (b'Link: <%b>; rel="blocked-by"' % authority.encode("ascii"),)


# Neither is a scheme that a client could answer with; the field is due all the same, and says what was wrong.
_CHALLENGES: Final[Mapping[Kind | None, bytes]] = {"home_cookie": b"Cookie", "client_certificate": b"Certificate"}


def _challenge(source: Kind | None) -> tuple[bytes, ...]:
    """The WWW-Authenticate line of a 401 (RFC 9110 section 11.6.1): which kind of credential did not verify."""
    return (b"WWW-Authenticate: " + _CHALLENGES.get(source, b'Bearer error="invalid_token"'),)


# How they are written

_DETAILS: Final = {
    "no-zone": "The law of no configured zone covers this data.",
    "home-unknown": "It is not known whose law governs this data.",
    "no-rule": "No law permits this data to be kept anywhere.",
    "no-provider": "No provider may receive this data.",
    "conflict": "The laws that govern this data leave no provider that may receive it.",
    "forbidden": "The law forbids every provider that could receive this data.",
    "unavailable": "No provider that may receive this data is available.",
}
"""What a person is told about each reason of a denial."""


def written(problem: Problem, to: RequestHead | None, request_id: bytes, keep: bool) -> bytes:
    """One whole answer. to: the request, None where there was no whole head. keep: the connection stays."""
    start, framing, body = _shape(problem, keep, to is not None and to.version == 0)
    # An id of our own says nothing to JSON; one that a trusted proxy gave may.
    quoted = b'"%b"' % request_id if request_id.isalnum() else json.dumps(request_id.decode("ascii")).encode("ascii")
    return b"%b%d\r\nX-Request-Id: %b\r\n%b%b" % (
        start,
        len(body) + len(quoted) + 1,
        request_id,
        framing,
        b"" if to is not None and to.method == "HEAD" else b"%b%b}" % (body, quoted),
    )


@lru_cache(maxsize=256)
def _shape(problem: Problem, keep: bool, old: bool) -> tuple[bytes, bytes, bytes]:
    """What all answers of one kind share: up to the length, from the other fields to the body, and up to the id.

    old: to HTTP/1.0. There is one for each reason, but for those that tell the client when to come again.
    """
    phrase = HTTPStatus(problem.status).phrase
    details: dict[str, object] = {
        "type": "about:blank",
        "title": phrase,
        "status": problem.status,
        "reason": problem.reason,
    }
    if problem.reason in _DETAILS:
        details["detail"] = _DETAILS[problem.reason]
    start = b"HTTP/1.1 %d %b\r\n" % (problem.status, phrase.encode("ascii"))
    start += b"Content-Type: application/problem+json\r\nCache-Control: no-store\r\nContent-Length: "
    framing = CLOSE if not keep else KEEP if old else b""
    framing = b"".join((*(line + b"\r\n" for line in problem.lines), framing, b"\r\n"))
    body = json.dumps(details, separators=(",", ":")).encode("ascii")
    return start, framing, body[:-1] + b',"request_id":'
