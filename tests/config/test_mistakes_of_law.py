"""Zones, conditions, selectors, rules, classes, routes and guarantees that cannot mean anything."""

from pathlib import Path

import pytest

from tests.config.marked import assert_marked


def rule(body: str) -> str:
    return f"rules:\n  - {{name: all, allow: any, {body}}}"


def when(body: str) -> str:
    return rule(f"when: {{{body}}}")


ZONES = [
    (
        "zones:\n  ▲EU: {countries: [DE]}\n  eu: {countries: [FR]}\n  cn: {countries: [CN]}\n  rest: {countries: [BR]}",
        "such as `eu`",
    ),
    (
        "zones: {▲any: {countries: [DE]}, eu: {countries: [FR]}, cn: {countries: [CN]}, rest: {countries: [BR]}}",
        "reserved",
    ),
    (
        "zones: {▲unknown: {countries: [DE]}, eu: {countries: [FR]}, cn: {countries: [CN]}, rest: {countries: [BR]}}",
        "reserved",
    ),
    (
        "zones: {▲none: {countries: [DE]}, eu: {countries: [FR]}, cn: {countries: [CN]}, rest: {countries: [BR]}}",
        "reserved",
    ),
    (
        "zones: {▲9x: {countries: [DE]}, eu: {countries: [FR]}, cn: {countries: [CN]}, rest: {countries: [BR]}}",
        "`9x` is no name, such as `x`",
    ),
    (
        "zones: {▲a_b: {countries: [DE]}, eu: {countries: [FR]}, cn: {countries: [CN]}, rest: {countries: [BR]}}",
        "such as `a-b`",
    ),
]
COUNTRIES = [
    ("[▲de]", "`de` is no country code, write DE"),
    ("[▲XX]", "`XX` is no country code, write ISO 3166-1"),
    ("[▲UK]", "the United Kingdom is GB"),
    ("[▲eea]", "write EEA"),
    ("[▲Germany]", "is no country code"),
    ("[▲DEU]", "is no country code"),
    ("[▲unknown]", "an unknown country belongs to no zone"),
    ("▲[]", "the list is empty"),
    ("[DE, ▲CN]", "`CN` is in zone `cn` already"),
    ("[DE], except: ▲[DE]", "`except` leaves the zone no country"),
    ("[DE, FR], except: [▲ES]", "`ES` is not among the zone's countries"),
    ("[EU], except: [▲es]", "write ES"),
    ("[EU], except: ▲[]", "the list is empty"),
    ("[EU], ▲exempt: [ES]", "did you mean `except`?"),
]
CONDITIONS = [
    ("home: ▲europe", "`europe` is no zone, there are: eu, cn, rest, unknown"),
    ("home: [eu, ▲euu]", "did you mean `eu`?"),
    ("home: ▲DE", "is no zone"),
    ("home: ▲ours", "`ours` is a provider"),
    ("home: ▲[]", "the list is empty"),
    ("home: ▲{zones: eu}", "expected a single value, found a mapping"),
    ("country: ▲no", "write NO"),
    ("country: [DE, ▲Unknown]", "did you mean `unknown`?"),
    ("country: ▲'*'", "is no country code"),
    ("class: ▲payment", "`payment` is no class, there are: unclassified"),
    ("host: ▲https://a.example", "leave out scheme and path"),
    ("host: ▲a.example:443", "has a port, write a.example"),
    ("host: ▲a..example", "is no host"),
    ("host: ▲a b", "is no host"),
    ("host: ▲'*'", "a star stands at the front"),
    ("host: ▲'a.*.example'", "has a star out of place"),
    ("host: ▲'*a.example'", "has a star out of place"),
    ("host: ▲'*.192.0.2.1'", "a star before an address"),
    ("host: ▲2130706433", "is no host"),
    ("host: ▲0177.0.0.1", "is no host"),
    ("host: ▲straße.example", "write its A-labels"),
    ("host: ▲'[::ffff:192.0.2.1]'", "is no host"),
    ("path: ▲pay", "`pay` is no path, write `/pay`"),
    ("path: ▲/a/../b", "has two readings"),
    ("path: ▲/a/./b", "has two readings"),
    ("path: ▲/a//b", "has two readings"),
    ("path: ▲/a%2fb", "has two readings"),
    ("path: ▲/a%5Cb", "has two readings"),
    ("path: ▲/%2e%2e/b", "has two readings"),
    ("path: ▲/a%zz", "has two readings"),
    ("path: ▲/a%", "has two readings"),
    ("path: ▲/a%252e", "has two readings"),
    ("path: ▲'/a;b'", "path parameters"),
    ("path: ▲'/a?b'", "a query"),
    ("path: ▲'/a#b'", "a fragment"),
    ("path: ▲'/a\\b'", "a backslash"),
    ("path: ▲'/a b'", "percent-encode it"),
    ("path: ▲'/a*'", "a star stands at the end"),
    ("path: ▲'/*/a'", "a star stands at the end"),
    ("method: ▲get", "`get` is no method, write `GET`"),
    ("method: ▲Read", "did you mean `read`?"),
    ("method: ▲'G T'", "is no method"),
    ("listener: ▲edge", "`edge` is no listener, this policy defines no listener"),
    ("client: ▲10.0.0.1/8", "has host bits set, write 10.0.0.0/8"),
    ("client: ▲10.0.0.0/33", "is no network"),
    ("client: ▲localhost", "is no network"),
    ("client: ▲'::ffff:10.0.0.0/104'", "write 10.0.0.0/8"),
    ("client: ▲'fe80::1%eth0'", "has a zone id"),
    ("source: ▲token", "is not among the choices, write jwt, client_certificate"),
    ("source: ▲jwt2", "did you mean `jwt`?"),
    ("actor: ▲support", "`support` is no actor, there are: subject, unknown"),
    ("ech: ▲yes", "`yes` is neither true nor false, write true"),
    ("ech: ▲maybe", "write true or false"),
    ("▲hosts: a", "unknown key `hosts`, did you mean `host`?"),
    ("▲time: 1", "unknown key `time`"),
]
RULES = [
    ("because: ▲''", "the text is empty"),
    ("because: ▲' '", "the text is empty"),
    ("authority: ▲www.example", "is no http or https address"),
    ("authority: ▲'https://a b'", "is no http or https address"),
    ("authority: ▲'https://a/<x>'", "is no http or https address"),
    ("authority: ▲\"https://a/'x'\"", "is no http or https address"),
    ("authority: ▲'https:///x'", "has no host"),
    ("authority: ▲ftp://a", "is no http or https address"),
    ("from: ▲2027-01-01", "is a day, not a moment, write 2027-01-01T00:00:00Z"),
    ("from: ▲'2027-01-01T00:00:00'", "has no offset"),
    ("from: ▲'2027-02-30T00:00:00Z'", "no such moment in the calendar"),
    ("from: ▲tomorrow", "is no time"),
    ("from: ▲1700000000", "is no time"),
    ("from: ▲'2027-01-01T00:00:00+08'", "is no time"),
    ("from: 2027-01-01T00:00:00+08:00, until: ▲2026-12-31T16:00:00Z", "`until` is not after `from`"),
    ("only: ▲{}", "the selector is empty"),
    ("only: ▲[]", "the list is empty"),
    ("only: [eu, ▲{until: 2031-12-27T00:00:00Z}]", "the selector is empty"),
    ("only: {zones: ▲[]}", "the list is empty"),
    ("only: {zones: ▲uropa}", "is no zone"),
    ("only: {zones: ▲any}", "`any` is no zone"),
    ("only: {operators: [Ours Inc, ▲Our Inc]}", "did you mean `Ours Inc`?"),
    ("only: {operators: ▲telecom}", "`telecom` is a provider"),
    ("only: {providers: ▲Ours Inc}", "`Ours Inc` is an operator"),
    ("only: ▲telecom", "`telecom` is a provider: write {providers: [telecom]}"),
    ("only: ▲China Telecom", "is an operator: write {operators: [China Telecom]}"),
    ("only: {▲zone: eu}", "did you mean `zones`?"),
    ("only: {zones: eu, from: ▲2027-01-01}", "is a day"),
    ("only: {zones: eu, from: 2027-01-01T00:00:00Z, until: ▲2027-01-01T00:00:00Z}", "is not after"),
    ("▲never: eu", "unknown key `never`"),
    ("unless: {home: ▲qq}", "is no zone"),
]
WHOLE = [
    ("rules:\n  - {name: a, allow: any}\n  - {name: ▲a, forbid: any}", "duplicate rule `a`, line 2 has it already"),
    ("rules:\n  - {name: ▲A, allow: any}", "`A` is no name, such as `a`"),
    ("rules:\n  - {name: ▲none, allow: any}", "the name `none` is reserved"),
    ("rules:\n  - ▲{name: a, when: {home: eu}}", "the rule does nothing"),
    ("rules:\n  - ▲{allow: any}", "`name` is missing"),
    ("rules:\n  - ▲allow: any\n    because: law", "`name` is missing"),
    ("classes: ▲[]", "the list is empty"),
    (
        "classes:\n  - {class: pay, when: {path: /pay/*}}\n  - {class: ▲pay, when: {path: /p}}",
        "duplicate class `pay`, line 2",
    ),
    ("classes:\n  - {class: pay, when: {▲class: pay}}", "`class` cannot be tested here, classes are what is being"),
    ("classes:\n  - {class: pay, unless: {▲class: pay}}", "`class` cannot be tested here"),
    ("classes:\n  - {class: ▲Pay, when: {}}", "such as `pay`"),
    ("classes:\n  - {class: ▲unclassified}", "is reserved"),
    ("classes:\n  - ▲{when: {}}", "`class` is missing"),
    ("classes: [{class: pay}]\n" + when("class: ▲pays"), "did you mean `pay`?"),
    ("routes:\n  - {prefer: [{provider: ours, weight: 1}, ▲{provider: far}]}", "no weight here, but other providers"),
    ("routes:\n  - {prefer: [▲ours, {provider: far, weight: 1}]}", "no weight here"),
    ("routes:\n  - {prefer: ▲[{provider: ours, weight: 0}, {provider: far, weight: 0.0}]}", "add up to nothing"),
    ("routes:\n  - {prefer: [{provider: ours, weight: ▲-1}]}", "`-1` is no weight"),
    ("routes:\n  - {prefer: [{provider: ours, weight: ▲many}]}", "is no weight"),
    ("routes:\n  - {prefer: [ours, ▲ours]}", "duplicate provider `ours`"),
    ("routes:\n  - {prefer: [▲our]}", "did you mean `ours`?"),
    ("routes:\n  - {prefer: ▲[]}", "the list is empty"),
    ("routes:\n  - {prefer: ▲ours}", "expected a list, found a single value"),
    ("routes:\n  - {prefer: [▲{weight: 1}]}", "`provider` is missing"),
    ("routes:\n  - {only: eu, strict: ▲true}", "`strict` without `prefer`"),
    ("routes:\n  - {only: eu, strict: ▲1}", "is neither true nor false"),
    ("guarantees:\n  - ▲{only: eu, never: cn}", "has both `only` and `never`"),
    ("guarantees:\n  - ▲{when: {home: eu}}", "promises nothing"),
    ("guarantees:\n  - {never: ▲{}}", "the selector is empty"),
    ("guarantees:\n  - {never: cn, ▲name: x}", "unknown key `name`"),
]
ROWS = [
    *ZONES,
    *(
        (f'zones:\n  cn: {{countries: [CN]}}\n  eu: {{countries: {text}}}\n  rest: {{countries: ["*"]}}', said)
        for text, said in COUNTRIES
    ),
    (
        'zones:\n  eu: {countries: ["*"]}\n  cn: {countries: [CN]}\n  rest: {countries: [▲"*"]}',
        "zone `eu` is one already",
    ),
    (
        "zones:\n  eu: {countries: [NO, DE]}\n  cn: {countries: [CN]}\n  rest: {countries: [▲EEA]}",
        "`EEA` holds DE, NO, in zone `eu` already",
    ),
    ("zones:\n  eu: ▲{}\n  cn: {countries: [CN]}\n  rest: {countries: [BR]}", "`countries` is missing"),
    *((when(text), said) for text, said in CONDITIONS),
    *((rule(text), said) for text, said in RULES),
    *WHOLE,
]


@pytest.mark.parametrize(("text", "said"), ROWS, ids=[f"{number}-{row[1]}"[:50] for number, row in enumerate(ROWS)])
def test_each_mistake_is_said_at_its_place(tmp_path: Path, text: str, said: str) -> None:
    assert_marked(tmp_path, text, said)
