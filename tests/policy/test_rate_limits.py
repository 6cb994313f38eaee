"""Which limits of rate a request has to pass: each that may match it, in the policy's order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.balance import RateLimit
from proxy.policy.decide import looks_at_path, rate_limits
from proxy.policy.facts import UNCLASSIFIED, Facts
from proxy.policy.rates import Rates
from proxy.policy.rules import Condition, DataClass
from tests.policy import reference, strategies
from tests.policy.samples import a_policy, the_same, when

EU = {"home": "eu", "country": "DE", "host": "a.example", "path": "/x", "method": "GET", "listener": "edge"}


def limit(when_=None, unless=None, name="one"):
    return RateLimit(name, 1.0, 1, when=when_ or Condition(), unless=unless)


def limited(policy, facts):
    return [each.name for each in rate_limits(policy, facts)]


@pytest.mark.parametrize(
    ("test", "unless", "facts", "applies"),
    [
        (when(), None, {}, True),
        (when(home="eu"), None, {}, True),
        (when(home="cn"), None, {}, False),
        (when(home="unknown"), None, {"home": "unknown"}, True),
        (when(method="write"), None, {}, False),
        (when(method="write"), None, {"method": "PUT"}, True),
        (when(method="read"), None, {"upgrade": True}, False),
        (when(path="/x/*"), None, {"path": "/x/y"}, True),
        (when(path="/x/*"), None, {"path": None}, True),  # not known, so it may match, and a limit takes
        (when(host="*.example"), None, {"host": None}, True),
        (when(country="FR"), None, {"country": "unknown"}, True),
        (when(country="FR"), None, {}, False),
        (when(client="10.0.0.0/8"), None, {"client": None}, True),
        (when(listener="edge", host="b.example"), None, {}, False),
        (when(), when(host="a.example"), {}, False),
        (when(), when(host="b.example"), {}, True),
        (when(), when(host="a.example"), {"host": None}, True),  # surely excepted is who is surely that
        (when(), when(), {}, False),
        (when(actor="support"), None, {"actor": "support"}, True),
        (when(actor="support"), None, {"actor": "subject"}, False),
        (when(data_class="payment"), None, {"path": "/pay/1"}, True),
        (when(data_class="payment"), None, {}, False),
        (when(data_class="payment"), None, {"path": None}, True),
        (when(data_class=UNCLASSIFIED), None, {}, True),
    ],
)
def test_what_a_limit_applies_to(test, unless, facts, applies):
    classes = (DataClass("payment", when(path="/pay/*")),)
    policy = a_policy(strategies.ZONES, classes=classes, rates=Rates((limit(test, unless),)))
    assert limited(policy, Facts(0, **(EU | facts))) == (["one"] if applies else [])


def test_all_that_match_in_the_policys_order():
    policy = a_policy(
        rates=Rates(
            (limit(name="b"), limit(when(host="other.example"), name="no"), limit(when(method="read"), name="a"))
        )
    )
    assert limited(policy, Facts(0, **EU)) == ["b", "a"]
    assert limited(policy, Facts(0, **EU | {"method": "PUT"})) == ["b"]
    assert limited(a_policy(), Facts(0, **EU)) == []


def test_a_path_that_only_a_limit_tests_is_read():
    assert not looks_at_path(a_policy(rates=Rates((limit(when(host="a.example")),))))
    assert looks_at_path(a_policy(rates=Rates((limit(when(path="/x")),))))
    assert looks_at_path(a_policy(rates=Rates((limit(None, when(path="/x")),))))


@settings(max_examples=150, deadline=None)
@given(
    strategies.policies(),
    st.lists(st.tuples(strategies.conditions(), st.none() | strategies.conditions()), max_size=4),
    st.lists(strategies.facts, min_size=1, max_size=8),
)
def test_it_finds_what_the_text_says(policy, tests, many):
    limits = tuple(limit(test, unless, str(place)) for place, (test, unless) in enumerate(tests))
    policy = the_same(policy, rates=Rates(limits))
    for facts in many:
        classes = reference.classes_of(policy, facts)
        assert list(rate_limits(policy, facts)) == [each for each in limits if reference.maybe(each, facts, classes)]
