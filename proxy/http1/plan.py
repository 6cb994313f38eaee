"""From a request's head to what will be done with it, without I/O: facts, decision, and the way out.

A plan depends on the head's bytes, on the arrival and on the line alone, so a repeated head finds its plan in
a bounded table by those bytes, until a date, a token's end or the table's own short memory says otherwise. What comes
once leaves nothing there: most heads do, and many things that live for seconds and then end are what stops a loop.
"""

from array import array
from dataclasses import dataclass, replace
from hashlib import sha256
from math import inf
from typing import Final

from proxy.http1.arrival import Arrival
from proxy.http1.judge import Judged, judge
from proxy.http1.leg import Leg
from proxy.http1.line import Line
from proxy.http1.provider import ProviderConnection
from proxy.identity.answers import Invalid, Kind, Pending, Unavailable
from proxy.identity.counts import Trail
from proxy.identity.home_cookie import STRONGER
from proxy.identity.identify import Identity
from proxy.policy.decide import decide, rate_limits
from proxy.policy.decision import Denial, Permit
from proxy.policy.facts import NO_SOURCE, SUBJECT, UNKNOWN, Facts
from proxy.policy.routes import Preferred, preferred
from proxy.providers.endpoint import EndpointState
from proxy.providers.rates import Tokens
from proxy.telemetry.cells import Cell, RuleSetCell
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.record import static_part
from proxy.wire.proxy_header import Fields
from proxy.wire.refusal import Refusal
from proxy.wire.request_head import HeadLimits, RequestHead, plain, read_request_head
from proxy.wire.request_writer import end_to_end, for_provider, kept_request_id, scheme

KEPT: Final = 60.0
"""Seconds that a plan is kept at most: a country database that grows too old is noticed by then."""

LARGEST_KEPT: Final = 4096
"""Bytes of a head whose plan is kept at most."""

TABLE_SIZE: Final = 4 * 1024 * 1024
"""Bytes of heads whose plans are kept together. What is made of a head takes several times its bytes."""

LEAST_KEPT: Final = 1024
"""Bytes that a head counts for at least, so that short ones are not too many: 4,096 of them."""

MARKS: Final = 4096
"""Heads that came once of which it is known that they did, if no other took their place."""

TURNED_AWAY_KEPT: Final = 4096
"""Plans of what was turned away that are kept, one and a half kilobytes each."""

TURNED_AWAY: Final = Refusal(503, "overload")
"""The verdict on what there is no room for. Its framing is known, so it is not answered as other refusals are."""

NONE: Final = "none"
"""The provider and zone of what reached none."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """The request's credential did not verify (401), or its source could not be asked (503).

    source: the kind whose credential it was, None where nobody came to an answer.
    """

    status: int
    cause: str
    source: Kind | None = None


Verdict = Permit | Denial | Unproven | Refusal | Pending


class Plan:
    """What one head comes to. Shared by all requests with the same bytes; only `legs` grows.

    since, until: seconds since the epoch between which it holds (clocks are set back, too). kept_id: the request id
    that a trusted proxy gave.
    changes_at: when its subject is known to move, inf for never.
    preferred, key, lines: only with a Permit. tokens: what each request with this plan takes first, None for nothing.
    set_cookie: a field line for the answer, without CRLF, or empty.
    """

    __slots__ = (
        "changes_at",
        "facts",
        "head",
        "head_bytes",
        "identity",
        "kept_id",
        "key",
        "legs",
        "lines",
        "preferred",
        "rules",
        "set_cookie",
        "since",
        "tokens",
        "trail",
        "until",
        "verdict",
    )

    def __init__(
        self,
        head_bytes: bytes,
        head: RequestHead | None,
        verdict: Verdict,
        until: float = 0.0,
        facts: Facts | None = None,
        kept_id: bytes | None = None,
    ) -> None:
        self.head_bytes = head_bytes
        self.head = head
        self.verdict = verdict
        self.since = 0.0
        self.until = until
        self.changes_at = inf
        self.facts = facts
        self.kept_id = kept_id
        self.identity: Identity | None = None
        self.rules: RuleSetCell | None = None
        self.trail: Trail | None = None
        self.set_cookie = b""
        self.preferred: Preferred | None = None
        self.tokens: Tokens | None = None
        self.key = b""
        self.lines = b""
        self.legs: dict[EndpointState[ProviderConnection] | None, Leg] = {}


class Planner:
    """Plans for one line. Belongs to the event loop's thread."""

    def __init__(self, line: Line, metrics: Metrics) -> None:
        self.line = line
        self._metrics = metrics
        cookies = line.sources.home_cookies
        self.own_cookie = b"" if cookies is None else cookies.name.encode("ascii")
        limits = line.policy.limits
        self._head_limits = HeadLimits(limits.headers, limits.target)
        self._types = line.sources.tlv_types
        self._table: dict[tuple[bytes, str], Plan] = {}
        self._weight = 0
        self._marks = array("q", bytes(8 * MARKS))
        self._turned_away: dict[tuple[str, bytes, bytes], Plan] = {}

    def plan(self, arrival: Arrival, head_bytes: bytes, now: float) -> Plan:
        """The plan for a whole head that arrived at `now` (epoch seconds)."""
        told = self._told(arrival.tlvs) if arrival.tlvs and self._types else ""
        key = (head_bytes, arrival.key + told)
        known = self._table.get(key)
        if known is not None and known.since <= now < known.until:
            return known
        plan = self._make(arrival, head_bytes, now)
        if plan.until > now and len(head_bytes) <= LARGEST_KEPT:
            if known is not None:
                self._table[key] = plan
            elif self._came_before(hash(key)):
                self._keep(key, plan)
        return plan

    def _came_before(self, mark: int) -> bool:
        """Whether it is not the first time, as far as is known."""
        before, self._marks[mark % MARKS] = self._marks[mark % MARKS], mark
        return before == mark

    def _keep(self, key: tuple[bytes, str], plan: Plan) -> None:
        """Those that were kept first make room, as many as it takes."""
        self._table[key] = plan
        self._weight += _weight(key)
        while self._weight > TABLE_SIZE:
            oldest = next(iter(self._table))
            del self._table[oldest]
            self._weight -= _weight(oldest)

    def _told(self, tlvs: Fields) -> str:
        """What stands in the table for the fields of a PROXY header that a source looks at. Others, such as an id of
        each connection, would keep connections apart in vain."""
        return sha256(repr([each for each in tlvs if each[0] in self._types]).encode()).hexdigest()

    def again(self, arrival: Arrival, plan: Plan, shown: float, now: float) -> Plan:
        """What a living request, whose head has been read, comes to at `now`.

        Its credential is judged as of when it was shown: one that ran out since still says who asked, one that
        this line does not believe does not.
        """
        return plan if plan.head is None else self._judged(arrival, plan.head_bytes, plan.head, now, shown)

    def refused(self, refusal: Refusal) -> Plan:
        """The plan for what never became a whole head."""
        return Plan(b"", None, refusal)

    def undecided(self, arrival: Arrival, head_bytes: bytes) -> Plan:
        """The plan for what is turned away before it is decided: how it is framed is all that is known of it.

        All of one client, method and host share one, and its record: most heads come once, and reading each would cost
        as much as all else that turning away takes.
        """
        like = plain(head_bytes, self._head_limits)
        plan = None if like is None else self._turned_away.get((arrival.key, *like))
        if plan is not None:
            return plan
        head = read_request_head(head_bytes, self._head_limits)
        if isinstance(head, Refusal):
            return Plan(head_bytes, None, head)
        if like is None:
            return Plan(head_bytes, head, TURNED_AWAY)
        plan = Plan(b"", replace(head, target=b"", path="", lines=()), TURNED_AWAY)
        if len(self._turned_away) >= TURNED_AWAY_KEPT:
            del self._turned_away[next(iter(self._turned_away))]
        self._turned_away[arrival.key, *like] = plan
        return plan

    def leg(self, arrival: Arrival, plan: Plan, place: EndpointState[ProviderConnection] | None) -> Leg:
        """The way of this plan to one endpoint of a permitted provider; None: to no provider."""
        leg = plan.legs.get(place)
        if leg is None:
            leg = plan.legs[place] = self._leg(arrival, plan, place)
        return leg

    def _make(self, arrival: Arrival, head_bytes: bytes, now: float) -> Plan:
        head = read_request_head(head_bytes, self._head_limits)
        if isinstance(head, Refusal):
            return Plan(head_bytes, None, head)
        return self._judged(arrival, head_bytes, head, now, now)

    def _judged(self, arrival: Arrival, head_bytes: bytes, head: RequestHead, now: float, shown: float) -> Plan:
        judged = judge(self.line, arrival, head, now, shown)
        found, facts = judged.found, judged.facts
        kept_id = kept_request_id(head, judged.sender)
        if not isinstance(found, Identity) or facts is None:
            plan = Plan(head_bytes, head, _unproven(found), facts=facts, kept_id=kept_id)
            if isinstance(found, Invalid) and found.source == "home_cookie":
                plan.set_cookie = self._cookie(judged, head, now)
            plan.trail = judged.trail
            return plan
        line = self.line
        decision = decide(line.policy, facts)
        ends = [end for end in (decision.until, found.until) if end is not None]
        plan = Plan(head_bytes, head, decision, min([now + KEPT, *ends]), facts, kept_id)
        plan.since = now
        plan.changes_at = inf if found.changes_at is None else found.changes_at
        plan.identity = found
        plan.trail = judged.trail
        plan.rules = self._metrics.rules(decision.rules)
        if isinstance(decision, Permit):
            plan.lines = end_to_end(head, judged.sender, found.drop, line.sources.hidden_cookies)
            if judged.evidence is not None:
                plan.lines += line.sources.added(judged.evidence)
            plan.preferred = preferred(line.policy, decision, facts)
            plan.key = (found.subject if found.subject is not None else str(facts.client)).encode()
            plan.set_cookie = self._cookie(judged, head, now)
            plan.tokens = line.rates.tokens(rate_limits(line.policy, facts), found.subject, facts.client)
        return plan

    def _cookie(self, judged: Judged, head: RequestHead, now: float) -> bytes:
        """The field line that tells the device to remember its home, or to forget; empty for neither.

        Remembered is what a stronger source said of a subject who acts themselves, and nothing that the operator
        states or an address suggests.
        """
        cookies, evidence, found, facts = self.line.sources.home_cookies, judged.evidence, judged.found, judged.facts
        if cookies is None or evidence is None or facts is None or scheme(head, judged.sender) != b"https":
            return b""
        shown = cookies.read(evidence.fields, evidence.host, now)
        theirs = isinstance(found, Identity) and found.subject is not None and facts.actor == SUBJECT
        if theirs and facts.source in STRONGER:
            known = shown.state == "good" and shown.home == facts.home and shown.end - now >= cookies.max_age / 2
            return b"" if known else cookies.line(facts.home, evidence.host, now)
        return cookies.clearing() if shown.state in ("ended", "wrong") else b""

    def _leg(self, arrival: Arrival, plan: Plan, place: EndpointState[ProviderConnection] | None) -> Leg:
        head, facts, verdict = plan.head, plan.facts, plan.verdict
        provider = None if place is None else place.state.definition
        name, zone = (NONE, NONE) if provider is None else (provider.name, provider.zone)
        named = self.line.policy.log.subject and plan.identity is not None
        static = static_part(
            listener=arrival.listener.name,
            method="" if head is None else head.method,
            host=None if head is None else head.authority.host,
            home=UNKNOWN if facts is None else facts.home,
            source=_named(verdict, facts),
            country=UNKNOWN if facts is None else facts.country,
            zone=None if provider is None else zone,
            provider=None if provider is None else name,
            rules=verdict.rules if isinstance(verdict, Permit | Denial) else (),
            client=arrival.peer if facts is None else facts.client,
            subject=plan.identity.subject if named and plan.identity is not None else None,
        )
        start = b"" if head is None or place is None else _start(head, plan.lines, place)
        requests = self._metrics.requests(arrival.listener.name, name, zone)
        answered = Cell() if provider is None else self._metrics.attempts(name, zone, "answered")
        return Leg(provider, start, static, requests, self._metrics.timings(name, zone), answered)


def _weight(key: tuple[bytes, str]) -> int:
    """Bytes that a head counts for in the table."""
    return max(len(key[0]), LEAST_KEPT)


def _named(verdict: Verdict, facts: Facts | None) -> str:
    """The source that gave the home, or that ended the search without one."""
    if isinstance(verdict, Unproven):
        return verdict.source or NO_SOURCE
    return NO_SOURCE if facts is None or facts.source is None else facts.source


def _unproven(found: Identity | Invalid | Unavailable | Pending | Refusal) -> Verdict:
    if isinstance(found, Invalid):
        return Unproven(401, "credential-invalid", found.source)
    if isinstance(found, Pending | Refusal):
        return found
    return Unproven(503, "source-unavailable", found.source if isinstance(found, Unavailable) else None)


def _start(head: RequestHead, lines: bytes, place: EndpointState[ProviderConnection]) -> bytes:
    provider = place.state.definition
    fixed = tuple((name.encode("ascii"), value.reveal().encode("latin-1")) for name, value in provider.headers)
    if provider.host == "preserve":
        return for_provider(head, lines, None, fixed)
    return for_provider(head, lines, place.endpoint.authority.encode("ascii"), fixed)
