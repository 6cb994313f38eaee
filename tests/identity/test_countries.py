"""The country of addresses, and of those that have none."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.identity import country as country_module
from proxy.identity.country import Countries, Slot, open_countries
from proxy.identity.database import Database
from proxy.identity.refused import SourceRefused
from proxy.policy.countries import COUNTRIES
from proxy.policy.facts import Address
from proxy.policy.settings import GeoIP
from tests.identity.mmdb_files import mmdb

NOW = 1_800_000_000
DAY = 86400.0
EMBEDDED = open_countries(GeoIP(), NOW)


def country(code: str, registered: str | None = None) -> dict[str, Any]:
    record: dict[str, Any] = {"country": {"iso_code": code, "geoname_id": 5, "is_in_european_union": False}}
    return record if registered is None else record | {"registered_country": {"iso_code": registered}}


RECORDS: dict[str, Any] = {
    "1.0.0.0/24": country("AU", registered="US"),
    "1.1.0.0/16": {"registered_country": {"iso_code": "US"}, "represented_country": {"iso_code": "US"}},
    "1.2.0.0/16": country("cn"),
    "1.3.0.0/16": country("EU"),
    "1.4.0.0/16": country("XK"),
    "1.5.0.0/16": country("ZZ"),
    "1.6.0.0/16": country("AP"),
    "1.7.0.0/16": country(""),
    "1.8.0.0/16": country("China"),
    "1.9.0.0/16": {"country": "US"},
    "1.10.0.0/16": {"country": {"iso_code": 7}},
    "1.11.0.0/16": {"country": {}},
    "1.12.0.0/16": ["US"],
    "1.13.0.0/16": "US",
    "1.14.0.0/16": {"city": {"names": {"en": "x"}}} | country("HK"),
    "10.0.0.0/8": country("US"),
    "127.0.0.0/8": country("US"),
    "203.0.113.0/24": country("US"),
    "2a00::/16": country("DE"),
    "2002::/16": country("US"),
    "fc00::/7": country("US"),
    "64:ff9b::/96": country("US"),
}

IN_DATABASE = {
    "1.0.0.1": "AU",
    "1.1.0.1": "unknown",
    "1.2.0.1": "CN",
    "1.3.0.1": "unknown",
    "1.4.0.1": "unknown",
    "1.5.0.1": "unknown",
    "1.6.0.1": "unknown",
    "1.7.0.1": "unknown",
    "1.8.0.1": "unknown",
    "1.9.0.1": "unknown",
    "1.10.0.1": "unknown",
    "1.11.0.1": "unknown",
    "1.12.0.1": "unknown",
    "1.13.0.1": "unknown",
    "1.14.0.1": "HK",
    "1.200.0.1": "unknown",
    "::ffff:1.0.0.1": "AU",
    "::1.0.0.1": "unknown",
    "2a00::1": "DE",
    "2a01::1": "unknown",
    "2002:100:1::1": "unknown",
    "64:ff9b::100:1": "unknown",
    "10.1.2.3": "unknown",
    "127.0.0.1": "unknown",
    "203.0.113.1": "unknown",
    "fd00::1": "unknown",
}


@pytest.fixture
def database(tmp_path: Path) -> Callable[..., Countries]:
    def opened(content: bytes, max_age: float | None = None, now: float = NOW, **more: Any) -> Countries:
        path = tmp_path / "country.mmdb"
        path.write_bytes(content)
        return open_countries(GeoIP((path,), max_age), now, **more)

    return opened


@pytest.mark.parametrize("text", IN_DATABASE)
def test_in_a_database(database: Callable[..., Countries], text: str) -> None:
    countries = database(mmdb(RECORDS, NOW))
    for _ in range(2):
        assert countries.country(ip_address(text)) == IN_DATABASE[text]


def test_nobody_is_nowhere() -> None:
    assert EMBEDDED.country(None) == "unknown"


def test_an_ipv4_database_knows_no_ipv6_address(database: Callable[..., Countries]) -> None:
    countries = database(mmdb({"1.0.0.0/24": country("AU")}, NOW, ip_version=4))
    assert countries.country(ip_address("1.0.0.1")) == "AU"
    assert countries.country(ip_address("::ffff:1.0.0.1")) == "AU"
    assert countries.country(ip_address("2a00::1")) == "unknown"


EMBEDDED_DATA = {
    "8.8.8.8": "US",
    "::ffff:8.8.8.8": "US",
    "114.114.114.114": "CN",
    "2001:da8::1": "CN",
    "202.45.128.1": "HK",
    "60.246.0.1": "MO",
    "168.95.1.1": "TW",
    "2001:b000::1": "TW",
    "194.25.0.1": "DE",
    "::8.8.8.8": "unknown",
    "2002:808:808::1": "unknown",
}


@pytest.mark.parametrize("text", EMBEDDED_DATA)
def test_in_the_embedded_data(text: str) -> None:
    assert EMBEDDED.country(ip_address(text)) == EMBEDDED_DATA[text]


NOWHERE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1",
    "127.255.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.255", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:10.0.0.1", "::ffff:0:1.2.3.4", "64:ff9b::8.8.8.8",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:808:808::1",
    "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1",
]  # fmt: skip

NEIGHBOURS = [
    "1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
    "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0",
    "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
    "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "2000::", "2001:200::",
    "2001:db7:ffff::", "2001:db9::", "2003::", "3ffe:ffff::", "3fff:1000::", "2a00::1",
]  # fmt: skip


def _everywhere(_: Address) -> str:
    return "DE"


@pytest.mark.parametrize("text", NOWHERE)
def test_addresses_that_have_no_country(text: str) -> None:
    assert Countries([Slot(Database(_everywhere))]).country(ip_address(text)) == "unknown"
    assert EMBEDDED.country(ip_address(text)) == "unknown"


@pytest.mark.parametrize("text", NEIGHBOURS)
def test_their_neighbours_may_have_one(text: str) -> None:
    assert Countries([Slot(Database(_everywhere))]).country(ip_address(text)) == "DE"


@given(st.ip_addresses())
@settings(max_examples=300)
def test_every_answer_is_a_country_or_unknown(address: Address) -> None:
    answer = EMBEDDED.country(address)
    assert answer == "unknown" or answer in COUNTRIES
    if not address.is_global:
        assert answer == "unknown"
    if isinstance(address, IPv4Address):
        assert EMBEDDED.country(IPv6Address(0xFFFF << 32 | int(address))) == answer


def test_the_country_is_remembered_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(country_module, "REMEMBERED", 4)
    looked_up: list[Address] = []
    countries = Countries([Slot(Database(lambda address: (looked_up.append(address), "DE")[1]))])
    first = ip_address("8.8.8.8")
    for _ in range(3):
        assert countries.country(first) == "DE"
    assert looked_up == [first]
    for value in range(10):
        countries.country(IPv4Address(0x01000000 + value))
        countries.country(IPv6Address((0x2A00 << 112) + value))
    assert len(countries._seen4) == len(countries._seen6) == 4
    countries.country(first)
    assert looked_up.count(first) == 2


def test_past_max_age_nothing_is_known(database: Callable[..., Countries]) -> None:
    clock = [float(NOW)]
    countries = database(mmdb(RECORDS, NOW - 10), 40 * DAY, clock=lambda: clock[0])
    assert [(report.name, report.age) for report in countries.reports()] == [("country.mmdb", 10)]
    assert countries.holds_until(NOW) == NOW - 10 + 40 * DAY
    assert countries.holds_until(NOW - 10 + 40 * DAY) is None
    assert not countries.stale(NOW)
    assert countries.stale(NOW - 10 + 40 * DAY)
    assert countries.country(ip_address("1.0.0.1")) == "AU"
    clock[0] = NOW - 10 + 40 * DAY - 0.1
    assert countries.country(ip_address("1.0.0.1")) == "AU"
    clock[0] += 0.1
    assert countries.country(ip_address("1.0.0.1")) == "unknown", "remembered or not"
    assert countries.country(ip_address("1.2.0.1")) == "unknown"


def test_without_max_age_a_database_is_for_ever(database: Callable[..., Countries]) -> None:
    countries = database(mmdb(RECORDS, 1))
    assert countries.holds_until(NOW) is None
    assert countries.country(ip_address("1.0.0.1")) == "AU"


def test_the_embedded_data_does_not_say_how_old_it_is() -> None:
    countries = open_countries(GeoIP(max_age=40 * DAY), NOW)
    assert countries.holds_until(NOW) is None
    assert list(countries.reports()) == []
    assert countries.country(ip_address("8.8.8.8")) == "US"


GOOD = mmdb(RECORDS, NOW)
MARK = GOOD.rindex(b"\xab\xcd\xefMaxMind.com")
DAMAGED = {
    "empty": b"",
    "text": b"country,code\n",
    "cut": GOOD[: MARK // 2],
    "without metadata": GOOD[:MARK],
    "metadata cut": GOOD[:-20],
    "tree cut off": GOOD[300:],
    "data cut out": GOOD[: MARK - 200] + GOOD[MARK:],
    "zeros before metadata": bytes(MARK) + GOOD[MARK:],
    "pointers past the end": b"\xff" * (MARK - 800) + GOOD[MARK - 800 :],
    "of another format": mmdb(RECORDS, NOW, binary_format_major_version=3),
    "of an odd record size": mmdb(RECORDS, NOW, record_size=13),
    "no countries": mmdb({"1.0.0.0/8": {"autonomous_system_number": 64500}}, NOW),
    "no country.iso_code": mmdb({"1.0.0.0/8": {"country": "US"}}, NOW),
    "nothing": mmdb({"1.0.0.0/8": {}}, NOW),
    "from the future": mmdb(RECORDS, NOW + 2 * 86400),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_databases_are_refused(database: Callable[..., Countries], name: str) -> None:
    with pytest.raises(SourceRefused, match=r"country\.mmdb: "):
        database(DAMAGED[name])


@given(place=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
@settings(max_examples=200)
def test_a_changed_byte_is_refused_or_answers_countries(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.mmdb"
    path.write_bytes(GOOD[:place] + bytes([byte]) + GOOD[place + 1 :])
    try:
        countries = open_countries(GeoIP((path,)), NOW)
    except SourceRefused:
        return
    for text in IN_DATABASE:
        answer = countries.country(ip_address(text))
        assert answer == "unknown" or answer in COUNTRIES


def test_a_missing_database_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.mmdb", tmp_path):
        with pytest.raises(SourceRefused, match="cannot be read"):
            open_countries(GeoIP((path,)), NOW)


def test_a_file_rewritten_in_place_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "country.mmdb"
    path.write_bytes(GOOD)
    countries = open_countries(GeoIP((path,)), NOW)
    with path.open("r+b") as file:
        file.truncate(0)
    assert countries.country(ip_address("1.0.0.1")) == "AU"
    assert countries.country(ip_address("1.14.0.1")) == "HK"
