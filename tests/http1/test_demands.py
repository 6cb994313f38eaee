"""Which handshake a Host demands, and how a connection stands to it after a reload."""

from dataclasses import replace
from pathlib import Path

from proxy.http1.demands import NOTHING, Demand, Demands
from proxy.wire.server_names import ServerNames

STAFF = Demand("required", Path("a.pem"), (Path("a.crl"),), "1")


def test_a_demand_is_that_of_the_name() -> None:
    names = ServerNames([frozenset({"open.example"}), frozenset({"*.staff.example", "staff.example"})])
    demands = Demands(names, [NOTHING, STAFF])
    for name in ("staff.example", "a.staff.example"):
        assert demands.of(name) is STAFF
    for other in (None, "open.example", "a.b.staff.example", "nobody.example", "192.0.2.1", "2001:db8::1", ""):
        assert demands.of(other) is NOTHING


def test_only_the_same_demand_is_met() -> None:
    assert STAFF.met_by(STAFF, b"c") == "met"
    assert STAFF.met_by(replace(STAFF), b"c") == "met"
    others = (
        NOTHING,
        replace(STAFF, mode="optional"),
        replace(STAFF, authorities=Path("b.pem")),
        replace(STAFF, lists=()),
    )
    for other in others:
        assert STAFF.met_by(other, b"c") == "unmet"
        assert other.met_by(STAFF, b"c") == "unmet"


def test_files_that_changed_make_it_stale_and_who_is_on_a_list_unmet() -> None:
    renewed = replace(STAFF, contents="2", revoked=lambda certificate: certificate == b"bad")
    assert renewed.met_by(STAFF, b"good") == "stale"
    assert renewed.met_by(STAFF, b"bad") == "unmet"
    assert replace(renewed, mode="optional").met_by(replace(STAFF, mode="optional"), None) == "stale"


def test_nothing_asks_nothing() -> None:
    assert not NOTHING.asks
    assert STAFF.asks
    assert NOTHING.resumes(None, 0.0)
    assert not NOTHING.revoked(b"c")
