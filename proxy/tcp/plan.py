"""From an arrival to what will be done with it, without I/O: facts, decision, and the ways that it leaves open.

A plan depends on what the arrival shows and on the line alone, so that who comes again finds their plan in a bounded
table, until a date, an answer's end or the table's own short memory says otherwise.
"""

from math import inf
from typing import Any, Final

from proxy.identity.answers import Invalid, Pending, Unavailable
from proxy.identity.counts import Trail
from proxy.identity.identify import Identity
from proxy.policy.decide import decide, rate_limits
from proxy.policy.decision import Denial, Permit
from proxy.policy.facts import NO_SOURCE, Address, Facts
from proxy.policy.routes import Preferred, preferred
from proxy.policy.settings import Provider
from proxy.providers.endpoint import EndpointState
from proxy.providers.rates import Tokens
from proxy.tcp.arrival import Arrival
from proxy.tcp.judge import judge
from proxy.tcp.line import Line
from proxy.telemetry.cells import Cell, RequestCell, RuleSetCell, TimingCell
from proxy.telemetry.metrics import NONE, Metrics, Outcome
from proxy.telemetry.record import static_part
from proxy.wire.proxy_header import Fields

KEPT: Final = 60.0
"""Seconds that a plan is kept at most: a country database that grows too old is noticed by then."""

TABLE_SIZE: Final = 4096
"""Plans that are kept."""

LARGEST_KEPT: Final = 1024
"""Bytes of a PROXY header's fields with which a plan is kept."""

Place = EndpointState[Any]

Verdict = Permit | Denial | Invalid | Unavailable | Pending

_Key = tuple[str, Address | None, str | None, bool | None, Fields]


class Leg:
    """One way that a plan may take: to a provider, or to none. Where it is counted, and what its records share."""

    __slots__ = ("_labels", "_metrics", "_outcomes", "answered", "bytes", "provider", "static", "timings")

    def __init__(self, metrics: Metrics, listener: str, provider: Provider | None, static: bytes) -> None:
        name, zone = (NONE, NONE) if provider is None else (provider.name, provider.zone)
        self.provider = provider
        self.static = static
        self.bytes: RequestCell = metrics.requests(listener, name, zone)
        self.timings: TimingCell = metrics.timings(name, zone)
        self.answered = Cell() if provider is None else metrics.attempts(name, zone, "answered")
        self._metrics = metrics
        self._labels = listener, name, zone
        self._outcomes: dict[Outcome, Cell] = {}

    def ended(self, outcome: Outcome) -> Cell:
        """Counts the connections that ended so."""
        cell = self._outcomes.get(outcome)
        if cell is None:
            cell = self._outcomes[outcome] = self._metrics.passed(*self._labels, outcome)
        return cell


class Plan:
    """What one arrival comes to. Shared by all that show the same; only `legs` grows.

    since, until: seconds since the epoch between which it holds (clocks are set back, too).
    changes_at: when its subject is known to move, inf for never.
    preferred, key: only with a Permit. tokens: what each connection takes of limits of rate, None for nothing.
    """

    __slots__ = (
        "changes_at",
        "facts",
        "identity",
        "key",
        "legs",
        "preferred",
        "rules",
        "since",
        "tokens",
        "trail",
        "until",
        "verdict",
    )

    def __init__(self, verdict: Verdict, facts: Facts, trail: Trail | None) -> None:
        self.verdict = verdict
        self.facts = facts
        self.trail = trail
        self.since = 0.0
        self.until = 0.0
        self.changes_at = inf
        self.identity: Identity | None = None
        self.rules: RuleSetCell | None = None
        self.preferred: Preferred | None = None
        self.key = b""
        self.tokens: Tokens | None = None
        self.legs: dict[Place | None, Leg] = {}


class Planner:
    """Plans for one line. Belongs to the event loop's thread."""

    def __init__(self, line: Line, metrics: Metrics) -> None:
        self.line = line
        self._metrics = metrics
        self._table: dict[_Key, Plan] = {}

    def plan(self, arrival: Arrival, now: float) -> Plan:
        """The plan for what has arrived, or is there still, at `now` (epoch seconds)."""
        key = (arrival.listener.name, arrival.peer, arrival.sni, arrival.ech, arrival.tlvs)
        plan = self._table.get(key)
        if plan is not None and plan.since <= now < plan.until:
            return plan
        plan = self._make(arrival, now)
        if plan.until > now and sum(len(value) for _, value in arrival.tlvs) <= LARGEST_KEPT:
            if len(self._table) >= TABLE_SIZE and key not in self._table:
                # One at a time: all of them at once would stop the loop for some twenty milliseconds.
                del self._table[next(iter(self._table))]
            self._table[key] = plan
        return plan

    def leg(self, arrival: Arrival, plan: Plan, place: Place | None) -> Leg:
        """The way of this plan to one endpoint of a permitted provider; None: to no provider."""
        leg = plan.legs.get(place)
        if leg is None:
            leg = plan.legs[place] = self._leg(arrival, plan, place)
        return leg

    def _make(self, arrival: Arrival, now: float) -> Plan:
        judged = judge(self.line, arrival, now)
        found, facts = judged.found, judged.facts
        if not isinstance(found, Identity):
            return Plan(found, facts, judged.trail)
        policy = self.line.policy
        decision = decide(policy, facts)
        plan = Plan(decision, facts, judged.trail)
        plan.since = now
        plan.until = min([now + KEPT, *(end for end in (decision.until, found.until) if end is not None)])
        plan.changes_at = inf if found.changes_at is None else found.changes_at
        plan.identity = found
        plan.rules = self._metrics.rules(decision.rules)
        if isinstance(decision, Permit):
            plan.preferred = preferred(policy, decision, facts)
            plan.tokens = self.line.rates.tokens(rate_limits(policy, facts), found.subject, facts.client)
            plan.key = (found.subject if found.subject is not None else str(facts.client)).encode()
        return plan

    def _leg(self, arrival: Arrival, plan: Plan, place: Place | None) -> Leg:
        facts, verdict, identity = plan.facts, plan.verdict, plan.identity
        provider = None if place is None else place.state.definition
        static = static_part(
            listener=arrival.listener.name,
            method=None,
            host=facts.host,
            home=facts.home,
            source=_named(verdict, facts),
            country=facts.country,
            zone=None if provider is None else provider.zone,
            provider=None if provider is None else provider.name,
            rules=verdict.rules if isinstance(verdict, Permit | Denial) else (),
            client=facts.client,
            subject=identity.subject if self.line.policy.log.subject and identity is not None else None,
        )
        return Leg(self._metrics, arrival.listener.name, provider, static)


def _named(verdict: Verdict, facts: Facts) -> str:
    """The source that gave the home, or that ended the search without one."""
    if isinstance(verdict, Invalid | Unavailable):
        return verdict.source
    return facts.source or NO_SOURCE
