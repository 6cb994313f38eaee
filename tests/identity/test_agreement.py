"""Several databases that must agree, and what the operator states over all of them."""

from collections.abc import Callable
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.identity.country import Countries, Slot
from proxy.identity.database import Database
from proxy.identity.overrides import Overrides
from proxy.policy.facts import Address
from proxy.policy.rules import Network
from proxy.policy.settings import CountryOverride

NOW = 1_800_000_000
ADDRESS = ip_address("8.8.8.8")


def saying(*codes: str | None, agree: str = "all") -> str:
    """The country of an address of which databases say these."""
    slots = [Slot(Database(lambda _, code=code: code)) for code in codes]  # type: ignore[misc]
    return Countries(slots, agree=agree).country(ADDRESS)  # type: ignore[arg-type]


ALL = [
    (["DE"], "DE"),
    (["DE", "DE"], "DE"),
    (["DE", "de", "DE"], "DE"),
    (["DE", "FR"], "unknown"),
    (["CN", "HK"], "unknown"),
    (["DE", "DE", "FR"], "unknown"),
    # One that does not know has not agreed.
    (["DE", None], "unknown"),
    ([None], "unknown"),
    ([None, None], "unknown"),
    # What is no country is not knowing.
    (["DE", "EU"], "unknown"),
    (["EU", "EU"], "unknown"),
    (["ZZ", "ZZ"], "unknown"),
    ([], "unknown"),
]
MAJORITY = [
    (["DE"], "DE"),
    (["DE", "DE"], "DE"),
    (["DE", "FR"], "unknown"),
    (["DE", None], "unknown"),
    (["DE", "DE", "FR"], "DE"),
    (["HK", "CN", "HK"], "HK"),
    (["DE", "DE", None], "DE"),
    (["DE", None, None], "unknown"),
    (["DE", "FR", "IT"], "unknown"),
    # Half is not more than half.
    (["DE", "DE", "FR", "FR"], "unknown"),
    (["DE", "DE", None, None], "unknown"),
    (["DE", "DE", "DE", None], "DE"),
    ([None, None, "DE"], "unknown"),
    (["EU", "EU", "DE"], "unknown"),
    ([], "unknown"),
]


@pytest.mark.parametrize(("codes", "country"), ALL)
def test_all_have_to_say_the_same(codes: list[str | None], country: str) -> None:
    assert saying(*codes) == country


@pytest.mark.parametrize(("codes", "country"), MAJORITY)
def test_more_than_half_have_to_say_the_same(codes: list[str | None], country: str) -> None:
    assert saying(*codes, agree="majority") == country


@given(codes=st.lists(st.sampled_from(["DE", "FR", "HK", "CN", None]), max_size=5), order=st.randoms())
@settings(max_examples=200)
def test_all_is_the_narrower_and_order_never_matters(codes: list[str | None], order: object) -> None:
    shuffled = codes.copy()
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    for agree in ("all", "majority"):
        assert saying(*codes, agree=agree) == saying(*shuffled, agree=agree)
    assert saying(*codes) in ("unknown", saying(*codes, agree="majority"))
    for country in set(codes):
        if country is not None:
            assert (saying(*codes, agree="majority") == country) == (codes.count(country) * 2 > len(codes))


def aging(*built: int | None, agree: str, clock: Callable[[], float]) -> Countries:
    """Databases that all say DE, of these dates; each lasts a hundred seconds."""
    slots = [Slot(Database(lambda _: "DE", made)) for made in built]
    return Countries(slots, agree=agree, max_age=100, clock=clock)  # type: ignore[arg-type]


def test_one_that_is_too_old_has_not_agreed() -> None:
    clock = [float(NOW)]
    everyone = aging(NOW, NOW - 50, None, agree="all", clock=lambda: clock[0])
    most = aging(NOW, NOW - 50, None, agree="majority", clock=lambda: clock[0])
    for elapsed, all_say, most_say, ends in (
        (0.0, "DE", "DE", NOW + 50),
        (49.9, "DE", "DE", NOW + 50),
        (50.0, "unknown", "DE", NOW + 100),
        (99.9, "unknown", "DE", NOW + 100),
        (100.0, "unknown", "unknown", None),
        # A clock that is set back brings them back.
        (60.0, "unknown", "DE", NOW + 100),
        (10.0, "DE", "DE", NOW + 50),
    ):
        clock[0] = NOW + elapsed
        assert (everyone.country(ADDRESS), most.country(ADDRESS)) == (all_say, most_say), elapsed
        assert everyone.holds_until(clock[0]) == most.holds_until(clock[0]) == ends
        assert (everyone.stale(clock[0]), most.stale(clock[0])) == (all_say == "unknown", most_say == "unknown")


def override(country: str, *networks: str) -> CountryOverride:
    return CountryOverride(tuple(ip_network(network) for network in networks), country)


STATED = (
    override("HK", "203.0.113.0/24", "2001:db8::/32"),
    override("DE", "10.0.0.0/8", "fd00::/8"),
    override("FR", "10.1.0.0/16"),
    override("unknown", "10.1.2.0/24", "8.8.4.0/24"),
    override("IT", "10.1.2.3/32"),
    override("SG", "0.0.0.0/1"),
)
COUNTRIES = Countries([Slot(Database(lambda _: "US"))], overrides=STATED)


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("203.0.113.0", "HK"),
        ("203.0.113.255", "HK"),
        ("203.0.112.255", "US"),
        ("203.0.114.0", "US"),
        ("10.0.0.0", "DE"),
        ("10.0.255.255", "DE"),
        ("10.1.0.0", "FR"),
        ("10.1.1.255", "FR"),
        ("10.1.2.0", "unknown"),
        ("10.1.2.2", "unknown"),
        ("10.1.2.3", "IT"),
        ("10.1.2.4", "unknown"),
        ("10.1.3.0", "FR"),
        ("10.2.0.0", "DE"),
        ("10.255.255.255", "DE"),
        ("11.0.0.0", "SG"),
        ("8.8.8.8", "SG"),
        ("8.8.4.4", "unknown"),
        ("127.255.255.255", "SG"),
        ("128.0.0.0", "US"),
        ("::ffff:10.1.2.3", "IT"),
        ("2001:db8::1", "HK"),
        ("2001:db9::1", "US"),
        ("fd12::1", "DE"),
        ("fc00::1", "unknown"),
        ("::10.1.2.3", "unknown"),
    ],
)
def test_what_is_stated_wins_and_the_longest_network_counts(address: str, country: str) -> None:
    assert COUNTRIES.country(ip_address(address)) == country


def test_it_wins_over_disagreement_and_over_data_that_is_too_old() -> None:
    slots = [Slot(Database(lambda _: "DE", NOW - 1000)), Slot(Database(lambda _: "FR"))]
    countries = Countries(slots, max_age=10, overrides=STATED, clock=lambda: NOW)
    assert countries.country(ip_address("8.8.8.8")) == "SG"
    assert countries.country(ip_address("200.0.0.1")) == "unknown"


networks = st.one_of(
    st.builds(
        lambda bits, length: ip_network((bits >> (32 - length) << (32 - length), length)),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.builds(
        lambda bits, length: ip_network((bits >> (128 - length) << (128 - length), length)),
        st.integers(2**96, 2**128 - 1),
        st.integers(0, 128),
    ),
)


@given(stated=st.dictionaries(networks, st.sampled_from(["DE", "FR", "HK", "unknown"]), max_size=12), data=st.data())
@settings(max_examples=200)
def test_overrides_are_what_looking_at_every_network_gives(stated: dict[Network, str], data: st.DataObject) -> None:
    overrides = Overrides(CountryOverride((network,), country) for network, country in stated.items())
    edges: list[Address] = [IPv4Address(0), IPv4Address(2**32 - 1)]
    for network in stated:
        for value in (
            int(network.network_address) - 1,
            int(network.network_address),
            int(network.broadcast_address) + 1,
        ):
            if 0 <= value < 2**network.max_prefixlen:
                edges.append(type(network.network_address)(value))
    for address in (*edges, data.draw(st.ip_addresses())):
        holding = [network for network in stated if network.version == address.version and address in network]
        longest = max(holding, key=lambda network: network.prefixlen, default=None)
        assert overrides.country(address) == (None if longest is None else stated[longest])
