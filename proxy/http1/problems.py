"""The answers that are our own: problem details (RFC 9457) with a stable `reason`, and nothing of the inside."""

import json
from collections.abc import Sequence
from http import HTTPStatus

from proxy.identity.answers import Kind

RETRY_AFTER = b"Retry-After: 5"
"""Of every 503: for as long an endpoint that failed is left alone."""

ALLOW = b"Allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"
"""Of every 405 (RFC 9110 section 15.5.6)."""

DETAILS = {
    "no-zone": "The law of no configured zone covers this data.",
    "home-unknown": "It is not known whose law governs this data.",
    "no-rule": "No law permits this data to be kept anywhere.",
    "no-provider": "No provider may receive this data.",
    "conflict": "The laws that govern this data leave no provider that may receive it.",
    "forbidden": "The law forbids every provider that could receive this data.",
    "unavailable": "No provider that may receive this data is available.",
}
"""What a person is told about each reason of a denial."""


def problem(
    status: int, reason: str, request_id: bytes, *, head_only: bool, keep: bytes, extra: Sequence[bytes] = ()
) -> bytes:
    """One whole answer. keep: the Connection line, or empty. extra: further field lines, without CRLF."""
    phrase = HTTPStatus(status).phrase
    details: dict[str, object] = {"type": "about:blank", "title": phrase, "status": status, "reason": reason}
    if reason in DETAILS:
        details["detail"] = DETAILS[reason]
    details["request_id"] = request_id.decode("ascii")
    body = json.dumps(details, separators=(",", ":")).encode("ascii")
    return b"".join(
        (
            b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode("ascii")),
            b"Content-Type: application/problem+json\r\nCache-Control: no-store\r\n",
            b"Content-Length: %d\r\nX-Request-Id: %b\r\n" % (len(body), request_id),
            *(line + b"\r\n" for line in extra),
            keep,
            b"\r\n",
            b"" if head_only else body,
        )
    )


# Neither is a scheme that a client could answer with; the field is due all the same, and says what was wrong.
_CHALLENGES: dict[Kind | None, bytes] = {"home_cookie": b"Cookie", "client_certificate": b"Certificate"}


def challenge(source: Kind | None) -> bytes:
    """The WWW-Authenticate line of a 401 (RFC 9110 section 11.6.1): which kind of credential did not verify."""
    return b"WWW-Authenticate: " + _CHALLENGES.get(source, b'Bearer error="invalid_token"')


def blocked_by(authority: str) -> bytes:
    """The Link line of a 451 that names who ordered it (RFC 7725 section 4)."""
    return b'Link: <%b>; rel="blocked-by"' % authority.encode("ascii")
