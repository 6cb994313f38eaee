"""One request and its response: decide -> choose -> dial -> relay -> record.

- Nothing is sent anywhere before the plan holds a Permit, and then only to the endpoints that it covers.
- What the client has sent of a body waits until a provider takes it; meanwhile the client is not read.
- Once a byte of a response has gone to the client there is no other answer: what fails then is cut, so that the
  client sees a message that was not finished.
- Whether a request whose provider failed before that is sent again is `repeat`'s to say.
- Every path ends in `record`, once.
"""

import time
from math import inf
from typing import TYPE_CHECKING

from proxy.http1 import problems
from proxy.http1.attempts import Attempts
from proxy.http1.failing import Failing
from proxy.http1.leg import Leg
from proxy.http1.occupant import Wait
from proxy.http1.plan import Plan, Planner
from proxy.http1.problems import Problem
from proxy.http1.provider import ProviderConnection
from proxy.http1.reading import PROVIDER
from proxy.http1.repeat import repeatable
from proxy.http1.standing import Standing
from proxy.http1.tally import Tally
from proxy.http1.tunnel import Tunnel
from proxy.http1.upload import RequestBody, Upload
from proxy.identity.answers import Pending
from proxy.policy.decision import Denial, Permit
from proxy.providers.endpoint import EndpointState
from proxy.wire.body import Piece
from proxy.wire.request_head import RequestHead
from proxy.wire.response_head import ResponseHead, grants
from proxy.wire.response_writer import final_head, framed, switched_head, without_cookie

if TYPE_CHECKING:
    from proxy.http1.client import ClientConnection
    from proxy.http1.plane import HttpPlane


class Exchange(Failing):
    """Made for one request when its head is whole; over when its record is written."""

    __slots__ = ("_awaits_continue", "_chunked", "_keep", "_planner", "changes_at")

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
        self._leg = None
        self._provider: ProviderConnection | None = None
        self._upload: Upload | None = None
        self._repeat = None
        self._hedge = None
        self._heard = self._held_up = False
        self._awaits_continue = plan.head is not None and plan.head.expects_continue
        self._chunked = False
        self._keep = False
        self.changes_at = plan.changes_at
        self.withdrawn_at = inf

    def begin(self) -> None:
        """Do what the plan says."""
        verdict, head = self._plan.verdict, self._plan.head
        if isinstance(verdict, Permit) and head is not None:
            if head.has_body and not self._begin_upload(head):
                return
            now = self.tally.started
            self._attempts = Attempts(self._plane, self, self._planner, self._plan, verdict, now)
            self._attempts.next(now)
            return
        if isinstance(verdict, Denial):
            self._plane.metrics.denials(self._client.arrival.listener.name, verdict.reason).count += 1
        self._say(problems.of(verdict, self._plan.set_cookie))

    def turn_away(self, problem: Problem) -> None:
        """End it before anything was done for it, whatever the plan says."""
        self._say(problem)

    # The request's body

    @property
    def wants_body(self) -> bool:
        """Whether the client still owes a part of its request."""
        head, upload = self._plan.head, self._upload
        return head is not None and head.has_body and (upload is None or not upload.body.done)

    def _begin_upload(self, head: RequestHead) -> bool:
        """Take up the request's body; False if it was refused at once."""
        limit, length = self._plane.limits.body, head.length
        if limit is not None and length is not None and length > limit:
            self._say(problems.BODY_TOO_LARGE)
            return False
        kept = self._plane.line.policy.retries.replay if repeatable(head) else 0
        self._upload = Upload(self, self._client, RequestBody(length, limit), kept)
        self._upload.begin()
        return not self.tally.over

    def sent(self, payload: int) -> None:
        """So many bytes of it are on their way to the provider."""
        self.tally.to_provider = payload
        self._await_provider(time.monotonic())

    def _await_provider(self, now: float) -> None:
        """Wait for the rest of the request, or for the response to it, or for more of that."""
        leg = self._leg
        if leg is None or leg.provider is None:
            return
        timeouts = leg.provider.timeouts
        if self.tally.status:
            self._client.expect(Wait.IDLE, now + timeouts.idle)
        elif self._upload is not None and self.wants_body and (self.tally.to_provider or not self._awaits_continue):
            self._client.expect(Wait.BODY, now + self._plane.timeouts.body_idle)
        else:
            self._sent_at = now
            patience = timeouts.first_byte
            if self._repeat is not None:
                patience = min(patience, self._repeat.left)
            self._client.expect(Wait.FIRST_BYTE, now + patience)
            after = self._plane.hedges.after
            if after is not None and self._attempts is not None:
                self._hedge_later(self._attempts, now, after)

    # The way to a provider

    def dialling(self) -> None:
        # The dial keeps its own time. What was waited for from a connection that broke is not waited for any more.
        self._client.expect(Wait.NOTHING, inf)
        if self._upload is not None:
            self._upload.hold()

    def connected(self, provider: ProviderConnection) -> None:
        """Send the head, and what has come of the body."""
        attempts, head, upload = self._attempts, self._plan.head, self._upload
        assert attempts is not None
        assert head is not None
        place = attempts.place
        assert place is not None
        self._leg = leg = self._planner.leg(self._client.arrival, self._plan, place)
        self._provider = provider
        start = b"%bX-Request-Id: %b\r\n\r\n" % (leg.start, self.tally.request_id)
        if upload is not None:
            self.tally.to_provider = upload.body.received
            start = upload.connect(provider, start)
        provider.begin(self, head.method == "HEAD", start)
        if upload is not None and provider.writable:
            self._client.reading.unhold(PROVIDER)
        now = time.monotonic()
        if self._repeat is None:
            place.state.budget.request(now)
        self._await_provider(now)
        if attempts.connect is not None:
            leg.timings.connect.observe(attempts.connect)

    def way(self, place: EndpointState[ProviderConnection]) -> tuple[Leg, bytes, bool]:
        head = self._plan.head
        assert head is not None
        leg = self._planner.leg(self._client.arrival, self._plan, place)
        return leg, b"%bX-Request-Id: %b\r\n\r\n" % (leg.start, self.tally.request_id), head.method == "HEAD"

    def unreachable(self, problem: Problem) -> None:
        attempts = self._attempts
        if attempts is not None and attempts.place is not None:
            self._leg = self._planner.leg(self._client.arrival, self._plan, attempts.place)
        self.fail(problem)

    # What the provider says

    def interim(self, head: ResponseHead) -> None:
        request = self._plan.head
        if request is None or request.version == 0 or (head.status == 100 and not request.expects_continue):
            return
        self._heard = True
        self._hedge_ends()
        self._client.transport.write(without_cookie(head, self._planner.own_cookie).block + b"\r\n")
        if head.status == 100:
            self._awaits_continue = False
            self._await_provider(time.monotonic())

    def response(self, head: ResponseHead, payload: Piece, done: bool) -> None:
        request = self._plan.head
        assert request is not None
        now = self._answered(head.status)
        head, extra = without_cookie(head, self._planner.own_cookie), self._plan.set_cookie
        start, self._chunked, self._keep = final_head(head, request.version, self._may_stay(), extra)
        self._pass_on(start, payload, done, now)

    def more(self, payload: Piece, done: bool) -> None:
        self._pass_on(b"", payload, done, time.monotonic())

    def _pass_on(self, start: bytes, payload: Piece, done: bool, now: float) -> None:
        """Write what came to the client: start, then payload in the framing of the answer; done: that is all."""
        self.tally.to_client += len(payload)
        write = self._client.transport.write
        for piece in framed(start, payload, self._chunked, done):
            write(piece)
        if done:
            self._complete(now)
        else:
            self._await_provider(now)

    def upgraded(self, head: ResponseHead, rest: bytes) -> None:
        request, provider, attempts = self._plan.head, self._provider, self._attempts
        asked = None if request is None else request.upgrade
        if provider is None or attempts is None or asked is None or not grants(head.upgrade, asked):
            if provider is not None:
                provider.abort()
            self.provider_broke("provider-upgrade-unasked")
            return
        now = self._answered(101)
        if attempts.tried is not None:
            attempts.tried.completed(101, now)
        self._client.transport.write(switched_head(without_cookie(head, self._planner.own_cookie)))
        Tunnel(self, self._standing(attempts), self._client, provider, attempts.idle).begin(rest)

    def _answered(self, status: int) -> float:
        """A final head, or a 101, has come; the time is returned."""
        now = time.monotonic()
        if self._hedge is not None:
            self._hedge_ends()
        leg, attempts = self._leg, self._attempts
        assert leg is not None
        assert attempts is not None
        if self._upload is not None:
            self._upload.kept = None
        self.tally.status = status
        self.tally.first_byte = now - self._sent_at
        leg.timings.first_byte.observe(self.tally.first_byte)
        leg.answered.count += 1
        attempts.answered(self.tally.first_byte, now)
        return now

    def client_half_closed(self) -> bool:
        """The client sends no more; whether its connection stays open until it has its answer."""
        return not self.wants_body and self._client.leaving()

    def client_may_be_leaving(self) -> bool:
        """Whether an end of what the client sends, behind what was not read yet, may be its end."""
        return True

    def _moving(self) -> None:
        self._await_provider(time.monotonic())

    # Ends

    def _complete(self, now: float) -> None:
        """The response is whole and written."""
        provider, attempts = self._provider, self._attempts
        self._provider = None
        unread = self.wants_body
        if provider is not None and attempts is not None and attempts.tried is not None:
            attempts.tried.completed(self.tally.status, now)
            if unread or not provider.release():
                # After a final response the rest of a body would be taken for a request.
                provider.abort()
            else:
                attempts.give(provider, now)
        self.record(None)
        self._client.finished(self._keep, linger=unread)

    def client_left(self) -> None:
        """The client's connection is gone; so is this request."""
        self._stop_provider()
        self.record("client-left")

    def redecide(self, planner: Planner, now: float, wall: float) -> None:
        """Another line is in force, or a date has passed: may this go on?

        A request that has sent nothing goes on by the new decision alone. One in flight stays with its provider
        if that is still permitted; if not, it has a moment to finish.
        """
        attempts = self._attempts
        if attempts is None:
            return
        self._hedge_ends()
        plan = self._standing(attempts).again(planner, wall)
        self.changes_at = plan.changes_at
        attempts.undecided = isinstance(plan.verdict, Pending)
        if attempts.undecided:
            attempts.stop()
        elif self._provider is not None:
            attempts.last()
            moment = min(self.withdrawn_at, now + self._plane.timeouts.withdrawn)
            self.withdrawn_at = inf if attempts.covered(plan.verdict) else moment
        elif isinstance(plan.verdict, Permit):
            self._planner, self._plan = planner, plan
            attempts.renew(planner, plan, plan.verdict, now)
        else:
            self.end_withdrawn()

    def end_withdrawn(self) -> None:
        """Abort: its permit was withdrawn."""
        if self._attempts is not None:
            self._standing(self._attempts).withdrawn()
        self.fail(problems.WITHDRAWN)

    def _standing(self, attempts: Attempts) -> Standing:
        return Standing(self._plane, self._client, attempts, self._plan, self.tally.wall)

    def _stop_provider(self) -> None:
        """Let go of the provider, aborting what it was sent."""
        self._hedge_ends()
        if self._attempts is not None:
            self._attempts.stop()
            self._attempts.left()
        provider, self._provider = self._provider, None
        if provider is not None:
            provider.abort()

    def fail(self, problem: Problem) -> None:
        """End it here: with an answer if none has begun, else by cutting the connection."""
        if self.tally.over:
            return
        self._stop_provider()
        if self.tally.status:
            self.record(problem.reason)
            self._client.cut()
            return
        if problem is problems.UNAVAILABLE:
            self._plane.metrics.denials(self._client.arrival.listener.name, problem.reason).count += 1
        self._say(problem)

    def _say(self, problem: Problem) -> None:
        """An answer of our own; the connection stays if it is known where the next request begins."""
        head = self._plan.head
        self.tally.status = problem.status
        self._keep = keep = self._may_stay() and not problem.closes
        self._client.transport.write(problems.written(problem, head, self.tally.request_id, keep))
        self.record(problem.reason)
        self._client.finished(keep, linger=True)

    def _may_stay(self) -> bool:
        """Whether the client's connection can serve another request after this answer."""
        head = self._plan.head
        return head is not None and head.keep_alive and not self.wants_body and not self._client.last

    def record(self, reason: str | None) -> None:
        """Count and log what came of the request, once; reason: a word of a fixed list, None for success."""
        leg = self._leg or self._planner.leg(self._client.arrival, self._plan, None)
        # They hold this one, and all three would stay until the collector stops everybody to look for them.
        attempts, self._attempts, self._upload = self._attempts, None, None
        self.tally.record(leg, self._plan, attempts, self._plane.log, reason)
