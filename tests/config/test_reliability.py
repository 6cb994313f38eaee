"""Health, choice, waiting, place, retries, rates and overload: what each key becomes, and every way to get it wrong."""

import base64
from pathlib import Path

import pytest

from proxy.policy.balance import Balance, Concurrency, Queue, RateLimit, Retries
from proxy.policy.health import Breaker, HealthCheck, Location, Passive
from proxy.policy.policy import Policy
from proxy.policy.rules import Condition
from proxy.policy.settings import Provider
from tests.config.marked import assert_marked, loaded, refused

KEY = base64.b64encode(bytes(range(32))).decode()
STORE = "  store: {url: 'valkeys://rates.example:6380/2', password: '${PASSWORD}'}\n  secret: '${KEY}'\n"
SECRETS = {"KEY": KEY, "PASSWORD": "hunter2"}


def provider(body: str, endpoints: str = '"https://ours.example"') -> str:
    """The default providers, the first with these keys."""
    return (
        "providers:\n"
        f"  ours: {{operator: Ours Inc, zone: eu, endpoints: [{endpoints}], {body}}}\n"
        '  telecom: {operator: China Telecom, zone: cn, endpoints: ["https://ct.example"]}\n'
        '  far: {operator: Ours Inc, zone: rest, endpoints: ["https://far.example"]}\n'
    )


def health(body: str) -> str:
    return provider(f"health: {{{body}}}")


def limits(*bodies: str, more: str = "") -> str:
    rows = "".join(f"    - {{{body}}}\n" for body in bodies)
    return f"rates:\n{more}  limits:\n{rows}"


def policy(folder: Path, text: str) -> Policy:
    return loaded(folder, text, **SECRETS).policy


def first(folder: Path, text: str) -> Provider:
    return policy(folder, text).providers[0]


def test_what_is_left_out(tmp_path: Path) -> None:
    found = policy(tmp_path, "")
    ours = found.providers[0]
    assert ours.health is None
    assert (ours.passive, ours.breaker, ours.balance) == (Passive(), Breaker(), Balance())
    assert (ours.queue, ours.location, ours.evidence) == (Queue(), None, "record")
    assert (found.location, found.retries, found.overload) == (None, Retries(), Concurrency())
    assert found.rates.limits == ()
    assert found.rates.store is None


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("health: http", HealthCheck()),
        ("health: {}", HealthCheck()),
        ("health: tcp", HealthCheck(kind="tcp")),
        ("health: {kind: tls, interval: 1m, jitter: 0, timeout: 500ms}", HealthCheck("tls", "/", None, 60.0, 0.0, 0.5)),
        ("health: {path: '/up?deep=1', host: s.example}", HealthCheck(path="/up?deep=1", host="s.example")),
        ("health: {healthy: 1, unhealthy: 5}", HealthCheck(healthy=1, unhealthy=5)),
        ("health: {status: 204}", HealthCheck(statuses=frozenset({204}))),
        ("health: {status: [200-204, 401]}", HealthCheck(statuses=frozenset({200, 201, 202, 203, 204, 401}))),
        ("health: {body: all well}", HealthCheck(body="all well")),
        ("health: none", None),
        ("health: {kind: none, passive: {latency: 3}}", None),
    ],
)
def test_checks(tmp_path: Path, text: str, check: HealthCheck | None) -> None:
    assert first(tmp_path, provider(text)).health == check


def test_a_handshake_is_made_by_what_is_said_of_tls_even_where_traffic_makes_its_own(tmp_path: Path) -> None:
    text = 'providers:\n  ours: {operator: Ours Inc, zone: eu, endpoints: ["tls://ours.example:443"], '
    text += "MARKtls: {server_name: x}, health: KIND}\n"
    text += "zones: {eu: {countries: ['*']}}\nrules: [{name: all, when: {home: eu}, allow: eu}]\n"
    text += "listeners: [{name: edge, protocol: tls, bind: '127.0.0.1:8443'}]\n"
    assert policy(tmp_path, text.replace("MARK", "").replace("KIND", "tls")).providers[0].tls.server_name == "x"
    assert_marked(tmp_path, text.replace("MARK", "▲").replace("KIND", "tcp"), "`tls` would do nothing")


def test_what_traffic_shows_and_what_follows(tmp_path: Path) -> None:
    body = (
        "kind: none, passive: {window: 1m, samples: 5, share: 25%, consecutive: none, latency: 2.5}, "
        "breaker: {open: 1s, longest: 2m, trials: 1, slow_start: 0s}"
    )
    ours = first(tmp_path, health(body))
    assert ours.passive == Passive(60.0, 5, 0.25, None, 2.5)
    assert ours.breaker == Breaker(1.0, 120.0, 1, 0.0)


@pytest.mark.parametrize(
    ("text", "balance"),
    [
        ("round-robin", Balance("round_robin")),
        ("least-connections", Balance("least_connections")),
        ("{weights: [2, 0.5]}", Balance("peak_ewma", (2.0, 0.5))),
        ("{kind: weighted, weights: [3, 1]}", Balance("weighted", (3.0, 1.0))),
        ("{kind: consistent-hash, bound: 1.5}", Balance("consistent_hash", (), 1.5)),
    ],
)
def test_balance(tmp_path: Path, text: str, balance: Balance) -> None:
    two = '"https://a.example", "https://b.example"'
    assert first(tmp_path, provider(f"balance: {text}", two)).balance == balance


def test_waiting(tmp_path: Path) -> None:
    assert first(tmp_path, provider("limits: {connections: 5, queue: {most: 3, longest: 1s}}")).queue == Queue(3, 1.0)
    assert first(tmp_path, provider("limits: {connections: 5, queue: none}")).queue is None
    assert first(tmp_path, provider("limits: {connections: 5}")).queue == Queue()


def test_places_and_evidence(tmp_path: Path) -> None:
    text = "location: {lat: 53.3, lon: -6.3}\n"
    text += provider("health: tcp, location: {lat: -90, lon: 180}, evidence: enforce")
    found = policy(tmp_path, text)
    assert found.location == Location(53.3, -6.3)
    assert (found.providers[0].location, found.providers[0].evidence) == (Location(-90.0, 180.0), "enforce")


def test_retries_and_overload(tmp_path: Path) -> None:
    text = "retries: {share: 0.1, least: 0.5, attempts: 2, replay: 1MiB, hedge: 200ms}\n"
    text += "overload: {least: 4, most: 64, tolerance: 1.5}\n"
    found = policy(tmp_path, text)
    assert found.retries == Retries(0.1, 0.5, 2, 1 << 20, 0.2)
    assert found.overload == Concurrency(True, 4, 64, 1.5)
    assert policy(tmp_path, "retries: {replay: none}").retries.replay == 0
    assert not policy(tmp_path, "overload: {adaptive: false, most: 50}").overload.adaptive


def test_rates(tmp_path: Path) -> None:
    found = policy(
        tmp_path,
        limits(
            "name: each, rate: 2.5",
            "name: writes, rate: 5, burst: 50, by: network, prefix4: 24, prefix6: 56, keys: 10, when: {method: write}",
            more=STORE,
        ),
    ).rates
    each, writes = found.limits
    assert each == RateLimit("each", 2.5, 3)
    assert (writes.burst, writes.by, writes.prefix4, writes.prefix6, writes.keys) == (50, "network", 24, 56, 10)
    assert isinstance(writes.when, Condition)
    assert found.store is not None
    # Nothing of it is shown.
    assert "hunter2" not in repr(found)
    assert KEY not in repr(found)


MISTAKES = [
    (provider("health: ▲icmp"), "write http, tls, tcp or none"),
    (health("▲paht: /up"), "unknown key `paht`"),
    (health("path: ▲up"), "`up`"),
    (health('path: ▲"/a b"'), "`/a b`"),
    (health('path: ▲"/a\\r\\nX: y"'), ""),
    (health("interval: ▲0s"), ""),
    (health("interval: ▲5"), ""),
    (health("jitter: ▲60%"), "write at most 50%"),
    (health("status: ▲600"), "write a code or a range from 200 to 599"),
    (health("status: ▲2xx"), "write 200-299"),
    (health("status: [▲299-200]"), "write 200-299"),
    (health("healthy: ▲0"), ""),
    (health('kind: tcp, ▲path: "/"'), "a tcp check asks for nothing"),
    (health("kind: tls, ▲status: 200"), "a tls check asks for nothing"),
    (health("kind: none, ▲interval: 5s"), "nothing is checked"),
    (health("passive: {share: ▲0%}"), "write more than 0%"),
    (health("passive: {latency: ▲0}"), ""),
    (health("breaker: {open: 10s, longest: ▲5s}"), "`longest` is less than `open`"),
    (health("breaker: {open: ▲2m}"), "they are 60s and 120s"),
    (provider("health: ▲tls", '"tcp://ours.example:5432"'), "no tls check can be made of the tcp:// endpoint"),
    (provider("health: {kind: ▲http}", '"tls://ours.example:443"'), "say `kind: tls, tcp or none`"),
    (provider("▲health: {}", '"tcp://ours.example:5432"'), "no http check can be made of the tcp:// endpoint"),
    (provider("balance: ▲random"), "peak-ewma"),
    (provider("balance: ▲weighted"), "without weights"),
    (provider("balance: {kind: ▲weighted}"), "without weights"),
    (provider("balance: {weights: ▲[1, 2]}"), "2 weights for 1 endpoint"),
    (provider("balance: {weights: [▲0]}"), "write more than 0"),
    (provider("balance: {kind: round-robin, ▲weights: [1]}"), "`round-robin` looks at no weights"),
    (provider("balance: {kind: weighted, weights: [1], ▲bound: 2}"), "`bound` is for `consistent-hash` alone"),
    (provider("limits: {▲queue: {most: 5}}"), "nobody waits where nothing is full"),
    (provider("limits: {connections: 5, queue: {most: ▲0}}"), ""),
    (provider("evidence: ▲enforce"), "has nothing to go by"),
    (provider("▲location: {lat: 1, lon: 2}"), "nothing measures how far it is"),
    (provider("health: tcp, ▲location: {lat: 1, lon: 2}"), "say where this proxy is"),
    (provider("health: tcp, evidence: ▲enforced"), ""),
    ("location: {lat: ▲91, lon: 0}", "write degrees from -90 to 90, north being positive"),
    ("location: {lat: 0, lon: ▲181}", "east being positive"),
    ("location: ▲{lat: 0}", "`lon`"),
    ("retries: {share: ▲120%}", ""),
    ("retries: {attempts: ▲11}", "write 1 (never again) to 10"),
    ("retries: {replay: ▲17MiB}", "write at most 16MiB"),
    ("retries: {attempts: 1, ▲hedge: 1s}", "asking elsewhere too is a second attempt"),
    ("overload: {adaptive: false, ▲least: 5}", "the bound is `most`"),
    ("overload: {least: 9, most: ▲5}", "they are 5 and 9"),
    ("overload: {tolerance: ▲0}", ""),
    (limits("name: a, rate: ▲0"), "lets nothing through"),
    (limits("name: a").replace("{", "▲{"), "`rate`"),
    (limits("name: a, rate: 1", "name: ▲a, rate: 2"), "`a`"),
    (limits("name: a, rate: 1, by: ▲account"), "subject"),
    (limits("name: a, rate: 1, by: ▲subject"), "no source names one"),
    (limits("name: a, rate: 1, by: ▲subject") + "subject: {sources: [{location: {}}]}\n", "say `by: network`"),
    (limits("name: a, rate: 1, prefix4: ▲33"), "write 1 to 32"),
    (limits("name: a, rate: 1, when: {home: ▲nowhere}"), "`nowhere`"),
    (limits("name: a, rate: 1, keys: ▲0"), "write 1 to"),
    (limits("name: a, rate: 1", more='  ▲store: "valkey://127.0.0.1"\n'), "its keys would name subjects"),
    (limits("name: a, rate: 1", more="  ▲secret: '${KEY}'\n"), "nothing leaves this process"),
    (limits("name: a, rate: 1", more="  store: ▲'valkey://r.example'\n  secret: '${KEY}'\n"), "is not encrypted"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES)
def test_each_mistake_is_said_at_its_place(tmp_path: Path, text: str, said: str) -> None:
    assert_marked(tmp_path, text, said, **SECRETS)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = "retries: {attempts: ▲0}\noverload: {least: ▲0}\n" + provider("health: {jitter: ▲2, timeout: ▲x}")
    assert_marked(tmp_path, text, "", "", "", "")


def test_a_password_in_the_url_is_refused_and_not_shown(tmp_path: Path) -> None:
    text = limits("name: a, rate: 1", more="  store: 'valkeys://:${PASSWORD}@r.example'\n  secret: '${KEY}'\n")
    (note,) = refused(tmp_path, text, **SECRETS)
    assert "may not hold a user or password" in str(note)
    assert "hunter2" not in str(note)
