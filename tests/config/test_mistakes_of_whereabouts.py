"""Mistakes of country data, a CDN's header and PROXY headers, each marked at its place."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.policy.settings import CountryOverride, GeoIP
from proxy.policy.subject import ClientHeader
from tests.config.marked import NOW, assert_marked, loaded
from tests.identity.mmdb_files import mmdb

ROWS: list[tuple[str, ...]] = [
    ("geoip: {database: ▲absent.mmdb}", "cannot be read"),
    ("geoip: {database: ▲text.mmdb}", "is no MMDB database"),
    ("geoip: {database: ▲[a.mmdb]}", "expected a single value"),
    ("geoip: {databases: [a.mmdb, ▲absent.mmdb, ▲text.mmdb]}", "cannot be read", "is no MMDB database"),
    ("geoip: {▲max_age: 40d}", "`max_age` without a database file does nothing"),
    ("geoip: {database: registry, ▲max_age: 40d}", "`max_age` without a database file does nothing"),
    ("geoip: {databases: [registry, ▲absent.mmdb]}", "cannot be read"),
    ("geoip: {databases: ▲[]}", "the list is empty"),
    ("geoip: {databases: [registry, ▲registry]}", "`registry` is listed twice"),
    ("geoip: {▲database: registry, databases: ▲registry}", "both `database` and `databases`", "listed twice"),
    ("geoip: {▲agree: majority}", "`agree` without several databases does nothing"),
    ("geoip: {databases: [a.mmdb, registry], agree: ▲most}", "is not among the choices"),
    ("geoip: {overrides: [▲{country: HK}]}", "`network` is missing"),
    ("geoip: {overrides: [▲{network: 203.0.113.0/24}]}", "`country` is missing"),
    ("geoip: {overrides: [{network: ▲203.0.113.1/24, country: HK}]}", "write 203.0.113.0/24"),
    ("geoip: {overrides: [{network: 203.0.113.0/24, country: ▲EU}]}", "is several countries"),
    ("geoip: {overrides: [{network: 203.0.113.0/24, country: ▲hk}]}", "write HK"),
    ("geoip: {overrides: [{network: [10.0.0.0/8, ▲10.0.0.0/8], country: HK}]}", "is overridden twice"),
    (
        "geoip:\n  overrides:\n    - {network: 10.0.0.0/8, country: HK}\n    - {network: ▲10.0.0.0/8, country: CN}",
        "line 3 has it already",
    ),
    ("subject: {client_header: ▲{name: CF-Connecting-IP}}", "`from` is missing"),
    ("subject: {client_header: ▲{from: 203.0.113.0/24}}", "`name` is missing"),
    ("subject: {client_header: {name: ▲X-Forwarded-For, from: 203.0.113.0/24}}", "is a chain of proxies"),
    ("subject: {client_header: {name: ▲forwarded, from: 203.0.113.0/24}}", "is a chain of proxies"),
    ("subject: {client_header: {name: ▲Cookie, from: 203.0.113.0/24}}", "holds no address"),
    ("subject: {client_header: {name: ▲CF_Connecting_IP, from: 203.0.113.0/24}}", "has an underscore"),
    ("subject: {client_header: {name: ▲Client IP, from: 203.0.113.0/24}}", "is no header name"),
    ("subject: {client_header: {name: ▲Host, from: 203.0.113.0/24}}", "is about one connection"),
    ("subject: {client_header: {name: CF-Connecting-IP, from: ▲cloudflare}}", "is no network"),
    ('listeners: [{name: edge, bind: "127.0.0.1:1", proxy_protocol: ▲required}]', "no proxy is trusted"),
    ('listeners: [{name: edge, bind: "127.0.0.1:1", proxy_protocol: ▲optional}]', "no proxy is trusted"),
    ('listeners: [{name: edge, bind: "127.0.0.1:1", proxy_protocol: ▲v2}]', "is not among the choices"),
    ("geoip: {databases: [a.mmdb, ▲./a.mmdb]}", "`./a.mmdb` is listed twice"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record = {"country": {"iso_code": "DE"}}
    (tmp_path / "a.mmdb").write_bytes(mmdb({"1.0.0.0/8": record}, int(NOW) - 86400))
    (tmp_path / "old.mmdb").write_bytes(mmdb({"1.0.0.0/8": record}, int(NOW) - 50 * 86400))
    (tmp_path / "text.mmdb").write_text("nothing of the kind")
    return tmp_path


@pytest.mark.parametrize("row", ROWS, ids=[f"{number}-{row[1]}"[:50] for number, row in enumerate(ROWS)])
def test_each_mistake_is_said_at_its_place(folder: Path, row: tuple[str, ...]) -> None:
    assert_marked(folder, row[0], *row[1:])


def geoip(folder: Path, text: str) -> GeoIP:
    found = loaded(folder, f"geoip: {text}")
    assert not found.findings
    return found.policy.geoip


def test_what_can_be_written(folder: Path) -> None:
    a = folder / "a.mmdb"
    assert geoip(folder, "{database: a.mmdb}") == GeoIP((a,), 40 * 86400.0)
    assert geoip(folder, "{database: registry}") == GeoIP()
    assert geoip(folder, "{databases: [a.mmdb, registry], agree: majority, max_age: none}") == GeoIP(
        (a, None), None, "majority"
    )
    assert geoip(folder, "{databases: a.mmdb}") == GeoIP((a,), 40 * 86400.0)
    found = geoip(
        folder, "{overrides: [{network: [10.0.0.0/8, 'fd00::/8'], country: HK}, {network: 1.2.3.4, country: unknown}]}"
    )
    assert found.databases == (None,)
    assert [each.country for each in found.overrides] == ["HK", "unknown"]
    assert [list(map(str, each.networks)) for each in found.overrides] == [["10.0.0.0/8", "fd00::/8"], ["1.2.3.4/32"]]
    assert isinstance(found.overrides[0], CountryOverride)


def test_a_header_of_a_cdn_and_a_proxy_header(folder: Path) -> None:
    text = (
        "subject: {trusted_proxies: 10.0.0.0/8, client_header: {name: CF-Connecting-IP, from: [198.41.128.0/17]}}\n"
        'listeners: [{name: a, bind: "127.0.0.1:1", proxy_protocol: required}, {name: b, bind: "127.0.0.1:2"}]'
    )
    policy = loaded(folder, text).policy
    assert isinstance(policy.subject.client_header, ClientHeader)
    assert policy.subject.client_header.name == "cf-connecting-ip"
    assert list(map(str, policy.subject.client_header.networks)) == ["198.41.128.0/17"]
    assert [each.proxy_protocol for each in policy.listeners] == ["required", "none"]


def test_old_databases_are_findings_at_their_places(folder: Path) -> None:
    since = datetime.fromtimestamp(NOW - 50 * 86400, UTC).date()
    for text, column, so in (
        ("geoip: {database: old.mmdb}", 19, "every country is unknown"),
        ("geoip: {databases: [a.mmdb, old.mmdb]}", 29, "every country is unknown"),
        ("geoip: {databases: old.mmdb}", 20, "every country is unknown"),
        ("geoip: {databases: [a.mmdb, registry, old.mmdb], agree: majority}", 39, "it agrees with no other any more"),
    ):
        (finding,) = loaded(folder, text).findings
        assert (finding.line, finding.column) == (1, column)
        assert finding.what == f"the database is of {since}, older than `max_age`: {so}"
