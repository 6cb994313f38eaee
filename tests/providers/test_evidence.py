"""Where a provider can be, by what its checks show."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.health import Location
from proxy.providers.evidence import FIBRE, SLACK, Seen, great_circle, judge, shortest_trip

BEIJING = Location(39.9042, 116.4074)
FRANKFURT = Location(50.1109, 8.6821)
LONDON = Location(51.5074, -0.1278)
NEW_YORK = Location(40.7128, -74.0060)
SYDNEY = Location(-33.8688, 151.2093)
SUVA = Location(-18.1248, 178.4501)
APIA = Location(-13.8506, -171.7513)

CHINA = frozenset({"CN"})


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        (LONDON, LONDON, 0),
        (LONDON, NEW_YORK, 5570),
        (FRANKFURT, BEIJING, 7780),
        (LONDON, SYDNEY, 16994),
        (SUVA, APIA, 1147),  # over the date line
        (Location(90.0, 0.0), Location(90.0, 123.0), 0),
        (Location(90.0, 0.0), Location(-90.0, 0.0), 20015),
        (Location(0.0, 0.0), Location(0.0, 180.0), 20015),
        (Location(0.0, -180.0), Location(0.0, 180.0), 0),
    ],
)
def test_distances(a, b, km):
    assert great_circle(a, b) == pytest.approx(km, rel=0.005, abs=0.001)


@pytest.mark.parametrize(
    ("countries", "rtt", "here", "there", "verdict"),
    [
        ({"CN"}, 0.200, FRANKFURT, BEIJING, "ok"),
        ({"CN"}, None, None, None, "ok"),
        ({"CN"}, 0.001, None, BEIJING, "ok"),
        ({"CN"}, 0.001, FRANKFURT, None, "ok"),
        ({"CN"}, None, FRANKFURT, BEIJING, "ok"),
        ({"HK"}, 0.200, FRANKFURT, BEIJING, "country-mismatch"),
        ({"CN", "US"}, None, None, None, "country-mismatch"),
        ({"US"}, 0.001, FRANKFURT, BEIJING, "country-mismatch"),
        ({"CN"}, 0.002, FRANKFURT, BEIJING, "distance-impossible"),
        (set(), 0.002, FRANKFURT, BEIJING, "distance-impossible"),
        # 7,780 km, 100 given away: 76.8 ms.
        ({"CN"}, 0.0765, FRANKFURT, BEIJING, "distance-impossible"),
        ({"CN"}, 0.0775, FRANKFURT, BEIJING, "ok"),
        # A late answer proves nothing, not even that a near one is far.
        ({"CN"}, 9.0, BEIJING, BEIJING, "ok"),
        ({"CN"}, 0.0, BEIJING, BEIJING, "ok"),
        (set(), None, None, None, "unknown"),
        (set(), 0.2, FRANKFURT, BEIJING, "unknown"),
    ],
)
def test_verdicts(countries, rtt, here, there, verdict):
    judgement = judge(Seen(frozenset(countries), rtt), "cn-mainland", CHINA, here, there)
    assert judgement.verdict == verdict
    assert judgement.flagged is (verdict in ("country-mismatch", "distance-impossible"))
    assert not judgement.forbids("record")
    assert judgement.forbids("enforce") is judgement.flagged


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (Seen(frozenset({"US", "SG", "CN"})), "is in SG, US, outside zone cn-mainland"),
        (
            Seen(frozenset({"CN"}), 0.0021),
            "answers within 2.1 ms; light takes 76.8 ms over 7,781 km and back",
        ),
        (Seen(frozenset({"CN"}), 0.2), "answers from CN, inside zone cn-mainland"),
        (Seen(), "the country of its address is not known"),
    ],
)
def test_reasons(seen, reason):
    assert judge(seen, "cn-mainland", CHINA, FRANKFURT, BEIJING).reason == reason


PLACES = st.builds(Location, st.floats(-90.0, 90.0), st.floats(-180.0, 180.0))
SEEN = st.builds(Seen, st.frozensets(st.sampled_from(["CN", "HK"])), st.one_of(st.none(), st.floats(0.0, 2.0)))


@given(PLACES, PLACES, PLACES)
def test_distances_are_a_metric(a, b, c):
    assert great_circle(a, a) == pytest.approx(0.0, abs=1e-3)
    assert great_circle(a, b) == pytest.approx(great_circle(b, a), abs=1e-3)
    assert 0.0 <= great_circle(a, b) <= math.pi * 6371.0 + 1e-6
    assert great_circle(a, c) <= great_circle(a, b) + great_circle(b, c) + 1e-3


@given(PLACES, PLACES, SEEN, SEEN)
def test_more_that_is_seen_only_accuses(here, there, some, more):
    rtts = [seen.rtt for seen in (some, more) if seen.rtt is not None]
    both = Seen(some.countries | more.countries, min(rtts, default=None))
    if judge(some, "cn-mainland", CHINA, here, there).flagged:
        assert judge(both, "cn-mainland", CHINA, here, there).flagged


@given(PLACES, PLACES, st.floats(1.0, 100.0))
def test_a_provider_that_is_where_it_says_is_never_accused_by_its_distance(here, there, detour):
    seen = Seen(CHINA, 2 * great_circle(here, there) * detour / FIBRE)
    assert judge(seen, "cn-mainland", CHINA, here, there).verdict == "ok"


def test_a_doubtful_distance_is_given_away():
    assert shortest_trip(SLACK) == 0.0
    assert shortest_trip(SLACK + 200.0) == pytest.approx(0.002)
