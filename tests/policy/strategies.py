"""Policies and facts for hypothesis: small vocabularies, so that conditions and facts meet often."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from proxy.policy.facts import UNKNOWN, Facts
from proxy.policy.rules import Condition, DataClass, Guarantee, Preference, Route, Rule, Term
from proxy.policy.settings import Endpoint, Zone
from tests.policy.samples import a_listener, a_policy, a_provider

ZONES = (Zone("cn", frozenset({"CN"})), Zone("eu", frozenset({"DE", "FR"})), Zone("rest", frozenset({"US", "HK"})))
HTTPS = (Endpoint("https", "own-eu.example", 443),)
PROVIDERS = (
    a_provider("ct", "Telecom", "cn"),
    a_provider("own-cn", "Own", "cn", endpoints=(Endpoint("tls", "own-cn.example", 443),)),
    a_provider("own-eu", "Own", "eu", endpoints=(*HTTPS, Endpoint("tcp", "own-eu.example", 5432))),
    a_provider("own-us", "Own", "rest", endpoints=(Endpoint("tcp", "own-us.example", 5432),)),
)
LISTENERS = (a_listener("edge"), a_listener("inner"))
PASSING = (a_listener("pass", protocol="tls"), a_listener("pg", protocol="tcp"))
CLASSES = ("payment", "mail")
ACTORS = ("subject", "support", UNKNOWN)
DATES = (10.0, 20.0, 30.0)

TESTED = {
    "home": ("cn", "eu", "rest", UNKNOWN),
    "country": ("CN", "DE", "FR", "HK", UNKNOWN),
    "data_class": (*CLASSES, "unclassified"),
    "host": ("a.example", "b.example", "*.example", "*.a.example", "example"),
    "path": ("/", "/*", "/p", "/p/*", "/p/q/*", "/p/q"),
    "method": ("GET", "POST", "read", "write", "PURGE"),
    "listener": ("edge", "inner", "pass", "pg"),
    "client": tuple(map(ip_network, ("10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0", "2001:db8::/32"))),
    "source": ("jwt", "directory", "proxy_header", "location", "none"),
    "actor": ACTORS,
}

WORLD = {
    "time": (0.0, 10.0, 15.0, 20.0, 29.5, 30.0),
    "home": ("cn", "eu", "rest", UNKNOWN, "BR"),
    "country": ("CN", "DE", "FR", "HK", "US", UNKNOWN),
    "data_class": (None, *CLASSES, "unclassified"),
    "host": (None, "a.example", "x.a.example", "b.example", "example", ".example", "other"),
    "path": (None, "/", "/p", "/p/", "/p/q", "/p/q/r", "/px", "*", ""),
    "method": (None, "GET", "HEAD", "POST", "PURGE", "read", "write"),
    "upgrade": (False, True),
    "listener": (None, "edge", "inner", "pass", "pg"),
    "client": (None, *map(ip_address, ("10.0.0.1", "10.1.0.1", "9.9.9.9", "::ffff:10.1.2.3", "2001:db8::1", "::1"))),
    "source": (None, "jwt", "directory", "proxy_header", "location", "none"),
    "actor": ACTORS,
    "ech": (None, False, True),
}


def conditions(keys=tuple(TESTED), most=3):
    """A few keys, each with one or two values."""

    def values(key):
        return st.frozensets(st.sampled_from(TESTED[key]), min_size=1, max_size=2)

    chosen = st.lists(st.sampled_from([*keys, "ech"]), max_size=most, unique=True)
    return chosen.flatmap(
        lambda names: st.builds(Condition, **{n: st.booleans() if n == "ech" else values(n) for n in names})
    )


def maybe(strategy):
    return st.none() | strategy


def dated(strategy):
    """The same, in one of four bounded by dates."""
    pair = st.tuples(maybe(st.sampled_from(DATES)), maybe(st.sampled_from(DATES)))
    return st.tuples(strategy, st.integers(0, 3), pair).map(
        lambda drawn: replace(drawn[0], from_=drawn[2][0], until=drawn[2][1]) if not drawn[1] else drawn[0]
    )


def some(*names):
    return maybe(st.frozensets(st.sampled_from(names), min_size=1, max_size=2))


terms = dated(
    st.builds(
        Term,
        zones=some("cn", "eu", "rest"),
        operators=some("Telecom", "Own", "Nobody"),
        providers=maybe(st.frozensets(st.sampled_from([p.name for p in PROVIDERS]), min_size=1, max_size=3)),
    )
)
selectors = st.lists(terms, min_size=1, max_size=2).map(tuple)


def rules(keys=tuple(TESTED)):
    def law(allow, only, forbid):
        return {"allow": allow} | ({"only": only} if only else {}) | ({"forbid": forbid} if forbid else {})

    says = st.builds(law, selectors, maybe(selectors), maybe(selectors)) | st.fixed_dictionaries(
        {}, optional={"only": selectors, "forbid": selectors}
    ).filter(bool)
    return dated(
        st.builds(
            lambda when, unless, says: Rule("", when, unless, **says),
            conditions(keys),
            maybe(conditions(keys)),
            says,
        )
    )


def named(laws):
    return tuple(replace(law, name=f"r{i}") for i, law in enumerate(laws))


routes = st.builds(
    Route,
    when=conditions(),
    unless=maybe(conditions()),
    only=maybe(selectors),
    prefer=st.lists(st.sampled_from([p.name for p in PROVIDERS]), max_size=3, unique=True).flatmap(
        lambda names: st.booleans().map(
            lambda weighted: tuple(Preference(name, float(i + 1) if weighted else None) for i, name in enumerate(names))
        )
    ),
    strict=st.booleans(),
)


def classes(keys=tuple(TESTED)):
    one = st.builds(DataClass, st.sampled_from(CLASSES), conditions(keys, 2), maybe(conditions(keys, 2)))
    return st.lists(one, max_size=3, unique_by=lambda each: each.name).map(tuple)


def guarantees(keys=tuple(TESTED)):
    fields = {"when": conditions(keys, 2), "unless": maybe(conditions(keys, 2))}
    return st.builds(Guarantee, **fields, only=selectors) | st.builds(Guarantee, **fields, never=selectors)


def policies(keys=tuple(TESTED), most=6, **more):
    """Policies of up to `most` rules; routes, guarantees and other listeners on request."""
    built = {"routes": st.just(()), "guarantees": st.just(()), "listeners": st.just(LISTENERS)} | more
    return st.builds(
        lambda laws, classes, **parts: a_policy(ZONES, PROVIDERS, named(laws), classes=classes, **parts),
        st.lists(rules(keys), max_size=most),
        classes(tuple(key for key in keys if key != "data_class")),
        **built,
    )


facts = st.builds(Facts, **{key: st.sampled_from(values) for key, values in WORLD.items()})
