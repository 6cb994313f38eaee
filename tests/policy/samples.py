"""Small policies for tests: everything that a test does not care about has a value here."""

from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

from proxy.policy.countries import COUNTRIES, expand
from proxy.policy.policy import Policy
from proxy.policy.rules import Condition, Term
from proxy.policy.settings import (
    Admin,
    Endpoint,
    GeoIP,
    Limits,
    Listener,
    Log,
    Provider,
    ProviderTimeouts,
    ProviderTls,
    TcpBind,
    Timeouts,
    Zone,
)
from proxy.policy.subject import Subject


def a_provider(name, operator, zone, **changes):
    values = {
        "endpoints": (Endpoint("https", f"{name}.example", 443),),
        "dial": (),
        "host": "preserve",
        "headers": (),
        "tls": ProviderTls(),
        "timeouts": ProviderTimeouts(3, 30, 60),
        "plaintext": False,
        "connections": None,
    }
    return Provider(name, operator, zone, **(values | changes))


def a_listener(name, **changes):
    values = {"binds": (TcpBind("127.0.0.1", 0),), "protocol": "http", "certificates": (), "min_version": "1.2"}
    return Listener(name, **(values | changes))


def a_policy(zones=(), providers=(), rules=(), **changes):
    values = {
        "classes": (),
        "routes": (),
        "guarantees": (),
        "subject": Subject((), (), (), frozenset({"support"})),
        "geoip": GeoIP(),
        "listeners": (),
        "limits": Limits(32768, 100, 8192, None, 8, 10000),
        "timeouts": Timeouts(10, 60, 75, 3, 30, 60, 30, 30),
        "log": Log(Path("access.log"), False),
        "admin": Admin(TcpBind("127.0.0.1", 0)),
    }
    return Policy(
        digest="sha256:" + "0" * 64,
        zones=tuple(zones),
        providers=tuple(providers),
        rules=tuple(rules),
        **(values | changes),
    )


def some_zones(**countries):
    """`cn=("CN",), rest="*"`: the zones, `*` being whatever no other names."""
    named = {name: expand(codes) for name, codes in countries.items() if codes != "*"}
    rest = COUNTRIES - frozenset().union(*named.values())
    return tuple(Zone(name.replace("_", "-"), named.get(name, rest)) for name in countries)


def when(**tests):
    """A Condition: `home="cn"`, `country=("EEA",)`, `client=("10.0.0.0/8",)`; EU and EEA are expanded."""
    values = {}
    for key, value in tests.items():
        values_of_key = value if isinstance(value, (tuple, list, set, frozenset)) else (value,)
        if key == "ech":
            values[key] = value
        elif key == "country":
            known = [each for each in values_of_key if each != "unknown"]
            values[key] = expand(known) | (frozenset({"unknown"}) & frozenset(values_of_key))
        elif key == "client":
            values[key] = frozenset(ip_network(each) for each in values_of_key)
        else:
            values[key] = frozenset(values_of_key)
    return Condition(**values)


def term(zones=None, operators=None, providers=None, from_=None, until=None):
    sets = ((frozenset(each) if each is not None else None) for each in (zones, operators, providers))
    return Term(*sets, from_=from_, until=until)


def zone(*names, **dates):
    return (term(zones=names, **dates),)


def operator(*names, **dates):
    return (term(operators=names, **dates),)


def provider(*names, **dates):
    return (term(providers=names, **dates),)


ANY = (Term(),)


def the_same(policy, **changes):
    """The policy with these changes, compiled anew."""
    values = {field.name: getattr(policy, field.name) for field in fields(Policy)}
    return Policy(**(values | changes))
