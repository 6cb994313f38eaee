"""Every fact of a small world, and what holds of them: proofs and findings are held against this."""

from itertools import product

from hypothesis import strategies as st

from proxy.policy.decide import decide
from proxy.policy.decision import Permit
from proxy.policy.facts import UNKNOWN, Facts
from proxy.policy.rules import Condition, Rule
from tests.policy import reference, strategies
from tests.policy.samples import ANY, the_same

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
        policy = the_same(policy, rules=(*policy.rules, grant))
    return ("ech", *keys), policy
