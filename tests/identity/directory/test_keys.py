"""By what a directory is asked, what that is believed from, and what follows from having nothing to ask by."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.identity.answers import Answer, Home, Invalid, Kind, Silent, Unavailable
from proxy.identity.country import Countries
from proxy.identity.directory.keys import UnusableKey, find_key
from proxy.identity.directory.reader import Entry
from proxy.identity.evidence import Evidence
from proxy.identity.identify import Identity, Source, Sources
from proxy.identity.location import LocationSource
from proxy.identity.places import Places
from proxy.policy.decide import looks_at_path
from proxy.policy.facts import SUBJECT
from proxy.policy.settings import Zone
from proxy.policy.subject import DirectoryKey
from tests.config.marked import loaded
from tests.identity.directory.stores import NOW, Asked, asked, evidence

ZONES = Places((Zone("cn-mainland", frozenset({"CN"})), Zone("eu", frozenset({"DE"}))))
TOKEN = Silent("acct", SUBJECT, source="jwt")
CERTIFICATE = Silent("acct", SUBJECT, source="client_certificate")
NOBODY = Silent()

FOUND: dict[str, tuple[DirectoryKey, dict[str, Any], Silent, str | None]] = {
    "a header": (DirectoryKey("header", "x-account"), {}, NOBODY, "acct"),
    "a header of a stranger": (DirectoryKey("header", "x-account"), {"trusted": False}, NOBODY, None),
    "an empty header": (DirectoryKey("header", "x-account"), {"key": ""}, NOBODY, None),
    "no header": (DirectoryKey("header", "x-account"), {"key": None}, NOBODY, None),
    "another header": (DirectoryKey("header", "x-accounts"), {}, NOBODY, None),
    "a token's subject": (DirectoryKey("token"), {}, TOKEN, "acct"),
    "not a certificate's": (DirectoryKey("token"), {}, CERTIFICATE, None),
    "nobody's": (DirectoryKey("token"), {}, NOBODY, None),
    "a certificate's subject": (DirectoryKey("certificate"), {}, CERTIFICATE, "acct"),
    "not a token's": (DirectoryKey("certificate"), {}, TOKEN, None),
    "a server name": (DirectoryKey("sni"), {"sni": "acme.app.example"}, NOBODY, "acme.app.example"),
    "no server name": (DirectoryKey("sni"), {}, NOBODY, None),
    "a path": (DirectoryKey("path", "/t/{}/*"), {"path": "/t/acme"}, NOBODY, "acme"),
    "a path below": (DirectoryKey("path", "/t/{}/*"), {"path": "/t/acme/a/b"}, NOBODY, "acme"),
    "a path's end": (DirectoryKey("path", "/t/{}/*"), {"path": "/t/acme/"}, NOBODY, "acme"),
    "an encoded path": (DirectoryKey("path", "/t/{}/*"), {"path": "/t/%E4%BA%AC%20x"}, NOBODY, "京 x"),
    "a path, exactly": (DirectoryKey("path", "/t/{}"), {"path": "/t/acme/a"}, NOBODY, None),
    "another path": (DirectoryKey("path", "/t/{}/*"), {"path": "/tt/acme"}, NOBODY, None),
    "a path without": (DirectoryKey("path", "/t/{}/*"), {"path": "/t/"}, NOBODY, None),
    "a path of another case": (DirectoryKey("path", "/t/{}/*"), {"path": "/T/acme"}, NOBODY, None),
    "part of a segment": (DirectoryKey("path", "/u-{}/x"), {"path": "/u-acme/x"}, NOBODY, "acme"),
    "a literal dot": (DirectoryKey("path", "/t.{}"), {"path": "/tx-acme"}, NOBODY, None),
    "all of a server": (DirectoryKey("path", "/t/{}/*"), {"path": "*"}, NOBODY, None),
    "a host": (DirectoryKey("host", "{}.app.example"), {"host": "acme.app.example"}, NOBODY, "acme"),
    "a deeper host": (DirectoryKey("host", "{}.app.example"), {"host": "a.acme.app.example"}, NOBODY, None),
    "the host itself": (DirectoryKey("host", "{}.app.example"), {"host": "app.example"}, NOBODY, None),
    "another host": (DirectoryKey("host", "{}.app.example"), {"host": "acme.appxexample"}, NOBODY, None),
    "an address": (DirectoryKey("host", "{}.app.example"), {"host": "2001:db8::1"}, NOBODY, None),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str) -> None:
    key, shown, known, found = FOUND[name]
    assert find_key(key)(evidence(**({"key": "acct"} | shown)), known) == found


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        (((b"x-account", b"a"), (b"x-account", b"a")), "repeated"),
        (((b"x-account", b"a"), (b"x_account", b"b")), "repeated"),
        (((b"x_account", b"b"), (b"x-account", b"a")), "repeated"),
        (((b"x_account", b"b"),), "repeated"),
        (((b"x.account", b"b"),), "repeated"),
        (((b"x-account", b""), (b"x-account", b"")), "repeated"),
        (((b"x-account", b"\xe9"),), "malformed"),
    ],
)
def test_unusable_headers(fields: tuple[tuple[bytes, bytes], ...], cause: str) -> None:
    find = find_key(DirectoryKey("header", "x-account"))
    with pytest.raises(UnusableKey) as unusable:
        find(Evidence(fields, trusted=True), NOBODY)
    assert unusable.value.cause == cause
    assert find(Evidence(fields, trusted=False), NOBODY) is None, "a stranger's is not looked at"


def test_an_ambiguous_path_is_no_way_around(tmp_path: Path) -> None:
    with pytest.raises(UnusableKey):
        find_key(DirectoryKey("path", "/t/{}/*"))(Evidence((), path=None), NOBODY)
    directory = "subject: {sources: [{directory: {sqlite: d.db, key: %s}}]}"
    assert looks_at_path(loaded(tmp_path, directory % '{path: "/t/{}/*"}').policy)
    assert not looks_at_path(loaded(tmp_path, directory % "sni").policy)


class Fake:
    """A source that answers what it is told."""

    def __init__(self, given: Answer, kind: Kind = "jwt") -> None:
        self._given = given
        self.kind: Kind = kind

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Answer:
        return self._given

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        return frozenset()


def together(*sources: Source) -> Sources:
    return Sources(sources, ZONES)


async def filled(**changes: Any) -> Asked:
    """A directory that knows `acct` and `staff` in Europe, and has been asked for the keys of these tests."""
    scene = asked({"acct": Entry("eu"), "odd": Entry("atlantis")}, **changes)
    for key in ("acct", "nobody", "odd"):
        for known in (NOBODY, replace(TOKEN, subject=key), replace(CERTIFICATE, subject=key)):
            await scene.settled(key, known)
    return scene


COUNTRY_DATA = Countries(())
HERE, HERE_TOO = LocationSource(False, COUNTRY_DATA), LocationSource(True, COUNTRY_DATA)
UNTIL = NOW + 60
SINCE_UNKNOWN = NOW + 30


async def test_after_a_directory_an_address_speaks_for_nobodys_account() -> None:
    """Every silence of a directory, with and without `accounts: true`."""
    scene = await filled()
    table: dict[str, tuple[Evidence, Identity, Identity]] = {
        "known": (evidence("acct", country="CN"), _home("eu", "acct"), _home("eu", "acct")),
        "unknown": (
            evidence("nobody", country="CN"),
            Identity(until=SINCE_UNKNOWN),
            Identity("cn-mainland", "location", until=SINCE_UNKNOWN),
        ),
        "no key": (evidence(None, country="CN"), Identity(), Identity("cn-mainland", "location")),
        "a stranger's key": (
            evidence("acct", trusted=False, country="CN"),
            Identity(drop=frozenset({b"x-account"})),
            Identity("cn-mainland", "location", drop=frozenset({b"x-account"})),
        ),
    }
    for name, (shown, here, here_too) in table.items():
        assert together(scene.source, HERE).identify(shown, NOW) == here, name
        assert together(scene.source, HERE_TOO).identify(shown, NOW) == here_too, name
        assert together(HERE, scene.source).identify(shown, NOW).source == "location", "before it, it does"  # type: ignore[union-attr]


def _home(home: str, subject: str | None, actor: str = "unknown") -> Identity:
    return Identity(home, "directory", subject, actor, until=UNTIL)


async def test_the_subject_of_a_token_has_its_home_in_the_directory() -> None:
    scene = await filled(key=DirectoryKey("token"))
    for actor in (SUBJECT, "support"):
        token = Fake(Silent("acct", actor))
        found = together(token, scene.source, HERE).identify(evidence(None, country="CN"), NOW)
        assert found == _home("eu", "acct", actor), "whose data is looked up, who acts stays known"
    stranger = Fake(Silent("nobody", SUBJECT))
    shown = evidence(None, country="CN")
    assert together(stranger, scene.source, HERE).identify(shown, NOW).home == "unknown"  # type: ignore[union-attr]
    assert together(stranger, scene.source, HERE_TOO).identify(shown, NOW).home == "cn-mainland"  # type: ignore[union-attr]
    staff = Fake(Silent("nobody", "support"))
    assert together(staff, scene.source, HERE_TOO).identify(shown, NOW).home == "unknown", "where staff are"  # type: ignore[union-attr]
    certificate = Fake(Silent("acct", SUBJECT), "client_certificate")
    assert together(certificate, scene.source).identify(shown, NOW).home == "unknown", "not a token's"  # type: ignore[union-attr]


async def test_a_header_beside_a_token_says_whose_data_and_not_who_acts() -> None:
    scene = await filled()
    token = Fake(Silent("member-of-staff", "support"))
    found = together(token, scene.source).identify(evidence("acct"), NOW)
    assert found == _home("eu", "member-of-staff", "support")


async def test_a_home_that_is_none_is_invalid() -> None:
    scene = await filled()
    assert together(scene.source, HERE_TOO).identify(evidence("odd", country="CN"), NOW) == Invalid("directory", "home")


async def test_no_weaker_source_is_reached_by_an_outage() -> None:
    scene = asked()
    scene.reader.fault = "refused"
    await scene.settled()
    found = together(scene.source, HERE_TOO).identify(evidence(country="CN"), NOW)
    assert found == Unavailable("directory", "lookup")


async def test_key_headers_that_are_not_forwarded() -> None:
    """A stranger's never, whichever source gave the home; a trusted proxy's with `forward: false`."""
    for forward in (True, False):
        scene = await filled(forward=forward)
        for order in ((scene.source, HERE_TOO), (HERE_TOO, scene.source)):
            for trusted in (True, False):
                shown = evidence("acct", trusted=trusted, country="CN")
                found = together(*order).identify(shown, NOW)
                assert isinstance(found, Identity)
                passed = forward and trusted
                assert found.drop == (frozenset() if passed else frozenset({b"x-account"}))
    assert isinstance(scene.answer(), Home)
