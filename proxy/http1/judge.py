"""What one head shows, before anything is decided: whether it may be asked at all, the facts, and who the sources say
it is for. The plane and `domicile explain --request` both look through here.
"""

from dataclasses import dataclass, field, replace

from proxy.http1.arrival import Arrival
from proxy.http1.line import Line
from proxy.identity.answers import Invalid, Pending, Unavailable
from proxy.identity.client_address import find_client, is_trusted
from proxy.identity.counts import Trail
from proxy.identity.evidence import Evidence
from proxy.identity.identify import Identity, Step
from proxy.policy.canonical import canonical_path
from proxy.policy.decide import looks_at_path, stated_home
from proxy.policy.facts import STATED, Facts
from proxy.wire.refusal import Refusal
from proxy.wire.request_head import RequestHead
from proxy.wire.request_writer import Sender


@dataclass(frozen=True, slots=True)
class Judged:
    """found: who it is for, or why nobody can tell, or a Refusal of what is ambiguous.

    facts: with the home, its source and the actor where `found` is an Identity; None with a Refusal. evidence: what
    the sources were shown. trail: what is counted of their answers, None with a Refusal and while one is Pending.
    """

    sender: Sender
    found: Identity | Invalid | Unavailable | Pending | Refusal
    facts: Facts | None = None
    evidence: Evidence | None = field(default=None, repr=False)
    trail: Trail | None = None


def judge(
    line: Line, arrival: Arrival, head: RequestHead, now: float, shown: float, steps: list[Step] | None = None
) -> Judged:
    """What this head shows. now: the time that is decided for; shown: when the credential was.

    steps: what each source answered is added there.
    """
    fields = tuple((name, value) for name, value, _ in head.lines)
    client = find_client(arrival.peer, fields, line.trusted, line.cdn)
    sender = Sender(
        arrival.peer,
        arrival.tls,
        is_trusted(arrival.peer, line.trusted),
        None if line.cdn is None else line.cdn.name,
        client.by_cdn and client.address is not None,
    )
    path = canonical_path(head.path)
    if path is None and looks_at_path(line.policy):
        return Judged(sender, Refusal(400, "path-ambiguous"))
    if arrival.sni is not None and arrival.sni != head.authority.host:
        return Judged(sender, Refusal(421, "host-disagrees-with-sni"))
    demands = line.demands.get(arrival.listener.name)
    if demands is not None:
        demand = demands.of(head.authority.host)
        if demand is not arrival.demand and demand.met_by(arrival.demand, arrival.client_certificate) == "unmet":
            return Judged(sender, Refusal(421, "host-demands-another-handshake"))
    country = line.countries.country(client.address)
    facts = Facts(
        time=now,
        country=country,
        host=head.authority.host,
        path=path,
        method=head.method,
        upgrade=head.upgrade is not None,
        listener=arrival.listener.name,
        client=client.address,
        ech=arrival.ech,
    )
    evidence = Evidence(
        fields,
        client.address,
        country,
        host=head.authority.host,
        path=path,
        sni=arrival.sni,
        client_certificate=arrival.client_certificate,
        trusted=sender.trusted,
        tlvs=arrival.tlvs,
    )
    asked = line.sources.ask(evidence, shown, steps)
    if isinstance(asked.found, Identity):
        facts = _at_home(line, facts, asked.found)
    return Judged(sender, asked.found, facts, evidence, asked.trail)


def _at_home(line: Line, facts: Facts, identity: Identity) -> Facts:
    facts = replace(facts, home=identity.home, source=identity.source, actor=identity.actor)
    # What the operator states is looked at before any source's home; who acts is still the credential's word.
    stated = stated_home(line.policy, facts)
    return facts if stated is None else replace(facts, home=stated, source=STATED)
