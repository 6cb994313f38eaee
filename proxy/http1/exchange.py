"""One request and its response: decide -> choose -> dial -> relay -> record.

- Nothing is sent anywhere before the plan holds a Permit, and then only to the endpoints that it covers.
- What the client has sent of a body waits until a provider takes it; meanwhile the client is not read.
- Once a byte of a response has gone to the client there is no other answer: what fails then is cut, so that the
  client sees a message that was not finished.
- A request is sent a second time only if no byte of a response came, the connection had served before (so that it
  may have been closed as we wrote), the method is idempotent, and there is no body.
- Every path ends in `record`, once.
"""

import time
from math import inf
from typing import TYPE_CHECKING

from proxy.http1.attempts import Attempts
from proxy.http1.occupant import Wait
from proxy.http1.plan import Plan, Planner, Unproven
from proxy.http1.problems import ALLOW, RETRY_AFTER, blocked_by, challenge, problem
from proxy.http1.provider import ProviderConnection
from proxy.http1.reading import PROVIDER
from proxy.http1.tally import Tally
from proxy.http1.tunnel import Tunnel
from proxy.http1.upload import SLICE, TooLarge, Upload
from proxy.identity.answers import Pending
from proxy.policy.decision import Denial, Permit
from proxy.providers.choice import order
from proxy.wire.body import FramingError, Piece
from proxy.wire.refusal import Refusal
from proxy.wire.request_head import IDEMPOTENT
from proxy.wire.response_head import ResponseHead, grants
from proxy.wire.response_writer import CLOSE, KEEP, final_head, framed, switched_head, without_cookie

if TYPE_CHECKING:
    from proxy.http1.client import ClientConnection
    from proxy.http1.leg import Leg
    from proxy.http1.plane import HttpPlane


class Exchange:
    """Made for one request when its head is whole; over when its record is written."""

    # fmt: off
    __slots__ = (
        "_attempts", "_chunked", "_client", "_continued", "_held", "_keep", "_leg", "_plan", "_plane", "_planner",
        "_provider", "_sent_at", "_upload", "tally", "withdrawn_at",
    )
    # fmt: on

    def __init__(
        self, plane: "HttpPlane", client: "ClientConnection", planner: Planner, plan: Plan, wall: float, started: float
    ) -> None:
        self._plane = plane
        self._client = client
        self._planner = planner
        self._plan = plan
        self.tally = Tally(wall, started, plan.kept_id or plane.request_ids.next())
        self._sent_at = started
        self._attempts: Attempts | None = None
        self._leg: Leg | None = None
        self._provider: ProviderConnection | None = None
        self._upload: Upload | None = None
        self._held = b""
        self._continued = False
        self._chunked = False
        self._keep = False
        self.withdrawn_at = inf

    def begin(self) -> None:
        """Do what the plan says."""
        verdict, head = self._plan.verdict, self._plan.head
        if isinstance(verdict, Permit) and head is not None and self._plan.preferred is not None:
            if head.has_body and not self._begin_upload(head.length):
                return
            choices = order(self._plan.preferred, self._planner.line.fleet, self._plan.key, self.tally.started)
            self._attempts = Attempts(self._plane, self, self._planner, verdict, choices)
            self._attempts.next(self.tally.started)
        elif isinstance(verdict, Denial):
            self._plane.metrics.denials(self._client.arrival.listener.name, verdict.reason).count += 1
            extra = () if verdict.authority is None else (blocked_by(verdict.authority),)
            self._answer(451, verdict.reason, extra)
        elif isinstance(verdict, Unproven):
            said = (challenge(verdict.source) if verdict.status == 401 else RETRY_AFTER, self._plan.set_cookie)
            self._answer(verdict.status, verdict.cause, tuple(filter(None, said)))
        elif isinstance(verdict, Refusal):
            # Not read any further: where a next request would begin is not known.
            self._say(verdict.status, verdict.cause, (ALLOW,) if verdict.status == 405 else ())

    # The request's body

    @property
    def wants_body(self) -> bool:
        """Whether the client still owes a part of its request."""
        return self._upload is not None and not self._upload.done

    def _begin_upload(self, length: int | None) -> bool:
        """Take up the request's body; False if it was refused at once."""
        limit = self._plane.limits.body
        if limit is not None and length is not None and length > limit:
            self._say(413, "body-too-large", ())
            return False
        self._upload = Upload(length, limit)
        self._client.feed_exchange(self.from_client)
        came = self._client.kept()
        if came:
            self.from_client(came)
        return not self.tally.over

    def from_client(self, data: bytes) -> None:
        """Bytes of the request's body, and perhaps of what comes behind it."""
        upload, provider = self._upload, self._provider
        if upload is None:
            return
        if upload.chunked and len(data) > SLICE:
            data = self._client.first_of(data, SLICE)
        try:
            framed = upload.feed(data)
        except FramingError:
            self._fail(400, "body-malformed")
            return
        except TooLarge:
            self._fail(413, "body-too-large")
            return
        if upload.done:
            self._client.keep(upload.rest)
        if provider is None:
            self._held += framed
            self._client.reading.hold(PROVIDER)
            return
        self.tally.to_provider = upload.received
        if framed:
            provider.transport.write(framed)
        self._await_provider(time.monotonic())

    def _await_provider(self, now: float) -> None:
        """Wait for the rest of the request, or for the response to it, or for more of that."""
        leg, upload = self._leg, self._upload
        if leg is None or leg.provider is None:
            return
        timeouts = leg.provider.timeouts
        if self.tally.status:
            self._client.expect(Wait.IDLE, now + timeouts.idle)
        elif upload is not None and not upload.done and (upload.received or not self._awaits_continue):
            self._client.expect(Wait.BODY, now + self._plane.timeouts.body_idle)
        else:
            self._sent_at = now
            self._client.expect(Wait.FIRST_BYTE, now + timeouts.first_byte)

    @property
    def _awaits_continue(self) -> bool:
        head = self._plan.head
        return head is not None and head.expects_continue and not self._continued

    # The way to a provider

    def dialling(self) -> None:
        if self._upload is not None:
            self._client.reading.hold(PROVIDER)

    def connected(self, provider: ProviderConnection) -> None:
        """Send the head, and what has come of the body."""
        attempts, head, upload = self._attempts, self._plan.head, self._upload
        assert attempts is not None
        assert head is not None
        self._leg = leg = self._planner.leg(self._client.arrival, self._plan, attempts.place)
        self._provider = provider
        start = b"%bX-Request-Id: %b\r\n\r\n%b" % (leg.start, self.tally.request_id, self._held)
        provider.begin(self, head.method == "HEAD", start)
        self._await_provider(time.monotonic())
        if upload is not None:
            self._held = b""
            self.tally.to_provider = upload.received
            if provider.writable:
                self._client.reading.unhold(PROVIDER)
        if attempts.connect is not None:
            leg.timings.connect.observe(attempts.connect)

    def unreachable(self, status: int, cause: str) -> None:
        attempts = self._attempts
        if attempts is not None and attempts.place is not None:
            self._leg = self._planner.leg(self._client.arrival, self._plan, attempts.place)
        self._fail(status, cause, (RETRY_AFTER,) if status == 503 else ())

    # What the provider says

    def interim(self, head: ResponseHead) -> None:
        request = self._plan.head
        if request is None or request.version == 0 or (head.status == 100 and not request.expects_continue):
            return
        self._client.transport.write(without_cookie(head, self._planner.own_cookie).block + b"\r\n")
        if head.status == 100:
            self._continued = True
            self._await_provider(time.monotonic())

    def response(self, head: ResponseHead, payload: Piece, done: bool) -> None:
        request = self._plan.head
        assert request is not None
        now = self._answered(head.status)
        keep = request.keep_alive and not self.wants_body and not self._client.last
        head, extra = without_cookie(head, self._planner.own_cookie), self._plan.set_cookie
        start, self._chunked, self._keep = final_head(head, request.version, keep, extra)
        self._pass_on(start, payload, done)
        if done:
            self._complete(now)
        else:
            self._await_provider(now)

    def more(self, payload: Piece, done: bool) -> None:
        self._pass_on(b"", payload, done)
        now = time.monotonic()
        if done:
            self._complete(now)
        else:
            self._await_provider(now)

    def _pass_on(self, start: bytes, payload: Piece, done: bool) -> None:
        """Write what came to the client: start, then payload in the framing of the answer."""
        self.tally.to_client += len(payload)
        write = self._client.transport.write
        for piece in framed(start, payload, self._chunked, done):
            write(piece)

    def upgraded(self, head: ResponseHead, rest: bytes) -> None:
        request, provider, leg, client = self._plan.head, self._provider, self._leg, self._client
        asked = None if request is None else request.upgrade
        if provider is None or leg is None or leg.provider is None or asked is None or not grants(head.upgrade, asked):
            if provider is not None:
                provider.abort()
            self.provider_broke("provider-upgrade-unasked")
            return
        self._answered(101)
        client.transport.write(switched_head(without_cookie(head, self._planner.own_cookie)))
        client.exchange = tunnel = Tunnel(self, client, provider, leg.provider.timeouts.idle)
        provider.tunnel(tunnel)
        client.feed_exchange(tunnel.from_client)
        waiting = client.kept()
        if waiting:
            tunnel.from_client(waiting)
        if rest:
            tunnel.tunnelled(rest)

    def _answered(self, status: int) -> float:
        """A final head, or a 101, has come; the time is returned."""
        now = time.monotonic()
        leg, attempts = self._leg, self._attempts
        assert leg is not None
        assert attempts is not None
        assert attempts.place is not None
        self.tally.status = status
        self.tally.first_byte = now - self._sent_at
        leg.timings.first_byte.observe(self.tally.first_byte)
        leg.answered.count += 1
        attempts.place.state.first_byte(self.tally.first_byte, now)
        return now

    def client_half_closed(self) -> bool:
        """The client sends no more; whether its connection stays open until it has its answer."""
        return not self.wants_body and self._client.leaving()

    def client_may_be_leaving(self) -> bool:
        """Whether an end of what the client sends, behind what was not read yet, may be its end."""
        return True

    # Back-pressure

    def provider_paused(self) -> None:
        self._client.reading.hold(PROVIDER)

    def provider_resumed(self) -> None:
        self._client.reading.unhold(PROVIDER)
        self._await_provider(time.monotonic())

    def client_paused(self) -> None:
        """The client takes no more for now."""
        if self._provider is not None:
            self._provider.pause()

    def client_resumed(self) -> None:
        """The client takes bytes again."""
        if self._provider is not None:
            self._provider.resume()
            self._await_provider(time.monotonic())

    # Ends

    def _complete(self, now: float) -> None:
        """The response is whole and written."""
        provider, attempts = self._provider, self._attempts
        self._provider = None
        unread = self.wants_body
        if provider is not None and attempts is not None and attempts.place is not None:
            if unread or not provider.release():
                # After a final response the rest of a body would be taken for a request.
                provider.abort()
            else:
                for closing in attempts.place.give(provider, now):
                    closing.close()
        self.record(None)
        self._client.finished(self._keep, linger=unread)

    def provider_broke(self, cause: str) -> None:
        provider, attempts = self._provider, self._attempts
        self._provider = None
        if self.tally.status:
            self.record(cause)
            self._client.cut()
            return
        if attempts is None or attempts.place is None or provider is None:
            return
        self._plane.attempted(attempts.place, "broken")
        if self._may_repeat(provider) and not attempts.place.state.retired:
            attempts.again()
        else:
            self._fail(502, cause)

    def _may_repeat(self, provider: ProviderConnection) -> bool:
        head = self._plan.head
        idempotent = head is not None and head.method in IDEMPOTENT and head.upgrade is None
        again = idempotent and self._upload is None and provider.serves > 1 and not provider.heard
        return again and self.withdrawn_at == inf

    def client_left(self) -> None:
        """The client's connection is gone; so is this request."""
        self._stop_provider()
        self.record("client-left")

    def overdue(self, now: float, wait: Wait) -> None:
        """What was waited for did not come in time."""
        attempts = self._attempts
        if wait is Wait.BODY and not self._client.reading.held:
            self._fail(408, "body-too-slow")
        elif wait is Wait.IDLE:
            if self._client.uptake.progressed():
                self._await_provider(now)
            else:
                self._fail(504, "idle")
        else:
            if attempts is not None and attempts.place is not None:
                attempts.place.state.first_byte(now - self._sent_at, now)
                self._plane.attempted(attempts.place, "timeout")
            self._fail(504, "provider-too-slow")

    def redecide(self, planner: Planner, now: float, wall: float) -> None:
        """Another line is in force, or a date has passed: may this go on?

        A request that has sent nothing goes on by the new decision alone. One in flight stays with its provider
        if that is still permitted; if not, it has a moment to finish.
        """
        attempts = self._attempts
        if attempts is None:
            return
        plan = planner.again(self._client.arrival, self._plan, self.tally.wall, wall)
        attempts.undecided = isinstance(plan.verdict, Pending)
        if isinstance(plan.verdict, Pending):
            attempts.stop()
            self._plane.redecide_when(plan.verdict, self._client)
        elif self._provider is not None:
            attempts.last()
            if self._covered(plan):
                self.withdrawn_at = inf
            else:
                self.withdrawn_at = min(self.withdrawn_at, now + self._plane.timeouts.withdrawn)
        elif isinstance(plan.verdict, Permit) and plan.preferred is not None:
            self._planner, self._plan = planner, plan
            choices = order(plan.preferred, planner.line.fleet, plan.key, now)
            attempts.renew(planner, plan.verdict, choices, now)
        else:
            self.end_withdrawn()

    def permitted(self, planner: Planner, wall: float) -> bool:
        """Whether the provider in hand may be sent this request by another line, or at another time.

        Where a source has to be asked first it may for now, and the question is put again.
        """
        plan = planner.again(self._client.arrival, self._plan, self.tally.wall, wall)
        if isinstance(plan.verdict, Pending):
            self._plane.redecide_when(plan.verdict, self._client)
            return True
        return self._covered(plan)

    def _covered(self, plan: Plan) -> bool:
        place = None if self._attempts is None else self._attempts.place
        return place is not None and isinstance(plan.verdict, Permit) and plan.verdict.names(place.state.definition)

    def end_withdrawn(self) -> None:
        """Abort: its permit was withdrawn."""
        self.count_withdrawn()
        self._fail(503, "permit-withdrawn", (RETRY_AFTER,))

    def count_withdrawn(self) -> None:
        """Count that a permit was withdrawn under way."""
        place = None if self._attempts is None else self._attempts.place
        if place is not None:
            listener, provider = self._client.arrival.listener.name, place.state.definition.name
            self._plane.metrics.withdrawn(listener, provider).count += 1

    def _stop_provider(self) -> None:
        """Let go of the provider, aborting what it was sent."""
        if self._attempts is not None:
            self._attempts.stop()
        provider, self._provider = self._provider, None
        if provider is not None:
            provider.abort()

    def _answer(self, status: int, reason: str, extra: tuple[bytes, ...]) -> None:
        """An answer of our own to a request that was well formed; the connection stays if it has no body."""
        head = self._plan.head
        self._keep = head is not None and head.keep_alive and not head.has_body and not self._client.last
        self._say(status, reason, extra)

    def _fail(self, status: int, cause: str, extra: tuple[bytes, ...] = ()) -> None:
        """End it here: with an answer if none has begun, else by cutting the connection."""
        if self.tally.over:
            return
        self._stop_provider()
        if self.tally.status:
            self.record(cause)
            self._client.cut()
            return
        head, listener = self._plan.head, self._client.arrival.listener.name
        if cause == "unavailable":
            self._plane.metrics.denials(listener, cause).count += 1
        keep = head is not None and head.keep_alive and not self.wants_body and not self._client.last
        self._keep = keep and status >= 500
        self._say(status, cause, extra)

    def _say(self, status: int, reason: str, extra: tuple[bytes, ...]) -> None:
        head = self._plan.head
        self.tally.status = status
        keep = CLOSE if not self._keep else KEEP if head is not None and head.version == 0 else b""
        head_only = head is not None and head.method == "HEAD"
        self._client.transport.write(
            problem(status, reason, self.tally.request_id, head_only=head_only, keep=keep, extra=extra)
        )
        self.record(reason)
        self._client.finished(self._keep, linger=True)

    def record(self, reason: str | None) -> None:
        """Count and log what came of the request, once; reason: a word of a fixed list, None for success."""
        if self.tally.over:
            return
        plan, attempts = self._plan, self._attempts
        leg = self._leg or self._planner.leg(self._client.arrival, plan, None)
        connect, tries = (None, 0) if attempts is None else (attempts.connect, attempts.count)
        if plan.trail is not None:
            plan.trail.count += 1
        self.tally.record(leg, plan.rules, self._plane.log, reason, connect, tries)
