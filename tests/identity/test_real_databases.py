"""Real country data: the registries' (iptocc) and IPFire's (Debian's tor-geoipdb), as one database and as two."""

import random
from bisect import bisect_right
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, ip_address, summarize_address_range
from pathlib import Path
from typing import Final

import pytest

from proxy.identity.country import Countries, open_countries
from proxy.policy.countries import COUNTRIES
from proxy.policy.settings import CountryOverride, GeoIP
from tests.identity.mmdb_files import mmdb

NOW = 1_790_000_000
IPFIRE = Path("/usr/share/tor/geoip")

BLOCKS: Final = (1, 8, 14, 36, 47, 58, 60, 103, 113, 114, 168, 194, 202)
"""First bytes of the addresses that are converted: where the mainland, Hong Kong, Macao, Taiwan and Singapore are."""

Ranges = list[tuple[int, int, str]]

pytestmark = pytest.mark.debian


def read_ipfire() -> Iterator[tuple[int, int, str]]:
    """First and last address and country, in order, of the blocks above."""
    with IPFIRE.open(encoding="ascii") as file:
        for line in file:
            if line[:1].isdigit():
                first, last, code = line.rstrip("\n").split(",")
                for block in BLOCKS:
                    start, end = max(int(first), block << 24), min(int(last), (block << 24) + 0xFFFFFF)
                    if start <= end:
                        yield start, end, code


@pytest.fixture(scope="module")
def ipfire() -> Ranges:
    return list(read_ipfire())


@pytest.fixture(scope="module")
def database(ipfire: Ranges, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an MMDB file."""
    records = {
        str(network): {"country": {"iso_code": code}}
        for first, last, code in ipfire
        for network in summarize_address_range(IPv4Address(first), IPv4Address(last))
    }
    path = tmp_path_factory.mktemp("ipfire") / "ipfire.mmdb"
    path.write_bytes(mmdb(records, NOW, ip_version=4))
    return path


@pytest.fixture(scope="module")
def alone(database: Path) -> Countries:
    return open_countries(GeoIP((database,)), NOW)


@pytest.fixture(scope="module")
def both(database: Path) -> Countries:
    return open_countries(GeoIP((database, None)), NOW)


REGISTRY = open_countries(GeoIP(), NOW)

KNOWN = {
    # Chinanet, 114DNS, Shanghai Telecom's resolver
    "36.99.1.1": "CN",
    "114.114.114.114": "CN",
    "202.96.209.133": "CN",
    # HKT, China Mobile Hong Kong, HKBN
    "202.45.128.1": "HK",
    "58.152.1.1": "HK",
    "113.252.1.1": "HK",
    "1.36.0.1": "HK",
    "60.246.0.1": "MO",
    "168.95.1.1": "TW",
    "194.25.0.1": "DE",
    "8.8.8.8": "US",
}


@pytest.mark.parametrize("text", KNOWN)
def test_hong_kong_macao_and_taiwan_are_not_the_mainland(text: str, alone: Countries, both: Countries) -> None:
    for countries in (REGISTRY, alone, both):
        assert countries.country(ip_address(text)) == KNOWN[text]


def test_the_converted_database_says_what_the_text_says(ipfire: Ranges, alone: Countries) -> None:
    starts = [first for first, _, _ in ipfire]
    draw = random.Random(7)
    for block in BLOCKS:
        for _ in range(500):
            value = block << 24 | draw.getrandbits(24)
            at = bisect_right(starts, value) - 1
            said = ipfire[at][2] if at >= 0 and ipfire[at][1] >= value else "??"
            address = IPv4Address(value)
            expected = said if said in COUNTRIES and address.is_global else "unknown"
            assert alone.country(address) == expected, address


def test_where_two_disagree_nobody_knows(alone: Countries, both: Countries) -> None:
    draw = random.Random(7)
    tally = {"agreed": 0, "disagreed": 0, "of China": 0}
    for block in BLOCKS:
        for _ in range(1000):
            address = IPv4Address(block << 24 | draw.getrandbits(24))
            one, other, found = REGISTRY.country(address), alone.country(address), both.country(address)
            assert found == (one if one == other else "unknown"), address
            if "unknown" not in (one, other):
                tally["agreed" if one == other else "disagreed"] += 1
                tally["of China"] += one != other and "CN" in (one, other)
    # There are many of each, so neither branch was taken by chance.
    assert tally["agreed"] > 5000
    assert tally["disagreed"] > 100
    assert tally["of China"] > 10


def test_a_cloud_of_hong_kong_that_is_registered_in_singapore(database: Path, both: Countries) -> None:
    block = "8.210.0.0/16"
    address = ip_address("8.210.1.1")
    said = {REGISTRY.country(address), open_countries(GeoIP((database,)), NOW).country(address)}
    assert said == {"SG", "HK"}
    assert both.country(address) == "unknown"
    stated = (CountryOverride((IPv4Network(block),), "HK"),)
    assert open_countries(GeoIP((database, None), overrides=stated), NOW).country(address) == "HK"
