"""Findings against brute force, and each kind by an example."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.balance import RateLimit
from proxy.policy.decide import decide, stated_home
from proxy.policy.decision import Permit
from proxy.policy.facts import UNKNOWN, Facts
from proxy.policy.findings import findings
from proxy.policy.rates import Rates
from proxy.policy.rules import Condition, DataClass, Guarantee, Preference, Route, Rule, StatedHome
from proxy.policy.settings import Endpoint
from proxy.policy.subject import (
    Directory,
    DirectoryCache,
    DirectoryKey,
    Location,
    ProxyHeaderSource,
    SqliteStore,
    Subject,
)
from proxy.policy.unserved import homes_at
from tests.policy import reference
from tests.policy.brute_force import all_facts, guarded, passed_on
from tests.policy.samples import ANY, a_listener, operator, provider, the_same, when, zone
from tests.policy.truth_table import MIXED, MODEL, at

NOW = at("2026-06-01T00:00:00Z")


@settings(max_examples=200, deadline=None)
@given(guarded() | passed_on(), st.sampled_from((0.0, 15.0)))
def test_homes_conflicts_and_dead_rules_are_found_exactly_where_they_are(drawn, now):
    keys, policy = drawn
    permitted, conflicts, alive = set(), set(), set()
    reached, served = set(), set()
    protocols = {each.name: each.protocol for each in policy.listeners}
    homes = ["cn", "eu", "rest"]
    if any(rule.allow and rule.when.home is not None and UNKNOWN in rule.when.home for rule in policy.rules):
        homes.append(UNKNOWN)
    for facts in all_facts(keys, now, policy):
        decision = decide(policy, facts)
        alive.update(decision.rules)
        if isinstance(decision, Permit):
            permitted.add((facts.home, facts.time))
            # Untested, one listener stands for all of its protocol.
            for name in [facts.listener] if "listener" in keys else names_of(policy, protocols[facts.listener]):
                reached.add((name, facts.home, facts.time))
                schemes = {endpoint.scheme for each in decision.providers for endpoint in each.endpoints}
                if schemes & ({"https", "http"} if protocols[name] == "http" else {"tls", "tcp"}):
                    served.add((name, facts.home, facts.time))
        elif decision.reason == "conflict":
            conflicts.add(facts.home)
    times = {facts.time for facts in all_facts((), now, policy)}
    found = findings(policy, now)
    words = " / ".join(each.what for each in found)
    for home in homes:
        missing = {time for time in times if (home, time) not in permitted}
        assert (f"for anything of home {home}" in words) == bool(missing), home
        assert (f"leave no provider to home {home}," in words) == (home in conflicts), home
    for i, rule in enumerate(policy.rules):
        said = [each.what for each in found if each.loc == ("rules", i)]
        dead = any("can never match" in what or "expired" in what or "never in force" in what for what in said)
        assert dead == (rule.name not in alive), rule
        changes_nothing = any("changes nothing" in what for what in said)
        if changes_nothing:
            without = the_same(policy, rules=tuple(r for r in policy.rules if r is not rule))
            assert all(
                reference.decide(policy, facts)[:2] == reference.decide(without, facts)[:2]
                for facts in list(all_facts(keys, now, policy))[::17]
            )
    for i, listener in enumerate(policy.listeners):
        said = " / ".join(each.what for each in found if each.loc == ("listeners", i))
        missing = {home for name, home, _ in reached - served if name == listener.name and has(policy, listener, home)}
        assert set(re.findall(r"\b(cn|eu|rest|unknown)\b", said)) == missing & set(homes), said


def names_of(policy, protocol):
    return [each.name for each in policy.listeners if each.protocol == protocol]


def has(policy, listener, home):
    """Whether any connection of the listener can have the home, by what is stated for it."""
    likely = {stated_home(policy, Facts(0.0, listener=listener.name, ech=ech)) for ech in (False, True)}
    return None in likely or home in likely


def listening(protocol):
    return (a_listener("one", protocol=protocol),)


BOTH = the_same(MODEL, rules=(Rule("all", when(home="eu"), allow=zone("eu", "elsewhere")),))


def directory(kind):
    return Directory(SqliteStore(Path("homes")), DirectoryKey(kind), DirectoryCache(), 1.0, 1, True)


def what(policy, **changes):
    return {each.loc: each.what for each in findings(the_same(policy, **changes), NOW)}


def test_the_model_case_has_none():
    assert findings(MODEL, NOW) == ()


def test_a_home_without_a_provider():
    assert what(MIXED)["zones", "swiss"] == "no provider is permitted for anything of home swiss"
    ending = [Rule("all", when(home=["cn-mainland", "elsewhere"]), allow=ANY), Rule("eu", when(home="eu"), allow=ANY)]
    ending[1] = Rule("eu", when(home="eu"), allow=ANY, until=at("2030-01-01T00:00:00Z"))
    found = what(MODEL, rules=tuple(ending))
    assert found == {
        ("zones", "eu"): "from 2030-01-01T00:00:00Z, no provider is permitted for anything of home eu",
    }


def test_the_unknown_home_is_looked_at_only_where_a_rule_grants_to_it():
    stuck = Rule("sign-in", when(home=UNKNOWN), allow=zone("eu"), forbid=zone("eu"))
    place = len(MODEL.rules)
    found = what(MODEL, rules=(*MODEL.rules, stuck))
    assert found["rules", place] == "no provider is permitted for anything of home unknown"


def test_a_conflict_names_the_laws_and_an_example():
    payments = Rule("payments", when(home="cn-mainland", data_class="payment"), only=zone("eu"))
    found = what(MODEL, rules=(*MODEL.rules, payments))
    assert found["rules", 0].startswith(
        "conflict: together, mainland, payments leave no provider to home cn-mainland, as in home cn-mainland"
    )
    assert "path /pay/any" in found["rules", 0]


def test_dead_and_expired_rules():
    more = (
        Rule("canceled", Condition(), unless=Condition(), only=zone("eu")),
        Rule(
            "contradictory",
            when(actor="support", home="eu"),
            unless=when(actor=["support", "subject"]),
            only=zone("eu"),
        ),
        # Alive: where the country is not known it may be DE, and is not surely in the EEA.
        Rule("not-known", when(country="DE", home="eu"), unless=when(country="EEA"), only=zone("eu")),
        Rule("expired", Condition(), only=zone("eu"), until=NOW),
        Rule("backwards", Condition(), only=zone("eu"), from_=NOW + 9, until=NOW + 5),
        Rule("idle", Condition(), only=ANY),
        Rule("nobody", Condition(), forbid=operator("Nobody")),
    )
    at_ = len(MODEL.rules)
    found = what(MODEL, rules=(*MODEL.rules, *more))
    assert found == {
        ("rules", at_): "rule canceled can never match: its unless is empty and always cancels it",
        ("rules", at_ + 1): "rule contradictory can never match: no facts pass its when and its unless",
        ("rules", at_ + 3): "rule expired expired on 2026-06-01T00:00:00Z",
        ("rules", at_ + 4): "rule backwards is never in force: its until is not after its from",
        ("rules", at_ + 5): "rule idle changes nothing: it leaves out and forbids no provider",
        ("rules", at_ + 6): "rule nobody changes nothing: it leaves out and forbids no provider",
    }


def test_expired_selectors():
    rule = Rule("eu-2", when(home="eu"), allow=(*zone("eu"), *zone("elsewhere", until=NOW)))
    found = what(
        MODEL,
        rules=(*MODEL.rules, rule),
        routes=(Route(Condition(), only=(*ANY, *zone("eu", until=NOW - 1))),),
        guarantees=(Guarantee(Condition(), never=zone("eu", until=NOW)),),
    )
    assert set(found) == {("rules", len(MODEL.rules), "allow"), ("routes", 0, "only"), ("guarantees", 0, "never")}


def test_routes_that_leave_nothing_or_list_in_vain():
    listed = (Preference("own-eu"), Preference("china-telecom"))
    found = what(
        MODEL,
        routes=(
            Route(when(home="eu"), prefer=listed),
            Route(when(home="cn-mainland"), only=provider("own-eu")),
            Route(when(home="elsewhere"), prefer=(Preference("own-eu"),), strict=True),
            Route(when(host="a.example"), prefer=(Preference("own-cloud"),)),
            Route(when(host="a.example", path="/x"), prefer=(Preference("own-cloud"),)),
        ),
    )
    leaves = "this route leaves no provider of those that are permitted where it matches"
    assert found == {
        ("routes", 0, "prefer", 1): "provider china-telecom is never permitted and left where this route matches",
        ("routes", 1): leaves,
        ("routes", 2, "prefer", 0): "provider own-eu is never permitted and left where this route matches",
        ("routes", 2): leaves,
        ("routes", 4): "this route can never match: earlier ones take all that it would match",
    }


def test_a_class_that_an_earlier_one_covers():
    classes = (DataClass("all", when(path="/pay/*")), DataClass("payment", when(path="/pay/card/*", method="write")))
    found = what(MODEL, classes=classes)
    assert found["classes", 1] == "class payment can never match: earlier ones take all that it would match"
    assert ("classes", 0) not in found


def test_a_limit_of_rate_that_nothing_can_match():
    limits = (
        RateLimit("all", 1.0, 1),
        RateLimit("canceled", 1.0, 1, unless=Condition()),
        RateLimit("contradictory", 1.0, 1, when=when(method="PUT"), unless=when(method="write")),
        RateLimit("alive", 1.0, 1, when=when(method="write"), unless=when(method="PUT")),
        # Which class it is follows from the rest, and a limit takes where that is not known.
        RateLimit("by-class", 1.0, 1, when=when(data_class="payment"), unless=when(data_class="payment", home="eu")),
    )
    why = "can never match: no facts pass its when and its unless"
    assert what(MODEL, rates=Rates(limits)) == {
        ("rates", "limits", 1): f"limit canceled {why}",
        ("rates", "limits", 2): f"limit contradictory {why}",
    }


PASSING = (a_listener("edge"), a_listener("pass", protocol="tls"), a_listener("pg", protocol="tcp"))
TCP = (Endpoint("tcp", "pg.example", 5432),)
BEHIND = a_listener("pg", protocol="tcp", proxy_protocol="required")
ANYWHERE = Subject((), (Location(False),), (), frozenset())


def test_a_conflict_of_what_has_no_name():
    a = Rule("a", when(host="a.example"), only=zone("eu"))
    b = Rule("b", when(host="b.example"), only=zone("elsewhere"))
    conflicts = {
        protocol: [
            each.what for each in found if each.what.startswith("conflict: together, all, a, b leave no provider")
        ]
        for protocol in ("http", "tls", "tcp")
        for found in [findings(the_same(BOTH, rules=(*BOTH.rules, a, b), listeners=listening(protocol)), NOW)]
    }
    assert conflicts["http"] == []
    assert len(conflicts["tls"]) == len(conflicts["tcp"]) == 1


def test_homes_that_no_endpoint_serves():
    found = what(MODEL, listeners=PASSING, subject=ANYWHERE)
    said = "no endpoint of the providers that are permitted to homes cn-mainland, eu, elsewhere serves"
    assert found == {("listeners", 1): f"{said} tls listeners", ("listeners", 2): f"{said} tcp listeners"}
    serving = tuple(replace(each, endpoints=(*each.endpoints, *TCP)) for each in MODEL.providers)
    assert what(MODEL, listeners=PASSING, subject=ANYWHERE, providers=serving) == {}
    # One permitted provider with an endpoint is enough, while it is permitted.
    cloud = tuple(each if each.name != "own-cloud" else replace(each, endpoints=TCP) for each in MODEL.providers)
    policy = the_same(MODEL, listeners=PASSING[1:2], subject=ANYWHERE, providers=cloud)
    assert [each.what for each in findings(policy, NOW)] == [
        "no endpoint of the providers that are permitted to home cn-mainland serves tls listeners",
        # From then on payments stay in the union, and without a path anything may be a payment.
        "from 2026-12-31T16:00:00Z, no endpoint of the providers that are permitted to home eu serves tls listeners",
    ]


@pytest.mark.parametrize(
    ("listener", "sources", "stated", "homes"),
    [
        (PASSING[2], (), (), {UNKNOWN}),
        (PASSING[2], (Location(False),), (), {"cn-mainland", "eu", "elsewhere", UNKNOWN}),
        (PASSING[2], (Location(False),), (StatedHome("eu", when(listener="pg")),), {"eu"}),
        (PASSING[2], (), (StatedHome("eu", when(listener="pg", ech=True)),), {"eu", UNKNOWN}),
        (PASSING[2], (), (StatedHome("eu", when(listener="pass")),), {UNKNOWN}),
        (PASSING[2], (), (StatedHome("eu", Condition(), unless=when(ech=True)),), {"eu", UNKNOWN}),
        (PASSING[2], (), (StatedHome("eu", Condition()), StatedHome("elsewhere", Condition())), {"eu"}),
        (PASSING[1], (directory("sni"),), (), {"cn-mainland", "eu", "elsewhere", UNKNOWN}),
        (PASSING[1], (directory("host"),), (), {UNKNOWN}),
        (PASSING[2], (directory("sni"),), (), {UNKNOWN}),
        (PASSING[2], (ProxyHeaderSource(0xE0, None, None),), (), {UNKNOWN}),
        (BEHIND, (ProxyHeaderSource(0xE0, None, None),), (), {"cn-mainland", "eu", "elsewhere", UNKNOWN}),
        (BEHIND, (ProxyHeaderSource(None, 5, None),), (), {UNKNOWN}),
        (PASSING[0], (directory("host"),), (), {"cn-mainland", "eu", "elsewhere", UNKNOWN}),
    ],
)
def test_the_homes_that_a_listener_can_have(listener, sources, stated, homes):
    policy = the_same(MODEL, listeners=PASSING, subject=Subject((), sources, stated, frozenset()))
    assert homes_at(policy, listener) == homes
