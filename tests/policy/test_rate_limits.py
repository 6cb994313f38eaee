"""Which limits of rate facts have to pass: those that match, and those of which it is not known whether they do."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.balance import RateLimit
from proxy.policy.decide import looks_at_path, rate_limits
from proxy.policy.facts import Facts
from proxy.policy.rates import Rates
from proxy.policy.rules import DataClass
from tests.policy.samples import a_policy, some_zones, when

ZONES = some_zones(eu=("EEA",), cn=("CN",), rest="*")


def limit(name, unless=None, **tests):
    return RateLimit(name, 1.0, 1, when=when(**tests), unless=unless)


def limiting(*limits, **changes):
    return a_policy(ZONES, rates=Rates(limits), **changes)


def named(policy, **known):
    return [each.name for each in rate_limits(policy, Facts(0.0, **known))]


@pytest.mark.parametrize(
    ("each", "known", "applies"),
    [
        (limit("all"), {}, True),
        (limit("home", home="eu"), {"home": "eu"}, True),
        (limit("home", home="eu"), {"home": "cn"}, False),
        (limit("country", country="CN"), {"country": "CN"}, True),
        (limit("country", country="CN"), {"country": "DE"}, False),
        # A country that is not known may be any: the limit holds.
        (limit("country", country="CN"), {"country": "unknown"}, True),
        (limit("write", method="write"), {"method": "POST"}, True),
        (limit("write", method="write"), {"method": "GET"}, False),
        # A passed-on connection has no path: whether it writes to /pay cannot be known.
        (limit("pay", path="/pay/*"), {"path": "/pay/1"}, True),
        (limit("pay", path="/pay/*"), {"path": "/files"}, False),
        (limit("pay", path="/pay/*"), {"listener": "pass"}, True),
        (limit("rest", unless=when(client="10.0.0.0/8")), {"client": ip_address("10.1.1.1")}, False),
        (limit("rest", unless=when(client="10.0.0.0/8")), {"client": ip_address("192.0.2.1")}, True),
        # What an `unless` cancels it cancels only where it surely matches.
        (limit("rest", unless=when(path="/public/*")), {"path": "/public/a"}, False),
        (limit("rest", unless=when(path="/public/*")), {"listener": "pass"}, True),
    ],
)
def test_whether_one_applies(each, known, applies):
    assert named(limiting(each), **known) == ([each.name] if applies else [])


def test_all_that_match_in_the_policys_order():
    policy = limiting(limit("b"), limit("cn", home="cn"), limit("a"), limit("eu", home="eu"))
    assert named(policy, home="eu") == ["b", "a", "eu"]
    assert named(a_policy(ZONES), home="eu") == []


def test_a_limit_may_ask_for_the_class():
    classes = (DataClass("payment", when(path="/pay/*"), None),)
    policy = limiting(limit("pay", data_class="payment"), limit("rest", data_class="unclassified"), classes=classes)
    assert named(policy, path="/pay/1") == ["pay"]
    assert named(policy, path="/files") == ["rest"]
    assert named(policy) == ["pay", "rest"]


def test_what_limits_look_at_is_looked_at():
    assert not looks_at_path(limiting(limit("home", home="eu")))
    assert looks_at_path(limiting(limit("pay", path="/pay/*")))
    assert looks_at_path(limiting(limit("rest", unless=when(path="/public/*"))))


TESTS = {
    "home": st.sampled_from(["eu", "cn"]),
    "country": st.sampled_from(["CN", "DE"]),
    "method": st.sampled_from(["read", "write", "GET"]),
    "path": st.sampled_from(["/pay/*", "/files"]),
    "listener": st.sampled_from(["edge", "pass"]),
}
CONDITIONS = st.fixed_dictionaries({}, optional=TESTS)
LIMITS = st.builds(
    lambda number, tests, unless: limit(f"l{number}", None if unless is None else when(**unless), **tests),
    st.integers(0, 99),
    CONDITIONS,
    st.none() | CONDITIONS,
)
KNOWN = st.fixed_dictionaries(
    {},
    optional={
        "home": st.sampled_from(["eu", "cn", "rest"]),
        "country": st.sampled_from(["CN", "DE", "US"]),
        "method": st.sampled_from(["GET", "POST"]),
        "path": st.sampled_from(["/pay/1", "/files", "/x"]),
        "listener": st.sampled_from(["edge", "pass"]),
    },
)


@given(st.lists(LIMITS, max_size=4), KNOWN, st.data())
def test_who_shows_less_passes_no_fewer_limits(limits, known, data):
    """A path, a method or a country that cannot be read lifts no limit."""
    policy = limiting(*limits)
    hidden = data.draw(st.sets(st.sampled_from(["country", "method", "path"])))
    fewer = {name: value for name, value in known.items() if name not in hidden}
    assert set(named(policy, **known)) <= set(named(policy, **fewer))
