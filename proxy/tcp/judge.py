"""What one connection shows, before anything is decided: the facts, and who the sources say it is for."""

from dataclasses import dataclass, field, replace

from proxy.identity.answers import Invalid, Pending, Unavailable
from proxy.identity.client_address import find_client, is_trusted
from proxy.identity.counts import Trail
from proxy.identity.evidence import Evidence
from proxy.identity.identify import Identity, Step
from proxy.policy.decide import stated_home
from proxy.policy.facts import STATED, Facts
from proxy.tcp.arrival import Arrival
from proxy.tcp.line import Line


@dataclass(frozen=True, slots=True)
class Judged:
    """found: who it is for, or why nobody can tell. facts: with the home, its source and the actor where it is known.

    evidence: what the sources were shown. trail: what is counted of their answers, None while one is Pending.
    """

    found: Identity | Invalid | Unavailable | Pending
    facts: Facts
    evidence: Evidence = field(repr=False)
    trail: Trail | None = None


def judge(line: Line, arrival: Arrival, now: float, steps: list[Step] | None = None) -> Judged:
    """What this connection shows at `now` (epoch seconds). steps: what each source answered is added there."""
    client = find_client(arrival.peer, (), line.trusted, line.cdn).address
    country = line.countries.country(client)
    facts = Facts(
        time=now,
        country=country,
        host=arrival.sni,
        listener=arrival.listener.name,
        client=client,
        ech=arrival.ech,
    )
    evidence = Evidence(
        (),
        client,
        country,
        sni=arrival.sni,
        trusted=is_trusted(arrival.peer, line.trusted),
        tlvs=arrival.tlvs,
    )
    asked = line.sources.ask(evidence, now, steps)
    if isinstance(asked.found, Identity):
        facts = _at_home(line, facts, asked.found)
    return Judged(asked.found, facts, evidence, asked.trail)


def _at_home(line: Line, facts: Facts, identity: Identity) -> Facts:
    facts = replace(facts, home=identity.home, source=identity.source, actor=identity.actor)
    # What the operator states is looked at before any source's home; who acts is still the credential's word.
    stated = stated_home(line.policy, facts)
    return facts if stated is None else replace(facts, home=stated, source=STATED)
