"""The prover against brute force, and against the model case."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.decide import a_policy as a_large_policy
from proxy.policy import prove
from proxy.policy.decide import decide
from proxy.policy.decision import Permit
from proxy.policy.facts import UNKNOWN
from proxy.policy.prove import Counterexample, Unproved, broken_guarantees
from proxy.policy.rules import Condition, Guarantee, Rule
from tests.policy.brute_force import applies, broken_by_brute_force, guarded, passed_on, violates
from tests.policy.samples import ANY, a_listener, operator, provider, term, the_same, when, zone
from tests.policy.truth_table import MODEL, at


@settings(max_examples=200, deadline=None)
@given(guarded() | passed_on(), st.sampled_from((0.0, 10.0, 15.0, 40.0)))
def test_it_finds_a_counterexample_exactly_where_there_is_one(drawn, now):
    keys, policy = drawn
    found = broken_guarantees(policy, now)
    assert not any(isinstance(each, Unproved) for each in found)
    for each in found:
        decision = decide(policy, each.facts)
        reached = next(p for p in decision.providers if p.name == each.provider)
        guarantee = policy.guarantees[each.guarantee]
        assert each.facts.time >= now
        assert applies(policy, guarantee, each.facts)
        assert violates(guarantee, reached, each.facts.time)
        assert each.rules
        assert set(each.rules) <= set(decision.rules)
        assert each.provider in each.words()
    assert {each.guarantee for each in found} == broken_by_brute_force(policy, keys, now)


NOW = at("2026-06-01T00:00:00Z")
TELECOM_ONLY = Guarantee(when(home="cn-mainland"), only=(term(zones=["cn-mainland"], operators=["China Telecom"]),))
NOBODY_ELSE = Guarantee(Condition(), when(home="cn-mainland"), never=operator("China Telecom"))
GUARDED = the_same(MODEL, guarantees=(TELECOM_ONLY, NOBODY_ELSE), listeners=(a_listener("edge"),))


def with_rules(*more):
    return the_same(GUARDED, rules=(*GUARDED.rules, *more))


def test_the_model_case_is_proved():
    assert broken_guarantees(GUARDED, NOW) == ()


def test_a_rule_that_lets_the_telecom_have_others_is_shown():
    (found,) = broken_guarantees(with_rules(Rule("tourists", when(home=UNKNOWN, country="CN"), allow=ANY)), NOW)
    assert (found.guarantee, found.rules) == (1, ("tourists",))
    assert (found.facts.home, found.facts.country) == (UNKNOWN, "CN")
    assert found.provider in ("china-telecom", "ct-candidate")
    assert found.words() == (
        f"broken: provider {found.provider} is reached by home unknown, country CN, path {found.facts.path}, "
        f"method {found.facts.method}, actor subject, time 2026-06-01T00:00:00Z; let by tourists"
    )


def test_a_break_at_a_date_to_come_is_a_break():
    tourists = Rule("tourists", when(home=UNKNOWN), allow=ANY, from_=at("2040-01-01T00:00:00Z"))
    (found,) = broken_guarantees(with_rules(tourists), NOW)
    assert found.facts.time == at("2040-01-01T00:00:00Z")
    ended = Rule("tourists", when(home=UNKNOWN), allow=ANY, until=NOW)
    assert broken_guarantees(with_rules(ended), NOW) == ()
    lasting = Rule("tourists", when(home=UNKNOWN), allow=ANY, until=NOW + 1)
    assert len(broken_guarantees(with_rules(lasting), NOW)) == 1


def test_a_guarantees_own_date_counts():
    from_later = Guarantee(when(home="eu"), never=zone("elsewhere", from_=at("2031-12-27T00:00:00Z")))
    assert broken_guarantees(the_same(GUARDED, guarantees=(from_later,)), NOW) == ()
    too_early = Guarantee(when(home="eu"), never=zone("elsewhere", from_=at("2031-12-26T00:00:00Z")))
    (found,) = broken_guarantees(the_same(GUARDED, guarantees=(too_early,)), NOW)
    assert found.facts.time == at("2031-12-26T00:00:00Z")


def test_facts_that_a_connection_lacks_are_part_of_the_proof():
    never = Guarantee(when(home="elsewhere", client="10.0.0.0/8"), never=provider("own-cloud"))
    # The rule narrows for what may come from the network, and so for a Unix socket too: proved.
    kept = Rule("kept", when(client="10.0.0.0/8"), forbid=provider("own-cloud"))
    assert broken_guarantees(the_same(with_rules(kept), guarantees=(never,)), NOW) == ()
    # One network less, and it is not.
    narrower = Rule("kept", when(client=["10.0.0.0/9", "10.128.0.0/10"]), forbid=provider("own-cloud"))
    (found,) = broken_guarantees(the_same(with_rules(narrower), guarantees=(never,)), NOW)
    assert str(found.facts.client) == "10.192.0.0"


def test_laws_that_only_together_keep_a_guarantee_are_seen_together():
    by_country = [Rule(f"r{c}", when(country=c), only=zone("eu")) for c in ("EEA", "CN", "unknown")]
    reads = Rule("reads", when(method="read"), only=zone("eu"))
    writes = Rule("writes", when(method="write"), unless=when(actor="support"), only=zone("eu"))
    at_home = Guarantee(when(home="eu"), only=zone("eu"))
    policy = the_same(with_rules(reads, writes), guarantees=(at_home,))
    (found,) = broken_guarantees(policy, NOW)
    assert found.facts.actor == "support"
    assert broken_guarantees(the_same(with_rules(*by_country), guarantees=(at_home,)), NOW)
    staff = Rule("staff", when(actor="support"), only=zone("eu"))
    assert broken_guarantees(the_same(with_rules(reads, writes, staff), guarantees=(at_home,)), NOW) == ()


PASSED = {protocol: (a_listener("pass", protocol=protocol),) for protocol in ("http", "tls", "tcp")}


@pytest.mark.parametrize(
    ("test", "reached_by"),
    [
        # What a protocol never has may be anything: a guarantee that names it holds for all of the protocol.
        ({"path": "/p"}, {"http", "tls", "tcp"}),
        ({"host": "a.example"}, {"http", "tls", "tcp"}),
        ({"ech": True}, {"http", "tls", "tcp"}),
        # What a protocol has is known.
        ({"source": "jwt"}, {"http"}),
        ({"source": "client_certificate"}, {"http"}),
        ({"source": "home_cookie"}, {"http"}),
        ({"source": "directory"}, {"http", "tls"}),
        ({"source": "proxy_header"}, {"http", "tls", "tcp"}),
        ({"source": "location"}, {"http", "tls", "tcp"}),
        ({"source": "stated"}, {"http", "tls", "tcp"}),
        ({"source": "none"}, {"http", "tls", "tcp"}),
    ],
)
def test_a_guarantee_is_broken_by_what_a_protocol_brings_and_by_nothing_else(test, reached_by):
    never = Guarantee(when(home="eu", **test), never=zone("eu"))
    for protocol, listeners in PASSED.items():
        found = broken_guarantees(the_same(GUARDED, guarantees=(never,), listeners=listeners), NOW)
        assert bool(found) == (protocol in reached_by), protocol
        for each in found:
            facts = each.facts
            assert facts.listener == "pass"
            lacks = {
                name: getattr(facts, name) is None for name in ("host", "path", "method", "ech") if protocol != "http"
            }
            assert protocol == "http" or (lacks["path"] and lacks["method"] and not facts.upgrade)
            assert protocol != "tcp" or (lacks["host"] and lacks["ech"])
            assert protocol == "tcp" or facts.ech is not None


def test_what_a_test_of_the_name_leaves_open_is_open_on_tcp():
    # Each name is kept by a rule, and so is what has none: the rules may match it.
    kept = Rule("kept", when(host="a.example"), forbid=zone("eu"))
    named = Guarantee(when(home="eu", host="a.example"), never=zone("eu"))
    for listeners in PASSED.values():
        assert broken_guarantees(the_same(with_rules(kept), guarantees=(named,), listeners=listeners), NOW) == ()
    # Cancelled by a name that tcp never shows, the rule keeps it there, and not elsewhere.
    loose = Rule("kept", Condition(), unless=when(host="b.example"), forbid=zone("eu"))
    never = Guarantee(when(home="eu"), never=zone("eu"))
    for protocol, listeners in PASSED.items():
        found = broken_guarantees(the_same(with_rules(loose), guarantees=(never,), listeners=listeners), NOW)
        assert bool(found) == (protocol != "tcp"), protocol


def test_reads_and_writes_are_both_kept_from_what_has_no_method():
    writes = Rule("writes", when(home="eu", method="write"), forbid=zone("eu"))
    never = Guarantee(when(home="eu"), never=zone("eu"))
    for protocol, listeners in PASSED.items():
        found = broken_guarantees(the_same(with_rules(writes), guarantees=(never,), listeners=listeners), NOW)
        assert bool(found) == (protocol == "http"), protocol


def test_a_policy_without_listeners_is_proved_for_http():
    assert broken_guarantees(the_same(GUARDED, listeners=()), NOW) == ()


def test_a_proof_that_takes_too_long_counts_as_broken(monkeypatch):
    monkeypatch.setattr(prove, "STEPS", 1)
    reads = Rule("reads", when(method="read"), only=zone("eu"))
    writes = Rule("writes", when(method="write"), only=zone("eu"))
    policy = the_same(with_rules(reads, writes), guarantees=(Guarantee(when(home="eu"), only=zone("eu")),))
    (found,) = broken_guarantees(policy, NOW)
    assert isinstance(found, Unproved)
    assert "not proved" in found.words()


def test_a_thousand_rules_are_proved_and_refuted():
    holds = Guarantee(when(home="cn"), only=zone("cn"))
    fails = Guarantee(when(home="eu", path="/t/4/*"), never=provider("p4"))
    large = the_same(a_large_policy(1000), guarantees=(holds, fails))
    (found,) = broken_guarantees(large, 0.0)
    assert isinstance(found, Counterexample)
    assert found.guarantee == 1
    assert isinstance(decide(large, found.facts), Permit)
