"""The prover against brute force, and against the model case."""

from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.decide import decide
from proxy.policy.decision import Permit
from proxy.policy.facts import UNKNOWN, Facts
from proxy.policy.prove import Unproved, broken_guarantees
from proxy.policy.rules import Condition, Rule
from tests.policy import reference, strategies
from tests.policy.samples import ANY

PLAIN = {
    "country": ("DE",),
    "host": ("other",),
    "path": ("/zzz",),
    "method": ("GET",),
    "upgrade": (False,),
    "listener": ("edge",),
    "client": (None,),
    "source": ("jwt",),
    "actor": ("subject",),
    "ech": (False,),
}
EXTRA = {"method": ("OTHER",), "source": ("stated", "directory"), "path": ("/p/q/r/s",), "host": ("y.x.a.example",)}
# Values that a connection over http can bring, for the keys that a policy tests.
LIVE = {
    key: (*(v for v in values if v is not None or key == "client"), *EXTRA.get(key, ()))
    for key, values in strategies.WORLD.items()
    if key not in ("time", "data_class")
}


def all_facts(keys, now):
    keys = [*keys, *(["upgrade"] if "method" in keys else [])]
    axes = PLAIN | {key: LIVE[key] for key in keys if key in LIVE} | {"home": LIVE["home"]}
    times = [now, *(date for date in strategies.DATES if date > now)]
    for values in product(times, *axes.values()):
        yield Facts(values[0], **dict(zip(axes, values[1:], strict=True)))


def violates(guarantee, provider, time):
    if guarantee.only is not None and not reference.fits(guarantee.only, provider, time):
        return True
    return guarantee.never is not None and reference.fits(guarantee.never, provider, time)


def applies(policy, guarantee, facts):
    return reference.maybe(guarantee, facts, reference.classes_of(policy, facts))


def broken_by_brute_force(policy, keys, now):
    broken = set()
    for facts in all_facts(keys, now):
        decision = decide(policy, facts)
        if isinstance(decision, Permit):
            broken |= {
                place
                for place, guarantee in enumerate(policy.guarantees)
                if place not in broken
                and any(violates(guarantee, p, facts.time) for p in decision.providers)
                and applies(policy, guarantee, facts)
            }
        if len(broken) == len(policy.guarantees):
            break
    return broken


KEYS = ("country", "host", "path", "method", "listener", "client", "source", "actor", "data_class")


@st.composite
def guarded(draw):
    keys = tuple(draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=2, unique=True)))
    tested = ("home", *keys)
    # Something is granted to most, so that guarantees have something to hold back.
    many = st.lists(strategies.guarantees(tested), min_size=1, max_size=3).map(tuple)
    policy = draw(strategies.policies(tested, most=5, guarantees=many))
    if draw(st.booleans()):
        grant = Rule("all", Condition(home=frozenset({"cn", "eu", "rest", UNKNOWN})), allow=ANY)
        policy = replace(policy, rules=(*policy.rules, grant))
    return ("ech", *keys), policy


@settings(max_examples=150, deadline=None)
@given(guarded(), st.sampled_from((0.0, 10.0, 15.0, 40.0)))
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
