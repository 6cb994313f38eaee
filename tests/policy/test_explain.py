"""The trace of one decision, in words."""

from ipaddress import ip_address

from proxy.policy.explain import explain
from proxy.policy.facts import Facts
from proxy.policy.rules import Condition, DataClass, Preference, Route, Rule
from tests.policy import strategies
from tests.policy.samples import ANY, a_policy, when, zone

NOW = 15.0


def policy_of(*rules, **changes):
    return a_policy(strategies.ZONES, strategies.PROVIDERS, rules, **changes)


def why_not(rule, facts, **changes):
    policy = policy_of(rule, **changes)
    return explain(policy, facts).says[0].why_not


def test_the_first_thing_that_did_not_match_is_named():
    facts = Facts(
        NOW,
        home="eu",
        country="DE",
        host="a.example",
        path="/p",
        method="GET",
        listener="edge",
        client=ip_address("192.0.2.1"),
        source="jwt",
        actor="support",
        ech=False,
    )
    for tests, words in [
        ({"home": "cn"}, "home is eu, not cn"),
        ({"home": ("cn", "unknown")}, "home is eu, not cn or unknown"),
        ({"home": "eu", "country": ("CN", "HK")}, "country is DE, not CN or HK"),
        ({"country": ("EU",), "path": "/q"}, "path is /p, not /q"),
        ({"data_class": "mail"}, "class is unclassified, not mail"),
        ({"host": "*.a.example"}, "host is a.example, not *.a.example"),
        ({"method": "write"}, "method is GET, not write"),
        ({"listener": "inner"}, "listener is edge, not inner"),
        ({"client": "10.0.0.0/8"}, "client is 192.0.2.1, not 10.0.0.0/8"),
        ({"source": "location"}, "source is jwt, not location"),
        ({"actor": "subject"}, "actor is support, not subject"),
        ({"ech": True}, "ech is false, not true"),
    ]:
        assert why_not(Rule("r", when(**tests), only=ANY), facts) == words
    assert why_not(Rule("r", when(home="eu"), when(path="/p"), only=ANY), facts) == "its unless matches"
    many = when(country=("EEA",))
    us = Facts(NOW, home="eu", country="US")
    assert why_not(Rule("r", many, only=ANY), us) == "country is US, not AT, AX, BE, BG, CY, CZ or 31 more"


def test_a_rule_out_of_force_says_since_or_until_when():
    facts = Facts(NOW, home="eu")
    assert why_not(Rule("r", Condition(), only=ANY, from_=86400.0), facts) == "in force from 1970-01-02T00:00:00Z"
    assert why_not(Rule("r", Condition(), only=ANY, until=0.0), facts) == "in force until 1970-01-01T00:00:00Z"


def test_several_possible_classes_are_all_named():
    classes = (DataClass("payment", when(path="/pay/*")), DataClass("mail", when(host="b.example")))
    policy = policy_of(Rule("r", when(data_class="other"), only=ANY), classes=classes)
    found = explain(policy, Facts(NOW, home="eu", host="b.example"))
    assert found.classes == ("mail", "payment")
    assert found.data_class == "unknown"
    assert found.says[0].why_not == "class is mail or payment, not other"


def test_each_rules_say_and_the_routes_order():
    policy = policy_of(
        Rule("all", when(home="eu"), allow=ANY, because="it is so"),
        Rule("not-cn", Condition(), only=zone("eu", "rest"), authority="https://law.example"),
        Rule("no-us", when(home="eu"), forbid=zone("rest")),
        Rule("cn", when(home="cn"), allow=zone("cn")),
        routes=(Route(when(home="eu"), prefer=(Preference("own-us", 1.0), Preference("own-eu", 2.0))),),
    )
    found = explain(policy, Facts(NOW, home="eu"))
    assert (found.outcome, found.reason, found.permitted) == ("permit", None, ("own-eu",))
    granted, only, forbid, other = found.says
    assert granted.granted == ("ct", "own-cn", "own-eu", "own-us")
    assert (granted.because, only.authority) == ("it is so", "https://law.example")
    assert only.narrowed == ("ct", "own-cn")
    assert forbid.forbade == ("own-us",)
    assert (other.applies, other.granted, other.narrowed) == (False, (), ())
    assert (found.route, found.order, found.weights) == (0, ("own-eu",), (2.0,))
    denied = explain(policy, Facts(NOW, home="rest"))
    assert (denied.outcome, denied.reason, denied.order) == ("denial", "no-rule", ())
