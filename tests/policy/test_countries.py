"""Countries are codes; unions are lists of them; none contains another."""

import pytest

from proxy.policy.countries import COUNTRIES, EEA, EU, UnknownCountryError, expand, zone_of
from tests.policy.samples import a_policy, some_zones


def test_there_are_249_codes():
    assert len(COUNTRIES) == 249
    assert all(len(code) == 2 and code.isalpha() and code.isupper() for code in COUNTRIES)
    assert {"CN", "HK", "MO", "TW", "NO", "NA", "GB"} <= COUNTRIES
    assert not {"UK", "XK", "EU", "SU", "AN"} & COUNTRIES


def test_the_mainland_is_not_hong_kong_macao_or_taiwan():
    assert expand(["CN"]) == {"CN"}


def test_the_unions_are_members_and_the_territories_with_codes_of_their_own():
    assert len(EU) == 27 + 7
    assert {"IS", "LI", "NO"} == EEA - EU
    assert {"AX", "GF", "GP", "MF", "MQ", "RE", "YT"} <= EU
    assert not EEA & {"GB", "CH", "NC", "PF", "PM", "WF", "BL", "GL", "FO", "SJ", "AW", "CW", "SX"}


def test_expansion_takes_out_what_is_excepted():
    assert expand(["EU"], ["DE", "FR"]) == EU - {"DE", "FR"}
    assert expand(["EEA"], ["EU"]) == {"IS", "LI", "NO"}
    assert expand([]) == frozenset()


@pytest.mark.parametrize("name", ["UK", "cn", "eu", "*", "unknown", "", "CHN"])
def test_what_is_no_country_is_refused_by_name(name):
    for names, excepted in (([name], []), (["EU"], [name])):
        with pytest.raises(UnknownCountryError) as refused:
            expand(names, excepted)
        assert refused.value.name == name


def test_a_country_is_in_one_zone_or_none():
    policy = a_policy(some_zones(cn=["CN"], eu=["EEA"]))
    assert zone_of(policy, "CN") == "cn"
    assert zone_of(policy, "NO") == "eu"
    assert zone_of(policy, "HK") is None
    assert zone_of(policy, "unknown") is None
