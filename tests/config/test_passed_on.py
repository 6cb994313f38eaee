"""What a policy file says of connections that are passed on, and of the processes that pass them."""

from pathlib import Path

import pytest

from proxy.policy.settings import Endpoint, Workers
from proxy.policy.subject import ProxyHeaderSource
from tests.config.marked import loaded

PASSING = (
    "listeners:\n"
    '  - {name: web, bind: "127.0.0.1:0"}\n'
    '  - {name: pass, bind: "127.0.0.1:0", protocol: tls, proxy_protocol: optional}\n'
    '  - {name: pg, bind: "127.0.0.1:0", protocol: tcp, proxy_protocol: required}\n'
    "providers:\n"
    "  both: {operator: O, zone: eu, endpoints: ['https://a.example', 'tls://a.example:443'], tls: {server_name: b}}\n"
    "  plain: {operator: O, zone: eu, endpoints: ['tcp://a.example:5432', 'tls://a.example:5433'], send_proxy: v2}\n"
    "subject:\n"
    "  trusted_proxies: 10.0.0.0/8\n"
)


def test_listeners_and_providers(tmp_path: Path) -> None:
    policy = loaded(tmp_path, PASSING).policy
    assert [(each.protocol, each.proxy_protocol) for each in policy.listeners] == [
        ("http", "none"),
        ("tls", "optional"),
        ("tcp", "required"),
    ]
    both, plain = policy.providers
    assert (both.endpoints[1], both.send_proxy, both.tls.server_name) == (
        Endpoint("tls", "a.example", 443),
        "none",
        "b",
    )
    assert (plain.endpoints[0], plain.send_proxy) == (Endpoint("tcp", "a.example", 5432), "v2")


@pytest.mark.parametrize(
    ("written", "workers"),
    [
        ("auto", Workers(None)),
        ("1", Workers(1)),
        ("1024", Workers(1024)),
        ("'${N}'", Workers(3)),
        ("{}", Workers(None)),
        ("{count: auto, affinity: true}", Workers(None, True)),
        ("{count: 4}", Workers(4)),
    ],
)
def test_workers(tmp_path: Path, written: str, workers: Workers) -> None:
    assert loaded(tmp_path, f"workers: {written}", N="3").policy.workers == workers


def test_control_is_relative_to_the_file(tmp_path: Path) -> None:
    assert loaded(tmp_path, "control: run/c.sock").policy.control == tmp_path / "run/c.sock"
    assert loaded(tmp_path, "control: /run/c.sock").policy.control == Path("/run/c.sock")


@pytest.mark.parametrize(("written", "seconds"), [("none", None), ("12h", 43200.0)])
def test_lifetime(tmp_path: Path, written: str, seconds: float | None) -> None:
    assert loaded(tmp_path, f"timeouts: {{lifetime: {written}}}").policy.timeouts.lifetime == seconds


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("{home_from: 0xE0, subject_from: 0xE1, actor_from: 0xE2}", ProxyHeaderSource(0xE0, 0xE1, 0xE2)),
        ("{home_from: 0xef}", ProxyHeaderSource(0xEF, None, None)),
        ("{subject_from: authority}", ProxyHeaderSource(None, 0x02, None)),
        ("{home_from: 0XEa, subject_from: unique_id}", ProxyHeaderSource(0xEA, 0x05, None)),
    ],
)
def test_the_source_proxy_header(tmp_path: Path, written: str, source: ProxyHeaderSource) -> None:
    text = f"{PASSING}  sources: [{{proxy_header: {written}}}]"
    assert loaded(tmp_path, text).policy.subject.sources == (source,)


def test_what_the_tls_block_is_for_wherever_something_could_need_it(tmp_path: Path) -> None:
    tls = "providers:\n  ours: {operator: O, zone: eu, endpoints: 'tls://a.example:443', tls: {server_name: b}}\n"
    assert loaded(tmp_path, tls).policy.providers[0].tls.server_name == "b"
    tcp = f"{tls}listeners: [{{name: pg, bind: '127.0.0.1:0', protocol: tcp}}]"
    assert loaded(tmp_path, tcp).policy.providers[0].tls.server_name == "b"
