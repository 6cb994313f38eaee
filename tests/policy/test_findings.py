"""Findings against brute force, and each kind by an example."""

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.decide import decide
from proxy.policy.decision import Permit
from proxy.policy.facts import UNKNOWN
from proxy.policy.findings import findings
from proxy.policy.rules import Condition, DataClass, Guarantee, Preference, Route, Rule
from tests.policy import reference
from tests.policy.brute_force import all_facts, guarded
from tests.policy.samples import ANY, operator, provider, the_same, when, zone
from tests.policy.truth_table import MIXED, MODEL, at

NOW = at("2026-06-01T00:00:00Z")


@settings(max_examples=100, deadline=None)
@given(guarded(), st.sampled_from((0.0, 15.0)))
def test_homes_conflicts_and_dead_rules_are_found_exactly_where_they_are(drawn, now):
    keys, policy = drawn
    permitted, conflicts, alive = set(), set(), set()
    homes = ["cn", "eu", "rest"]
    if any(rule.allow and rule.when.home is not None and UNKNOWN in rule.when.home for rule in policy.rules):
        homes.append(UNKNOWN)
    for facts in all_facts(keys, now):
        decision = decide(policy, facts)
        alive.update(decision.rules)
        if isinstance(decision, Permit):
            permitted.add((facts.home, facts.time))
        elif decision.reason == "conflict":
            conflicts.add(facts.home)
    times = {facts.time for facts in all_facts((), now)}
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
                for facts in list(all_facts(keys, now))[::17]
            )


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
