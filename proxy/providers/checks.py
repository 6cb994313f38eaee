"""Active checks, without I/O: when the next is due, what it sends, what its answer is worth, what results add up to.

A check carries nothing of any client: what it sends is made of the policy alone. The provider's fixed headers go with
it, for they are the operator's, and a provider that takes nothing without its key is to be asked as traffic asks it. It
is one exchange on a connection of its own, so its answer is read as far as the check needs, and the rest goes with the
connection.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

import httptools

from proxy.policy.health import HealthCheck
from proxy.policy.settings import Endpoint, Provider
from proxy.providers.failure import Cause, DialFailure

USER_AGENT: Final = b"domicile-check"

HEAD_LIMIT: Final = 16 * 1024
"""Bytes of an answer before its content, heads of 1xx included."""

BODY_LIMIT: Final = 64 * 1024
"""Bytes of an answer's content in which the expected text has to stand."""

CheckCause = Literal[
    "too slow",
    "closed early",
    "no HTTP answer",
    "unexpected status",
    "expected text missing",
    "answer too large",
]


@dataclass(frozen=True, slots=True)
class Result:
    """What one check came to. cause: why it failed, from fixed lists; None for one that succeeded."""

    cause: CheckCause | Cause | None
    status: int | None = None

    @property
    def good(self) -> bool:
        return self.cause is None


def undialled(failure: DialFailure) -> Result | None:
    """The result of a check that did not reach its endpoint; None where that is our own doing and says nothing."""
    return None if failure.kind in ("full", "local") else Result(failure.cause)


# When


def first_due(check: HealthCheck, now: float, luck: float) -> float:
    """When to check for the first time: soon, and not all at once. luck: a random number, 0 <= luck < 1."""
    return now + check.interval * check.jitter * luck


def next_due(check: HealthCheck, began: float, luck: float) -> float:
    """When the check after one that began then is due; if that one is not over by then, as soon as it is."""
    return began + check.interval * (1.0 + check.jitter * (2.0 * luck - 1.0))


# What results add up to


@dataclass(frozen=True, slots=True)
class Standing:
    """What the checks say of an endpoint. up: None until they say something; then it may be tried as if up.

    row: results in a row that speak against what is said.
    """

    up: bool | None = None
    row: int = 0

    def after(self, check: HealthCheck, good: bool) -> "Standing":
        """What they say after one more result. The first good one of all is believed at once."""
        if good and self.up is None:
            return Standing(True)
        if good is self.up:
            return self if self.row == 0 else replace(self, row=0)
        row = self.row + 1
        return Standing(good) if row >= (check.healthy if good else check.unhealthy) else replace(self, row=row)


# One check


def request(check: HealthCheck, provider: Provider, endpoint: Endpoint) -> bytes:
    """What a check sends on its connection: nothing unless it speaks HTTP."""
    if check.kind != "http":
        return b""
    path, host = check.path.encode("ascii"), (check.host or endpoint.authority).encode("ascii")
    fixed = b"".join(
        b"%b: %b\r\n" % (name.encode("ascii"), value.reveal().encode("latin-1"))
        for name, value in provider.headers
        if name.lower() != "user-agent"  # a check says that it is one
    )
    head = b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\n%bConnection: close\r\n\r\n"
    return head % (path, host, USER_AGENT, fixed)


def greeting(provider: Provider, endpoint: Endpoint) -> bytes:
    """The PROXY header that goes ahead, where the provider is told its clients with one: nobody's.

    Section 2.1 of the specification has UNKNOWN, section 2.2 LOCAL, for connections that the proxy makes by itself.
    """
    if endpoint.scheme not in ("tls", "tcp"):
        return b""
    return {"none": b"", "v1": b"PROXY UNKNOWN\r\n", "v2": b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"}[provider.send_proxy]


class Answer:
    """What comes back on a check's connection, made once that is open and verified, and judged as it comes.

    result: None while more has to come. The first one stands, however the bytes were split; later ones are not read.
    """

    def __init__(self, check: HealthCheck) -> None:
        self.result: Result | None = None if check.kind == "http" else Result(None)
        self._statuses = check.statuses
        self._text = None if check.body is None else check.body.encode()
        self._parser = httptools.HttpResponseParser(self)
        self._room = HEAD_LIMIT  # for what comes before the content
        self._status: int | None = None  # of the final head, once that is whole
        self._content = bytearray()

    def received(self, data: bytes) -> None:
        """Bytes came."""
        if self._status is None:
            head, data = data[: self._room], data[self._room :]
            self._room -= len(head)
            self._feed(head)
            if self._status is None and not self._room:
                self._end("answer too large")
        self._feed(data)

    def closed(self) -> None:
        """The connection ended."""
        self._end("closed early" if self._status is None else "expected text missing")

    def overdue(self) -> None:
        """Its time is over."""
        self._end("too slow")

    def _feed(self, data: bytes) -> None:
        if self.result is None and data:
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                self._end("no HTTP answer")

    def _end(self, cause: CheckCause | None) -> None:
        if self.result is None:
            self.result = Result(cause, self._status)

    # What llhttp calls, in the order of the stream; it goes on to the end of what it was fed, decided or not.

    def on_headers_complete(self) -> None:
        """A head is whole."""
        status = self._parser.get_status_code()
        if self.result is not None or 100 <= status < 200:
            return  # a 101 is an error to llhttp: nobody asked for one
        if self._parser.get_http_version() not in ("1.0", "1.1") or not 200 <= status <= 599:
            self._end("no HTTP answer")
            return
        self._status = status
        if status not in self._statuses:
            self._end("unexpected status")
        elif not self._text:
            self._end(None)

    def on_body(self, data: bytes) -> None:
        """Content came, without its framing."""
        if self.result is not None:
            return
        text = self._text or b""
        fresh = max(len(self._content) - len(text) + 1, 0)  # what stands before it was looked through
        self._content += data[: BODY_LIMIT - len(self._content)]
        if self._content.find(text, fresh) >= 0:
            self._end(None)
        elif len(self._content) == BODY_LIMIT:
            self._end("answer too large")

    def on_message_complete(self) -> None:
        """A message is whole; one before the final head is not what is waited for."""
        if self._status is not None:
            self._end("expected text missing")
