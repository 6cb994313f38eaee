"""One request and its response: decide -> choose -> dial -> relay -> record.

Rules:
- Nothing is sent anywhere before the plan holds a Permit, and then only to the endpoints that it covers.
- What the client has sent of a body waits until a provider takes it; meanwhile the client is not read.
- Once a byte of a response has gone to the client there is no other answer: what fails then is cut, so that the
  client sees a message that was not finished.
- A request is sent a second time only if no byte of a response came, the connection had served before (so that it
  may have been closed as we wrote), the method is idempotent, and there is no body.
- Every path ends in `_record`, once.
"""

import asyncio
import time
from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Final

from proxy.http1.client import Hold, Wait
from proxy.http1.plan import Plan, Planner, Unproven
from proxy.http1.problems import blocked_by, problem
from proxy.http1.provider import ProviderConnection
from proxy.policy.decision import Denial, Permit
from proxy.policy.settings import Provider
from proxy.providers.choice import order
from proxy.providers.failure import DialFailure
from proxy.providers.fleet import EndpointState
from proxy.telemetry.record import line as record_line
from proxy.wire.body import LAST_CHUNK, ChunkedBody, FramingError, LengthBody, chunk
from proxy.wire.refusal import Refusal
from proxy.wire.response_head import Ends, ResponseHead

if TYPE_CHECKING:
    from proxy.http1.client import ClientConnection
    from proxy.http1.leg import Leg
    from proxy.http1.plane import HttpPlane

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PROPFIND", "SEARCH", "REPORT"})
"""Methods that may be sent a second time (RFC 9110 section 9.2.2, and the safe ones of WebDAV)."""

CLIENT_LEFT: Final = 499
"""The status that is recorded when the client left before its answer; nobody is sent it."""

RETRY_AFTER: Final = b"Retry-After: 5"

_CLOSE: Final = b"Connection: close\r\n"
_KEEP: Final = b"Connection: keep-alive\r\n"

# What a failed dial comes to when no other permitted endpoint is left: (status, cause).
_DIAL_FAILURES: Final = {
    "refused": (502, "provider-refused"),
    "tls": (502, "provider-tls"),
    "timeout": (504, "provider-connect-timeout"),
    "name": (503, "provider-name"),
    "outside": (502, "provider-address-refused"),
    "full": (503, "provider-full"),
    "local": (503, "overload"),
}


class Exchange:
    """Made for one request when its head is whole; over when its record is written."""

    __slots__ = (
        "_attempts",
        "_body",
        "_choices",
        "_chunked_up",
        "_client",
        "_connect",
        "_continued",
        "_dial",
        "_first_byte",
        "_held",
        "_keep",
        "_last_failure",
        "_leg",
        "_place",
        "_plan",
        "_plane",
        "_planner",
        "_provider",
        "_raw",
        "_received",
        "_request_id",
        "_sent_at",
        "_started",
        "_status",
        "_to_client",
        "_to_provider",
        "_unsent",
        "_wall",
        "tunnelling",
        "withdrawn_at",
    )

    def __init__(
        self, plane: "HttpPlane", client: "ClientConnection", planner: Planner, plan: Plan, wall: float
    ) -> None:
        self._plane = plane
        self._client = client
        self._planner = planner
        self._plan = plan
        self._wall = wall
        self._started = self._sent_at = time.monotonic()
        self._request_id = plan.kept_id or plane.request_ids.next()
        self._body: LengthBody | ChunkedBody | None = None
        self._chunked_up = False
        self._continued = False
        self._held: list[bytes] = []
        self._received = 0
        self._choices: Iterator[EndpointState[ProviderConnection]] = iter(())
        self._place: EndpointState[ProviderConnection] | None = None
        self._leg: Leg | None = None
        self._provider: ProviderConnection | None = None
        self._dial: asyncio.Task[None] | None = None
        self._last_failure = (503, "unavailable")
        self._attempts = 0
        self._status = 0
        self._raw = True
        self._keep = False
        self._first_byte: float | None = None
        self._connect: float | None = None
        self._to_provider = 0
        self._to_client = 0
        self._unsent = 0
        self.tunnelling = False
        self.withdrawn_at = inf

    # The beginning

    def begin(self, rest: bytes) -> None:
        """Do what the plan says. rest: what came behind the head."""
        verdict, head = self._plan.verdict, self._plan.head
        if isinstance(verdict, Permit) and head is not None:
            if head.length == 0:
                if rest or head.upgrade is not None:
                    self._client.keep(rest)
            elif not self._begin_body(head.length, rest):
                return
            line = self._planner.line
            assert self._plan.preferred is not None
            self._choices = iter(order(self._plan.preferred, line.fleet, self._plan.key, self._started))
            self._try_next()
        elif isinstance(verdict, Denial):
            self._plane.metrics.denials(self._client.arrival.listener.name, verdict.reason).count += 1
            extra = () if verdict.authority is None else (blocked_by(verdict.authority),)
            self._answer(451, verdict.reason, rest, extra)
        elif isinstance(verdict, Unproven):
            extra = (b'WWW-Authenticate: Bearer error="invalid_token"',) if verdict.status == 401 else (RETRY_AFTER,)
            self._answer(verdict.status, verdict.cause, rest, extra)
        elif isinstance(verdict, Refusal):
            extra = (b"Allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS",) if verdict.status == 405 else ()
            self._refuse(verdict, extra)

    def _begin_body(self, length: int | None, rest: bytes) -> bool:
        """Take up the request's body; False if it was refused at once."""
        limit = self._plane.limits.body
        if limit is not None and length is not None and length > limit:
            self._refuse(Refusal(413, "body-too-large"))
            return False
        self._body = ChunkedBody() if length is None else LengthBody(length)
        self._chunked_up = length is None
        self._client.feed_exchange(self.from_client)
        if rest:
            self.from_client(rest)
        return self._status == 0

    # The request's body

    @property
    def wants_body(self) -> bool:
        """Whether the client still owes a part of its request."""
        return self._body is not None and not self._body.done

    def from_client(self, data: bytes) -> None:
        """Bytes of the request's body, and perhaps of what comes behind it."""
        body = self._body
        if body is None:
            return
        try:
            payload = body.feed(data)
        except FramingError:
            self._fail(400, "body-malformed")
            return
        if body.done:
            self._client.keep(body.rest)
        if payload:
            self._received += len(payload)
            limit = self._plane.limits.body
            if limit is not None and self._received > limit:
                self._fail(413, "body-too-large")
                return
        provider = self._provider
        if provider is None:
            if payload:
                self._held.append(payload)
            self._client.hold(Hold.PROVIDER)
            return
        data = self._framed(payload, body.done)
        if data:
            provider.transport.write(data)
        self._await_request(time.monotonic())

    def _framed(self, payload: bytes, done: bool) -> bytes:
        self._to_provider += len(payload)
        if not self._chunked_up:
            return payload
        data = chunk(payload) if payload else b""
        return data + LAST_CHUNK if done else data

    def _await_request(self, now: float) -> None:
        """Wait for the rest of the request, or for the response to it."""
        head = self._plan.head
        if self._status:
            return
        asked = self._continued or self._received or head is None or not head.expects_continue
        if self.wants_body and asked:
            self._client.expect(Wait.BODY, now + self._plane.timeouts.body_idle)
        elif self._place is not None:
            self._sent_at = now
            self._client.expect(Wait.FIRST_BYTE, now + self._place.state.definition.timeouts.first_byte)

    # The way to a provider

    def _try_next(self) -> None:
        verdict = self._plan.verdict
        assert isinstance(verdict, Permit)
        for place in self._choices:
            self._attempts += 1
            self._place = place
            self._leg = self._planner.leg(self._client.arrival, self._plan, place)
            provider, closings = place.take(verdict, self._started)
            for closing in closings:
                closing.close()
            if provider is not None:
                self._send(provider)
            else:
                self._dial = asyncio.ensure_future(self._connect_to(place, verdict))
            return
        status, cause = self._last_failure
        self._fail(status, cause, (RETRY_AFTER,) if status == 503 else ())

    async def _connect_to(self, place: EndpointState[ProviderConnection], permit: Permit) -> None:
        started = time.monotonic()
        if self.wants_body:
            self._client.hold(Hold.PROVIDER)
        try:
            _, provider = await place.connect(permit, lambda: self._plane.provider_connection(place))
        except DialFailure as failure:
            self._dial = None
            self._last_failure = _DIAL_FAILURES[failure.kind]
            self._plane.attempted(place, failure.kind)
            self._try_next()
            return
        self._dial = None
        self._connect = time.monotonic() - started
        if self._leg is not None:
            self._leg.timings.connect.observe(self._connect)
        self._send(provider)

    def _send(self, provider: ProviderConnection) -> None:
        """Send the head, and what has come of the body."""
        leg, body = self._leg, self._body
        assert leg is not None
        self._provider = provider
        start = b"%bX-Request-Id: %b\r\n\r\n" % (leg.start, self._request_id)
        if body is not None:
            payload = b"".join(self._held)
            self._held.clear()
            start += self._framed(payload, body.done)
        head = self._plan.head
        provider.begin(self, head is not None and head.method == "HEAD", start)
        self._await_request(time.monotonic())
        if body is not None and provider.writable:
            self._client.unhold(Hold.PROVIDER)

    # What the provider says

    def interim(self, head: ResponseHead) -> None:
        request = self._plan.head
        if request is None or request.version == 0 or self._status:
            return
        if head.status == 100 and not request.expects_continue:
            return
        self._client.transport.write(head.block + b"\r\n")
        if head.status == 100:
            self._continued = True
            self._await_request(time.monotonic())

    def upgraded(self, head: ResponseHead, rest: bytes) -> None:
        request, provider = self._plan.head, self._provider
        asked = None if request is None else request.upgrade
        if provider is None or asked is None or head.upgrade is None or not _grants(head.upgrade, asked):
            self._broken("provider-upgrade-unasked")
            return
        self._first_answer(101)
        self.tunnelling = True
        provider.tunnel()
        client = self._client
        client.transport.write(b"%bConnection: upgrade\r\nUpgrade: %b\r\n\r\n" % (head.block, head.upgrade))
        client.feed_exchange(self.to_tunnel)
        waiting = client.kept()
        if waiting:
            self.to_tunnel(waiting)
        if rest:
            self.tunnelled(rest)
        self._renew()

    def response(self, head: ResponseHead, payload: bytes, done: bool) -> None:
        request, client = self._plan.head, self._client
        assert request is not None
        self._first_answer(head.status)
        keep = request.keep_alive and not self._plane.draining and not self.wants_body
        ends = head.ends
        if ends is Ends.LENGTH or (ends is Ends.NO_BODY and head.length is not None):
            framing = b"Content-Length: %d\r\n" % (head.length or 0)
        elif ends is Ends.NO_BODY:
            framing = b""
        elif request.version == 1:
            self._raw = False
            framing = b"Transfer-Encoding: chunked\r\n"
        else:
            framing = b""
            keep = False
        if not keep:
            framing += _CLOSE
        elif request.version == 0:
            framing += _KEEP
        self._keep = keep
        self._to_client += len(payload)
        if not self._raw:
            payload = self._rechunked(payload, done)
        client.transport.write(b"%b%b\r\n%b" % (head.block, framing, payload))
        if done:
            self._complete()
        else:
            self._renew()

    def more(self, payload: bytes, done: bool) -> None:
        self._to_client += len(payload)
        if not self._raw:
            payload = self._rechunked(payload, done)
        if payload:
            self._client.transport.write(payload)
        if done:
            self._complete()
        else:
            self._renew()

    def _rechunked(self, payload: bytes, done: bool) -> bytes:
        data = chunk(payload) if payload else b""
        return data + LAST_CHUNK if done else data

    def _first_answer(self, status: int) -> None:
        now = time.monotonic()
        self._status = status
        self._first_byte = now - self._sent_at
        place, leg = self._place, self._leg
        if place is not None and leg is not None:
            leg.timings.first_byte.observe(self._first_byte)
            place.state.first_byte(self._first_byte, now)

    def _renew(self) -> None:
        """A byte came: the idle clock starts again."""
        if self._place is not None:
            self._client.expect(Wait.IDLE, time.monotonic() + self._place.state.definition.timeouts.idle)

    # Tunnels

    def to_tunnel(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._provider is not None:
            self._to_provider += len(data)
            self._provider.transport.write(data)
            self._renew()

    def tunnelled(self, data: bytes) -> None:
        self._to_client += len(data)
        self._client.transport.write(data)
        self._renew()

    def provider_half_closed(self) -> None:
        if self._client.transport.can_write_eof():
            self._client.transport.write_eof()

    def client_half_closed(self) -> bool:
        """The client will send no more, in a tunnel; whether its connection stays open for the other way."""
        provider = self._provider
        if provider is None or not provider.transport.can_write_eof():
            return False
        provider.transport.write_eof()
        return self._client.transport.can_write_eof()

    # Back-pressure

    def provider_paused(self) -> None:
        self._client.hold(Hold.PROVIDER)

    def provider_resumed(self) -> None:
        self._client.unhold(Hold.PROVIDER)
        if self._status == 0:
            self._await_request(time.monotonic())

    def client_paused(self) -> None:
        """The client takes no more for now."""
        self._unsent = self._client.transport.get_write_buffer_size()
        if self._provider is not None and not self._provider.transport.is_closing():
            self._provider.transport.pause_reading()

    def client_resumed(self) -> None:
        """The client takes bytes again."""
        if self._provider is not None and not self._provider.transport.is_closing():
            self._provider.transport.resume_reading()
        if self._status:
            self._renew()

    # Ends

    def _complete(self) -> None:
        """The response is whole and written."""
        provider, place = self._provider, self._place
        self._provider = None
        now = time.monotonic()
        if provider is not None and place is not None:
            if self.wants_body or not provider.release():
                # A final response before the body was read: the rest of it would be taken for a request.
                provider.close()
            else:
                if not self._client.writable and not provider.transport.is_closing():
                    provider.transport.resume_reading()
                for closing in place.give(provider, now):
                    closing.close()
            self._plane.attempted(place, "answered")
        linger = self.wants_body
        self._record(now, None)
        self._client.finished(self._keep, linger)

    def provider_broke(self, cause: str) -> None:
        provider = self._provider
        self._provider = None
        place = self._place
        if place is not None:
            self._plane.attempted(place, "broken")
        if self.tunnelling:
            self._record(time.monotonic(), None)
            self._client.finished(keep=False, linger=True)
        elif self._status:
            self._record(time.monotonic(), cause)
            self._client.cut()
        elif provider is not None and provider.serves > 1 and self._may_repeat() and place is not None:
            verdict = self._plan.verdict
            assert isinstance(verdict, Permit)
            self._attempts += 1
            self._plane.retried(place)
            self._dial = asyncio.ensure_future(self._connect_to(place, verdict))
        else:
            self._fail(502, cause)

    def _may_repeat(self) -> bool:
        head = self._plan.head
        return head is not None and head.method in IDEMPOTENT and self._body is None and head.upgrade is None

    def _broken(self, cause: str) -> None:
        """The provider did what it must not: close it, and answer."""
        provider, self._provider = self._provider, None
        if provider is not None:
            provider.abort()
        self._fail(502, cause)

    def client_left(self) -> None:
        """The client's connection is gone; so is this request."""
        if self._stop_provider():
            self._status = self._status or CLIENT_LEFT
            self._record(time.monotonic(), None if self.tunnelling else "client-left")

    def overdue(self, now: float, wait: Wait) -> None:
        """What was waited for did not come in time."""
        client, place = self._client, self._place
        if wait is Wait.BODY and not client.paused:
            self._fail(408, "body-too-slow")
        elif wait is Wait.IDLE and not client.writable and client.transport.get_write_buffer_size() < self._unsent:
            self._unsent = client.transport.get_write_buffer_size()
            self._renew()
        elif wait is Wait.IDLE:
            self._fail(504, "idle")
        else:
            if place is not None:
                place.state.first_byte(now - self._sent_at, now)
                self._plane.attempted(place, "timeout")
            self._fail(504, "provider-too-slow")

    def redecide(self, planner: Planner, now: float, wall: float) -> None:
        """Another line is in force, or a date has passed: may the provider in hand go on with this?

        If not, a tunnel and a request that has sent nothing end now; one in flight has a moment to finish. No
        further provider is tried on the old permit in any case.
        """
        leg = self._leg
        if leg is None or leg.provider is None:
            return
        self._choices = iter(())
        verdict = planner.plan(self._client.arrival, self._plan.head_bytes, wall).verdict
        if isinstance(verdict, Permit) and any(same_recipient(leg.provider, other) for other in verdict.providers):
            self.withdrawn_at = inf
        elif self.tunnelling or self._provider is None:
            self.end_withdrawn()
        else:
            self.withdrawn_at = min(self.withdrawn_at, now + self._plane.timeouts.withdrawn)

    def end_withdrawn(self) -> None:
        """Abort: its permit was withdrawn."""
        if self._leg is not None and self._leg.provider is not None:
            self._plane.metrics.withdrawn(self._client.arrival.listener.name, self._leg.provider.name).count += 1
        self._fail(503, "permit-withdrawn", (RETRY_AFTER,))

    def _stop_provider(self) -> bool:
        """Let go of the provider, aborting what it was sent; False if the exchange was over already."""
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        provider, self._provider = self._provider, None
        if provider is not None:
            provider.abort()
        return self._wall >= 0

    def _refuse(self, refusal: Refusal, extra: tuple[bytes, ...] = ()) -> None:
        """The request is not read any further; where its next one would begin is not known."""
        self._keep = False
        self._send_problem(refusal.status, refusal.cause, extra)

    def _answer(self, status: int, reason: str, rest: bytes, extra: tuple[bytes, ...]) -> None:
        """An answer of our own to a request that was well formed; the connection stays if it has no body."""
        head = self._plan.head
        self._keep = head is not None and head.keep_alive and head.length == 0 and not self._plane.draining
        if self._keep and rest:
            self._client.keep(rest)
        self._send_problem(status, reason, extra)

    def _fail(self, status: int, cause: str, extra: tuple[bytes, ...] = ()) -> None:
        """End it here: with an answer if none has begun, else by cutting the connection."""
        if not self._stop_provider():
            return
        if self._status:
            self._record(time.monotonic(), cause)
            self._client.cut()
            return
        if cause == "unavailable":
            self._plane.metrics.denials(self._client.arrival.listener.name, cause).count += 1
        head = self._plan.head
        self._keep = (
            head is not None
            and head.keep_alive
            and not self.wants_body
            and status not in (400, 408, 413)
            and not self._plane.draining
        )
        self._send_problem(status, cause, extra)

    def _send_problem(self, status: int, reason: str, extra: tuple[bytes, ...]) -> None:
        head = self._plan.head
        self._status = status
        keep = _CLOSE if not self._keep else _KEEP if head is not None and head.version == 0 else b""
        head_only = head is not None and head.method == "HEAD"
        self._client.transport.write(
            problem(status, reason, self._request_id, head_only=head_only, keep=keep, extra=extra)
        )
        self._record(time.monotonic(), reason)
        self._client.finished(self._keep, linger=True)

    def _record(self, now: float, reason: str | None) -> None:
        if self._wall < 0:
            return
        leg = self._leg or self._planner.leg(self._client.arrival, self._plan, None)
        duration = now - self._started
        requests = leg.requests
        requests.status[self._status // 100] += 1
        requests.to_provider += self._to_provider
        requests.to_client += self._to_client
        leg.timings.request.observe(duration)
        if self._plan.rules is not None:
            self._plan.rules.count += 1
        self._plane.log.write(
            record_line(
                leg.static,
                self._wall,
                self._request_id,
                self._status,
                reason,
                self._to_provider,
                self._to_client,
                duration,
                self._first_byte,
                self._connect,
                self._attempts,
            )
        )
        self._wall = -1.0


def _grants(granted: bytes, asked: bytes) -> bool:
    """Whether what the provider switches to was asked for (RFC 9110 section 7.8)."""
    offers = {offer.strip(b" \t").lower() for offer in asked.split(b",")}
    return all(choice.strip(b" \t").lower() in offers for choice in granted.split(b","))


def same_recipient(one: Provider, other: Provider) -> bool:
    """Whether two definitions, of two policies, name one recipient of data in one place."""
    return (one.name, one.zone, one.operator) == (other.name, other.zone, other.operator)
