"""Every fact of a small world, and what holds of them: proofs and findings are held against this."""

from itertools import product

from hypothesis import strategies as st

from proxy.policy.decide import decide
from proxy.policy.decision import Permit
from proxy.policy.facts import UNKNOWN, Facts
from proxy.policy.rules import Condition, Rule, StatedHome
from proxy.policy.subject import Location, Subject
from tests.policy import reference, strategies
from tests.policy.samples import ANY, the_same, when

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
EXTRA = {"method": ("OTHER",), "source": ("stated",), "path": ("/p/q/r/s",), "host": ("y.x.a.example",)}
KNOWN = {
    key: (*(v for v in values if v is not None), *EXTRA.get(key, ()))
    for key, values in strategies.WORLD.items()
    if key not in ("time", "data_class")
}
# What the connections of each protocol bring that a policy may test. A method that is not there asks for no upgrade.
LACKED = {"path": (None,), "method": (None,), "upgrade": (False,)}
PASSED = ("proxy_header", "location", "stated", "none")
LIVE = {
    "http": KNOWN | {"client": (None, *KNOWN["client"])},
    "tls": KNOWN
    | LACKED
    | {"client": (None, *KNOWN["client"]), "host": (None, *KNOWN["host"]), "source": ("directory", *PASSED)},
    "tcp": KNOWN | LACKED | {"client": (None, *KNOWN["client"]), "host": (None,), "ech": (None,), "source": PASSED},
}


def all_facts(keys, now, policy):
    """All that the policy's listeners can bring; of keys that it does not test, one value."""
    keys = ["home", *keys, *(["upgrade"] if "method" in keys else [])]
    times = [now, *(date for date in strategies.DATES if date > now)]
    for protocol in sorted({listener.protocol for listener in policy.listeners}):
        named = tuple(listener.name for listener in policy.listeners if listener.protocol == protocol)
        live = LIVE[protocol] | {"listener": named}
        # A key that nobody tests has the first of its values that this protocol has.
        axes = {key: (next(v for v in (*values, *live[key]) if v in live[key]),) for key, values in PLAIN.items()}
        axes |= {key: live[key] for key in keys if key in live}
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
    for facts in all_facts(keys, now, policy):
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


LISTENING = (
    strategies.LISTENERS,
    (*strategies.LISTENERS, *strategies.PASSING),
    strategies.PASSING,
    strategies.PASSING[1:],
    (strategies.LISTENERS[0], strategies.PASSING[0]),
)
SOURCES = (Location(accounts=False),)
STATED = (
    StatedHome("eu", when(listener="pg")),
    StatedHome("cn", when(listener=["pass", "edge"])),
    StatedHome("rest", when(listener="pass"), unless=when(ech=True)),
)


@st.composite
def guarded(draw, keys=KEYS, listening=LISTENING):
    keys = tuple(draw(st.lists(st.sampled_from(keys), min_size=1, max_size=2, unique=True)))
    tested = ("home", *keys)
    # Something is granted to most, so that guarantees have something to hold back.
    many = st.lists(strategies.guarantees(tested), min_size=1, max_size=3).map(tuple)
    policy = draw(strategies.policies(tested, most=5, guarantees=many, listeners=st.sampled_from(listening)))
    if draw(st.booleans()):
        grant = Rule("all", Condition(home=frozenset({"cn", "eu", "rest", UNKNOWN})), allow=ANY)
        policy = the_same(policy, rules=(*policy.rules, grant))
    stated = draw(st.lists(st.sampled_from(STATED), max_size=2))
    return ("ech", *keys), the_same(policy, subject=Subject((), SOURCES, tuple(stated), frozenset({"support"})))


def passed_on():
    """As guarded, for listeners that pass on, and the facts that their connections may lack."""
    passing = ((strategies.PASSING[0],), (strategies.PASSING[1],), strategies.PASSING)
    return guarded(("host", "path", "method", "source", "source"), passing)
