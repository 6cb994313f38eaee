"""Tokens in Authorization, in a header and in a cookie; several issuers; what is not passed on."""

from pathlib import Path
from typing import Any

import pytest

from proxy.identity.answers import Home, Invalid, Silent
from proxy.identity.evidence import Evidence
from proxy.identity.identify import Identity, Sources, open_sources
from proxy.policy.subject import Location, Subject, TokenPlace
from tests.identity import tokens
from tests.identity.test_identify import COUNTRY_DATA, ZONES, jwt
from tests.identity.tokens import NOW, token

HEADER = TokenPlace("header", "x-token")
COOKIE = TokenPlace("cookie", "session")
GOOD = Home("CN", "acct-7f3a", "subject", NOW + 630)
OTHER = "https://other.example"
Fields = tuple[tuple[bytes, bytes], ...]


@pytest.fixture(scope="module")
def jwks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokens.written(tmp_path_factory.mktemp("keys"), tokens.all_keys())


def opened(*sources: Any) -> Sources:
    return open_sources(Subject((), sources, (), frozenset({"support"})), ZONES, COUNTRY_DATA)


T = token()
PLACED: list[tuple[TokenPlace | None, Fields, Any]] = [
    (None, ((b"authorization", b"Bearer " + T),), GOOD),
    (None, ((b"x-token", T), (b"cookie", b"session=" + T)), Silent()),
    (None, ((b"authorization", b"Bearer " + T), (b"authorization", b"Bearer " + T)), Invalid("jwt", "repeated")),
    (None, ((b"authorization", b"Basic eDp5"), (b"authorization", b"Bearer " + T)), Invalid("jwt", "repeated")),
    (HEADER, ((b"x-token", T),), GOOD),
    (HEADER, ((b"authorization", b"Bearer " + T),), Silent()),
    (HEADER, ((b"authorization", b"Bearer x"), (b"x-token", T)), GOOD),
    (HEADER, ((b"x-token", T), (b"x-token", T)), Invalid("jwt", "repeated")),
    (HEADER, ((b"x-token", b""),), Invalid("jwt", "empty")),
    (HEADER, ((b"x-token", b"Bearer " + T),), Invalid("jwt", "malformed")),
    (HEADER, ((b"x-token", b" " + T),), Invalid("jwt", "malformed")),
    (HEADER, ((b"x-token", T + b", " + T),), Invalid("jwt", "malformed")),
    (HEADER, ((b"x-token", b"a" * 8193),), Invalid("jwt", "oversize")),
    (HEADER, ((b"x_token", T),), Silent()),
    (COOKIE, ((b"cookie", b"session=" + T),), GOOD),
    (COOKIE, ((b"cookie", b"a=b; session=" + T + b"; c=d"),), GOOD),
    (COOKIE, ((b"cookie", b"a=b"), (b"cookie", b"session=" + T)), GOOD),
    (COOKIE, ((b"cookie", b"session=" + T + b"; session=" + T),), Invalid("jwt", "repeated")),
    (COOKIE, ((b"cookie", b"session=" + T), (b"cookie", b"session=x")), Invalid("jwt", "repeated")),
    (COOKIE, ((b"cookie", b"session="),), Invalid("jwt", "empty")),
    (COOKIE, ((b"cookie", b'session="' + T + b'"'),), Invalid("jwt", "malformed")),
    (COOKIE, ((b"cookie", b"Session=" + T),), Silent()),
    (COOKIE, ((b"cookie", b"other=" + T),), Silent()),
    (COOKIE, ((b"authorization", b"Bearer " + T),), Silent()),
]


@pytest.mark.parametrize(("place", "fields", "answer"), PLACED, ids=range(len(PLACED)))
def test_where_a_token_is(jwks: Path, place: TokenPlace | None, fields: Fields, answer: Any) -> None:
    (seat,) = opened(jwt(jwks, token=place)).seats
    assert seat.source.answer(Evidence(fields), Silent(), NOW) == answer


def test_issuers_that_read_one_place_leave_tokens_to_each_other(jwks: Path) -> None:
    ours, theirs = jwt(jwks), jwt(jwks, issuer=OTHER)
    found = opened(ours, theirs).identify(Evidence(((b"authorization", b"Bearer " + token(iss=OTHER)),)), NOW)
    assert isinstance(found, Identity)
    assert found.home == "cn-mainland"


def test_issuers_of_different_places_do_not(jwks: Path) -> None:
    """Nobody else would read it there."""
    sources = opened(jwt(jwks), jwt(jwks, issuer=OTHER, token=HEADER), Location(False))
    misplaced = Evidence(((b"authorization", b"Bearer " + token(iss=OTHER)),), None, "DE")
    assert sources.identify(misplaced, NOW) == Invalid("jwt", "issuer")
    placed = Evidence(((b"x-token", token(iss=OTHER)),), None, "DE")
    assert sources.identify(placed, NOW) == Identity("cn-mainland", "jwt", "acct-7f3a", "subject", until=NOW + 630)


@pytest.mark.parametrize("forward", [True, False])
def test_what_is_not_passed_on(jwks: Path, forward: bool) -> None:
    in_header = opened(jwt(jwks, token=HEADER, forward=forward))
    in_cookie = opened(jwt(jwks, token=COOKIE, forward=forward))
    hidden = frozenset() if forward else {b"x-token"}
    found = in_header.identify(Evidence(((b"x-token", T),)), NOW)
    assert isinstance(found, Identity)
    assert (found.drop, in_header.hidden_cookies) == (hidden, frozenset())
    found = in_cookie.identify(Evidence(((b"cookie", b"session=" + T),)), NOW)
    assert isinstance(found, Identity)
    assert (found.drop, in_cookie.hidden_cookies) == (frozenset(), frozenset() if forward else {b"session"})


def test_a_reload_keeps_what_did_not_change(tmp_path: Path) -> None:
    path = tokens.written(tmp_path, tokens.all_keys())
    shown = Evidence(((b"authorization", b"Bearer " + T),))
    subject = Subject((), (jwt(path), Location(False)), (), frozenset({"support"}))
    old = open_sources(subject, ZONES, COUNTRY_DATA)
    asked = old.ask(shown, NOW)
    assert asked.trail is not None
    asked.trail.count += 1
    same = open_sources(subject, ZONES, COUNTRY_DATA, old)
    assert same.seats[0] is old.seats[0]
    assert same.ask(shown, NOW).trail is asked.trail
    assert same.counts.of("jwt").hits == 1, "what was verified stays so"
    assert same.counts.answers()["jwt", "home"] == 1
    for changed in (
        Subject((), (jwt(path, audience="another"),), (), frozenset({"support"})),
        Subject((), (jwt(path),), (), frozenset()),
        Subject((), (jwt(path), jwt(path, issuer=OTHER)), (), frozenset({"support"})),
    ):
        assert open_sources(changed, ZONES, COUNTRY_DATA, old).seats[0] is not old.seats[0]
    tokens.written(tmp_path, tokens.key_set(tokens.ed_jwk(1, kid="d")))
    anew = open_sources(subject, ZONES, COUNTRY_DATA, old)
    assert anew.identify(shown, NOW) == Invalid("jwt", "signature"), "another key set under the same name"


class Held:
    """A source with something to close."""

    kind = "directory"

    def __init__(self) -> None:
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


async def test_what_was_carried_over_is_closed_by_the_last_that_asks_it(jwks: Path) -> None:
    subject = Subject((), (jwt(jwks),), (), frozenset())
    first = open_sources(subject, ZONES, COUNTRY_DATA)
    held = first.seats[0].source = Held()  # type: ignore[assignment]
    second = open_sources(subject, ZONES, COUNTRY_DATA, first)
    never_in_force = open_sources(subject, ZONES, COUNTRY_DATA, first)
    never_in_force.abandon()
    await first.close()
    assert held.closed == 0
    await second.close()
    assert held.closed == 1


def test_the_answers_of_a_request_are_counted_by_whoever_asked(jwks: Path) -> None:
    sources = opened(jwt(jwks), Location(False))
    cases = {
        (b"", "DE"): [("jwt", "silent"), ("location", "home")],
        (b"", "unknown"): [("jwt", "silent"), ("location", "silent")],
        (b"Bearer x", "DE"): [("jwt", "invalid")],
        (b"Bearer " + T, "DE"): [("jwt", "home")],
    }
    for (credential, country), answers in cases.items():
        fields = ((b"authorization", credential),) if credential else ()
        trail = sources.ask(Evidence(fields, None, country), NOW).trail
        assert trail is not None
        assert list(trail.answers) == answers
        trail.count += 1
    assert sources.counts.answers() == {
        ("jwt", "home"): 1,
        ("jwt", "silent"): 2,
        ("jwt", "invalid"): 1,
        ("jwt", "unavailable"): 0,
        ("location", "home"): 1,
        ("location", "silent"): 1,
        ("location", "invalid"): 0,
        ("location", "unavailable"): 0,
    }
