"""What a policy file becomes: every key, every default, every way of writing one thing."""

from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from proxy.config import load
from proxy.policy.countries import COUNTRIES, EEA, EU
from proxy.policy.policy import Policy
from proxy.policy.rules import Condition, Preference, Selector, Term
from proxy.policy.settings import (
    Admin,
    Endpoint,
    GeoIP,
    Limits,
    Log,
    ProviderTimeouts,
    ProviderTls,
    Secret,
    TcpBind,
    Timeouts,
    UnixBind,
    Workers,
)
from proxy.policy.subject import Location, Subject
from tests.config.marked import NOW, loaded

# The policy file of the design, without what this version does not have.
WHOLE = """\
version: 1

zones:
  cn-mainland: {countries: [CN]}
  eu:          {countries: [EEA]}
  elsewhere:   {countries: ["*"]}       # whatever no other zone names; at most one such zone

providers:
  china-telecom:
    operator: China Telecom
    zone: cn-mainland
    endpoints: ["https://storage.ct.example:443"]
    dial: [203.0.113.0/24]
    host: provider
    headers: {X-Api-Key: "${CT_KEY}"}
    tls:
      server_name: storage.ct.example
      pins: ["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
      min_version: "1.2"
    timeouts: {connect: 3s, first_byte: 30s, idle: 60s}
    limits: {connections: 50}
    send_proxy: none
  ct-candidate: {operator: China Telecom, zone: cn-mainland, endpoints: ["https://new.ct.example:443"]}
  own-cloud:    {operator: Example Inc, zone: elsewhere, endpoints: ["https://storage.example:443"]}
  own-eu:       {operator: Example Inc, zone: eu, endpoints: ["https://eu.storage.example:443"]}
  pass-cn:      {operator: China Telecom, zone: cn-mainland, endpoints: ["tls://storage.ct.example:443"]}
  pass-cloud:   {operator: Example Inc, zone: elsewhere, endpoints: ["tcp://storage.example:443"]}
  databases:    {operator: Example Inc, zone: eu, endpoints: ["tcp://pg.example:5432"], send_proxy: v2}

subject:
  trusted_proxies: [10.0.0.0/8]
  sources:
    - location: {accounts: false}
  stated: [{when: {listener: [eu-only, pg-eu]}, home: eu}]
  actors: [support]

classes:
  - {class: payment, when: {path: /pay/*}}

rules:
  - name: mainland
    because: PIPL art. 40, CSL art. 37
    when: {home: cn-mainland}
    allow: {zones: [cn-mainland], operators: [China Telecom]}
  - name: europe
    when: {home: eu}
    allow: [eu, {zones: [elsewhere], operators: [Example Inc], until: 2031-12-27T00:00:00Z}]
  - name: everyone-else
    when: {home: elsewhere}
    allow: [elsewhere]
  - name: support-reads-only
    when: {home: eu, actor: support, method: write}
    unless: {country: EEA}
    forbid: any
  - name: european-payments
    when: {home: eu, class: payment}
    only: [eu]
    from: 2027-01-01T00:00:00+08:00

routes:
  - when: {host: storage.example}
    prefer: [{provider: china-telecom, weight: 95}, {provider: ct-candidate, weight: 5}]

guarantees:
  - {when: {home: cn-mainland}, only: {zones: [cn-mainland], operators: [China Telecom]}}
  - {unless: {home: cn-mainland}, never: {operators: [China Telecom]}}

listeners:
  - name: edge
    bind: "0.0.0.0:8443"
    protocol: http
    proxy_protocol: none
  - {name: eu-only, bind: ["[::]:443", "unix:run/eu.sock"]}
  - {name: pass, bind: "0.0.0.0:9443", protocol: tls}
  - {name: pg-eu, bind: "0.0.0.0:5432", protocol: tcp}

limits:   {head: 32KiB, headers: 100, target: 8KiB, body: none, pipelined: 8, connections: 10000}
timeouts: {head: 10s, body_idle: 60s, keep_alive: 75s, connect: 3s, first_byte: 30s,
           idle: 60s, drain: 30s, withdrawn: 30s, lifetime: none}
log:      {path: stdout, subject: false}
admin:    {bind: "127.0.0.1:9400"}
workers:  auto
control:  run/control.sock
"""
FIGURES = Timeouts(10, 60, 75, 3, 30, 60, 30, 30)


@pytest.fixture
def whole(tmp_path: Path) -> Policy:
    path = tmp_path / "policy.yaml"
    path.write_text(WHOLE)
    return load(path, {"CT_KEY": "the key"}, NOW).policy


def test_zones_expand(whole: Policy) -> None:
    zones = {zone.name: zone.countries for zone in whole.zones}
    assert zones == {"cn-mainland": {"CN"}, "eu": EEA, "elsewhere": COUNTRIES - EEA - {"CN"}}
    assert {"HK", "MO", "TW"} <= zones["elsewhere"]


def test_a_provider_with_everything(whole: Policy, tmp_path: Path) -> None:
    telecom = whole.providers[0]
    assert (telecom.name, telecom.operator, telecom.zone) == ("china-telecom", "China Telecom", "cn-mainland")
    assert telecom.endpoints == (Endpoint("https", "storage.ct.example", 443),)
    assert telecom.dial == (ip_network("203.0.113.0/24"),)
    assert telecom.host == "provider"
    assert telecom.headers == (("X-Api-Key", Secret("the key")),)
    assert telecom.tls == ProviderTls(server_name="storage.ct.example", pins=frozenset({bytes(32)}))
    assert telecom.timeouts == ProviderTimeouts(3, 30, 60)
    assert telecom.connections == 50
    assert "the key" not in repr(whole)


def test_a_provider_with_the_least(whole: Policy) -> None:
    least = whole.providers[1]
    assert (least.dial, least.host, least.headers, least.tls) == ((), "preserve", (), ProviderTls())
    assert (least.timeouts, least.plaintext, least.connections) == (ProviderTimeouts(3, 30, 60), False, None)


def test_the_law(whole: Policy) -> None:
    mainland, europe, others, support, payments = whole.rules
    assert (mainland.name, mainland.because) == ("mainland", "PIPL art. 40, CSL art. 37")
    assert mainland.when == Condition(home=frozenset({"cn-mainland"}))
    assert mainland.allow == (Term(zones=frozenset({"cn-mainland"}), operators=frozenset({"China Telecom"})),)
    assert europe.allow is not None
    assert europe.allow[0] == Term(zones=frozenset({"eu"}))
    until = datetime(2031, 12, 27, tzinfo=UTC).timestamp()
    assert europe.allow[1] == Term(frozenset({"elsewhere"}), frozenset({"Example Inc"}), until=until)
    assert others.allow == (Term(zones=frozenset({"elsewhere"})),)
    assert support.when == Condition(home=frozenset({"eu"}), actor=frozenset({"support"}), method=frozenset({"write"}))
    assert support.unless == Condition(country=EEA)
    assert support.forbid == (Term(),)
    assert payments.only == (Term(zones=frozenset({"eu"})),)
    assert payments.from_ == datetime(2026, 12, 31, 16, tzinfo=UTC).timestamp()
    assert payments.when.data_class == {"payment"}


def test_the_rest(whole: Policy, tmp_path: Path) -> None:
    assert whole.subject.trusted_proxies == (ip_network("10.0.0.0/8"),)
    assert whole.subject.sources == (Location(accounts=False),)
    assert [(each.home, each.when) for each in whole.subject.stated] == [
        ("eu", Condition(listener=frozenset({"eu-only", "pg-eu"})))
    ]
    assert whole.subject.actors == {"support"}
    assert [(each.name, each.when) for each in whole.classes] == [("payment", Condition(path=frozenset({"/pay/*"})))]
    assert whole.routes[0].prefer == (Preference("china-telecom", 95), Preference("ct-candidate", 5))
    assert whole.guarantees[0].only == whole.rules[0].allow
    assert whole.guarantees[1].never == (Term(operators=frozenset({"China Telecom"})),)
    assert whole.guarantees[1].unless == Condition(home=frozenset({"cn-mainland"}))
    edge, eu_only, tls, tcp = whole.listeners
    assert (tls.protocol, tls.certificates, tcp.protocol, tcp.certificates) == ("tls", (), "tcp", ())
    assert (whole.workers, whole.control) == (Workers(None, False), tmp_path / "run/control.sock")
    assert (edge.binds, edge.certificates, edge.protocol) == ((TcpBind("0.0.0.0", 8443),), (), "http")
    assert eu_only.binds == (TcpBind("::", 443), UnixBind(tmp_path / "run/eu.sock"))
    assert whole.digest.startswith("sha256:")


def test_the_figures_shown_are_the_defaults(whole: Policy, tmp_path: Path) -> None:
    least = loaded(tmp_path, "").policy
    assert least.limits == whole.limits == Limits(32768, 100, 8192, None, 8, 10_000)
    assert least.timeouts == whole.timeouts == FIGURES
    assert least.log == whole.log == Log(None, False)
    assert least.admin == whole.admin == Admin(TcpBind("127.0.0.1", 9400))
    assert least.workers == whole.workers == Workers()
    assert least.control is None
    assert least.geoip == GeoIP()
    assert least.subject == Subject((), (), (), frozenset())
    assert (least.classes, least.routes, least.guarantees, least.listeners) == ((), (), (), ())


def test_the_timeouts_of_a_provider_fall_back_to_those_of_the_policy(tmp_path: Path) -> None:
    text = (
        "timeouts: {connect: 1s, idle: 2m}\n"
        'providers:\n  ours: {operator: O, zone: eu, endpoints: "https://a", timeouts: {connect: 250ms}}\n'
        '  more: {operator: O, zone: eu, endpoints: "https://b"}'
    )
    ours, more = loaded(tmp_path, text).policy.providers
    assert ours.timeouts == ProviderTimeouts(0.25, 30, 120)
    assert more.timeouts == ProviderTimeouts(1, 30, 120)


def rule_of(folder: Path, body: str, more: str = "") -> Policy:
    return loaded(folder, f"rules:\n  - {{name: all, allow: any, {body}}}\n{more}").policy


@pytest.mark.parametrize(
    ("body", "condition"),
    [
        ("when: {}", Condition()),
        ("unless: {}", Condition()),
        ("when: {home: unknown}", Condition(home=frozenset({"unknown"}))),
        ("when: {home: [eu, cn]}", Condition(home=frozenset({"eu", "cn"}))),
        ("when: {country: NO}", Condition(country=frozenset({"NO"}))),
        ("when: {country: [EU, unknown]}", Condition(country=EU | {"unknown"})),
        ("when: {class: unclassified}", Condition(data_class=frozenset({"unclassified"}))),
        ("when: {host: Storage.Example.}", Condition(host=frozenset({"storage.example"}))),
        ("when: {host: '*.Example'}", Condition(host=frozenset({"*.example"}))),
        ("when: {host: bücher.example}", Condition(host=frozenset({"xn--bcher-kva.example"}))),
        ("when: {host: '[2001:DB8:0::1]'}", Condition(host=frozenset({"2001:db8::1"}))),
        ("when: {host: 192.0.2.1}", Condition(host=frozenset({"192.0.2.1"}))),
        ("when: {path: /}", Condition(path=frozenset({"/"}))),
        ("when: {path: /*}", Condition(path=frozenset({"/*"}))),
        ("when: {path: /p/*}", Condition(path=frozenset({"/p/*"}))),
        ("when: {path: /%7Euser/%c3%a9/é}", Condition(path=frozenset({"/~user/%C3%A9/%C3%A9"}))),
        ("when: {method: [read, PATCH]}", Condition(method=frozenset({"read", "PATCH"}))),
        (
            "when: {client: [10.0.0.0/8, 192.0.2.1]}",
            Condition(client=frozenset(map(ip_network, ("10.0.0.0/8", "192.0.2.1/32")))),
        ),
        ("when: {client: '2001:db8::/32'}", Condition(client=frozenset({ip_network("2001:db8::/32")}))),
        ("when: {source: [jwt, directory, none]}", Condition(source=frozenset({"jwt", "directory", "none"}))),
        ("when: {actor: [subject, unknown]}", Condition(actor=frozenset({"subject", "unknown"}))),
        ("when: {ech: false}", Condition(ech=False)),
    ],
)
def test_conditions(tmp_path: Path, body: str, condition: Condition) -> None:
    (rule,) = rule_of(tmp_path, body).rules
    assert condition == (rule.unless if body.startswith("unless") else rule.when)


@pytest.mark.parametrize(
    ("written", "selector"),
    [
        ("any", (Term(),)),
        ("eu", (Term(zones=frozenset({"eu"})),)),
        ("[eu, any]", (Term(zones=frozenset({"eu"})), Term())),
        ("{zones: eu}", (Term(zones=frozenset({"eu"})),)),
        (
            "{operators: Ours Inc, providers: [far, ours]}",
            (Term(None, frozenset({"Ours Inc"}), frozenset({"far", "ours"})),),
        ),
        ("{zones: eu, from: '1970-01-01T00:00:01.5Z'}", (Term(zones=frozenset({"eu"}), from_=1.5),)),
    ],
)
def test_selectors(tmp_path: Path, written: str, selector: Selector) -> None:
    (rule,) = rule_of(tmp_path, f"only: {written}").rules
    assert rule.only == selector


@pytest.mark.parametrize(
    ("written", "endpoint"),
    [
        ("https://a.example", Endpoint("https", "a.example", 443)),
        ("https://A.Example.:8443", Endpoint("https", "a.example", 8443)),
        ("http://127.0.0.1", Endpoint("http", "127.0.0.1", 80)),
        ("http://[::1]:8080", Endpoint("http", "::1", 8080)),
        ("http://localhost:8080", Endpoint("http", "localhost", 8080)),
        ("HTTPS://[2001:DB8::1]", Endpoint("https", "2001:db8::1", 443)),
        ("https://bücher.example", Endpoint("https", "xn--bcher-kva.example", 443)),
        ("tls://A.example:443", Endpoint("tls", "a.example", 443)),
        ("TCP://[2001:DB8::1]:5432", Endpoint("tcp", "2001:db8::1", 5432)),
    ],
)
def test_endpoints(tmp_path: Path, written: str, endpoint: Endpoint) -> None:
    text = f"providers:\n  ours: {{operator: O, zone: eu, endpoints: '{written}'}}"
    assert loaded(tmp_path, text).policy.providers[0].endpoints == (endpoint,)


def test_plaintext_is_said_aloud(tmp_path: Path) -> None:
    text = "providers:\n  ours: {operator: O, zone: eu, endpoints: 'http://a.example', plaintext: true}"
    provider = loaded(tmp_path, text).policy.providers[0]
    assert provider.plaintext
    assert provider.endpoints == (Endpoint("http", "a.example", 80),)


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("limits: {head: 1}", 1),
        ("limits: {head: 64B}", 64),
        ("limits: {head: 2MiB}", 2 << 20),
        ("limits: {body: 5GiB}", 5 << 30),
    ],
)
def test_sizes(tmp_path: Path, section: str, value: int) -> None:
    limits = loaded(tmp_path, section).policy.limits
    assert value in (limits.head, limits.body)


@pytest.mark.parametrize(
    ("written", "seconds"), [("250ms", 0.25), ("1.5s", 1.5), ("2m", 120), ("1h", 3600), ("40d", 40 * 86400)]
)
def test_durations(tmp_path: Path, written: str, seconds: float) -> None:
    assert loaded(tmp_path, f"timeouts: {{head: {written}}}").policy.timeouts.head == seconds


def test_draining_may_take_no_time(tmp_path: Path) -> None:
    timeouts = loaded(tmp_path, "timeouts: {drain: 0s, withdrawn: 0s}").policy.timeouts
    assert (timeouts.drain, timeouts.withdrawn) == (0, 0)


def test_except_takes_countries_out_and_gives_them_to_nobody(tmp_path: Path) -> None:
    text = (
        'zones:\n  cn: {countries: CN}\n  eu: {countries: EU, except: [DE, YT]}\n  rest: {countries: "*", except: US}'
    )
    zones = {zone.name: zone.countries for zone in loaded(tmp_path, text).policy.zones}
    assert zones["eu"] == EU - {"DE", "YT"}
    assert {"DE", "YT", "NO"} <= zones["rest"]
    assert "US" not in zones["rest"]


def test_a_route_in_order_may_name_its_providers_alone(tmp_path: Path) -> None:
    route = loaded(tmp_path, "routes:\n  - {prefer: [far, {provider: ours}], strict: true}").policy.routes[0]
    assert route.prefer == (Preference("far"), Preference("ours"))
    assert route.strict


def test_a_reason_may_run_over_lines(tmp_path: Path) -> None:
    text = "rules:\n  - name: all\n    because: >-\n      Art. 1,\n      Art. 2\n    allow: any"
    assert loaded(tmp_path, text).policy.rules[0].because == "Art. 1, Art. 2"


def test_variables_are_taken_once_and_in_values_only(tmp_path: Path) -> None:
    text = (
        "providers:\n  ours:\n    operator: ${COMPANY}\n    zone: ${ZONE}\n    endpoints: ['https://${HOST}:${PORT}']\n"
        "    headers: {A: 'x-${KEY}-y', B: '$${KEY}', C: $KEY}"
    )
    environ = {"COMPANY": "Ours", "ZONE": "eu", "HOST": "a.example", "PORT": "8443", "KEY": "${COMPANY}"}
    provider = loaded(tmp_path, text, **environ).policy.providers[0]
    assert (provider.operator, provider.zone) == ("Ours", "eu")
    assert provider.endpoints == (Endpoint("https", "a.example", 8443),)
    assert [(name, value.reveal()) for name, value in provider.headers] == [
        ("A", "x-${COMPANY}-y"),
        ("B", "${KEY}"),
        ("C", "$KEY"),
    ]


def test_paths_are_relative_to_the_policy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert loaded(tmp_path, "log: {path: logs/access.log}").policy.log.path == tmp_path / "logs/access.log"
    assert loaded(tmp_path, "log: {path: /var/log/x}").policy.log.path == Path("/var/log/x")


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").policy.digest == loaded(tmp_path, "").policy.digest
    assert loaded(tmp_path, "").policy.digest != loaded(tmp_path, "log: {subject: true}").policy.digest


def test_ports_that_the_kernel_chooses_are_never_taken(tmp_path: Path) -> None:
    text = 'listeners:\n  - {name: a, bind: ["127.0.0.1:0", "127.0.0.1:0"]}\nadmin: {bind: "127.0.0.1:0"}'
    assert len(loaded(tmp_path, text).policy.listeners[0].binds) == 2
