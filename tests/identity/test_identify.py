"""The sources together: order, silence, ends, actors, and what is dropped."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.identity.answers import Answer, Home, Invalid, Kind, Silent, Unavailable
from proxy.identity.country import Countries, Slot
from proxy.identity.database import Database
from proxy.identity.evidence import Evidence
from proxy.identity.identify import Identity, Sources, open_sources
from proxy.identity.places import Places
from proxy.identity.refused import SourceRefused
from proxy.policy.countries import COUNTRIES
from proxy.policy.settings import Zone
from proxy.policy.subject import Jwt, Location, Subject
from tests.identity import tokens
from tests.identity.tokens import NOW, token

ZONES = (
    Zone("cn-mainland", frozenset({"CN"})),
    Zone("eu", frozenset({"DE", "FR"})),
    Zone("hk", frozenset({"MO"})),
)
ENDS = NOW + 630
COUNTRY_DATA = Countries(())


@pytest.fixture(scope="module")
def jwks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokens.written(tmp_path_factory.mktemp("keys"), tokens.all_keys())


def jwt(jwks: Path, **changes: Any) -> Jwt:
    made = Jwt(jwks, tokens.ISSUER, tokens.AUDIENCE, "sub", "residency", "act.role", 30.0, True)
    return Jwt(**({name: getattr(made, name) for name in Jwt.__slots__} | changes))


def opened(*sources: Jwt | Location, countries: Countries = COUNTRY_DATA) -> Sources:
    return open_sources(Subject((), sources, (), frozenset({"support"})), ZONES, countries)


def shown(text: bytes | None = None, country: str = "unknown") -> Evidence:
    fields = [(b"host", b"a.example")] + ([] if text is None else [(b"authorization", b"Bearer " + text)])
    return Evidence(tuple(fields), None, country)


HERE = Location(accounts=False)
ACCOUNTS_TOO = Location(accounts=True)

# (sources, token, country) -> identity
FOUND: dict[str, tuple[str, bytes | None, str, Identity | Invalid]] = {
    "nobody, nowhere": ("jwt location", None, "unknown", Identity()),
    "nobody, somewhere": ("jwt location", None, "DE", Identity("eu", "location")),
    "nobody, in a country of no zone": ("jwt location", None, "US", Identity("US", "location")),
    "nobody, an account is required": ("jwt", None, "DE", Identity()),
    "an account at home": (
        "jwt location",
        token(),
        "CN",
        Identity("cn-mainland", "jwt", "acct-7f3a", "subject", until=ENDS),
    ),
    "an account abroad": (
        "jwt location",
        token(),
        "DE",
        Identity("cn-mainland", "jwt", "acct-7f3a", "subject", until=ENDS),
    ),
    "a foreigner in Shanghai": (
        "jwt location",
        token(residency="DE"),
        "CN",
        Identity("eu", "jwt", "acct-7f3a", "subject", until=ENDS),
    ),
    "Hong Kong is not the mainland": (
        "jwt location",
        token(residency="HK"),
        "CN",
        Identity("HK", "jwt", "acct-7f3a", "subject", until=ENDS),
    ),
    "an account without a home": (
        "jwt location",
        token(residency=...),
        "DE",
        Identity("unknown", "none", "acct-7f3a", "subject", until=ENDS),
    ),
    "an account without a home, accounts too": (
        "jwt accounts",
        token(residency=...),
        "DE",
        Identity("eu", "location", "acct-7f3a", "subject", until=ENDS),
    ),
    "an account without a home, nowhere": (
        "jwt accounts",
        token(residency=...),
        "unknown",
        Identity("unknown", "none", "acct-7f3a", "subject", until=ENDS),
    ),
    "staff": (
        "jwt location",
        token(act={"role": "support"}),
        "DE",
        Identity("unknown", "none", "acct-7f3a", "support", until=ENDS),
    ),
    "staff are not where the subject is": (
        "jwt accounts",
        token(act={"role": "support"}),
        "CN",
        Identity("unknown", "none", "acct-7f3a", "support", until=ENDS),
    ),
    "staff whom nobody lists": ("jwt accounts", token(act={"role": "auditor"}), "DE", Invalid("jwt", "actor")),
    "a forged token": ("jwt accounts", token()[:-6] + b"AAAAAA", "DE", Invalid("jwt", "signature")),
    "an expired token": ("jwt accounts", token(exp=NOW - 31), "DE", Invalid("jwt", "expired")),
    "no token at all": ("jwt accounts", b"", "DE", Invalid("jwt", "empty")),
    "a home that is none": ("jwt accounts", token(residency="atlantis"), "DE", Invalid("jwt", "home")),
    "a home that is unknown": ("jwt accounts", token(residency="unknown"), "DE", Invalid("jwt", "home")),
    "an empty home": ("jwt accounts", token(residency=""), "DE", Invalid("jwt", "home")),
    "the first that knows": ("location jwt", token(), "DE", Identity("eu", "location")),
    "the first that knows not": (
        "location jwt",
        token(),
        "unknown",
        Identity("cn-mainland", "jwt", "acct-7f3a", "subject", until=ENDS),
    ),
    "no sources": ("", token(), "DE", Identity()),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(jwks: Path, name: str) -> None:
    order, text, country, identity = FOUND[name]
    kinds = {"jwt": jwt(jwks), "location": HERE, "accounts": ACCOUNTS_TOO}
    sources = opened(*(kinds[kind] for kind in order.split()))
    for _ in range(2):
        assert sources.identify(shown(text, country), NOW) == identity


@dataclass
class Fake:
    """A source that answers what it is told, and remembers what it was told of others."""

    given: Answer
    kind: Kind = "jwt"
    known: Silent | None = None

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Answer:
        self.known = known
        return self.given

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        return frozenset()


ENDING: list[tuple[Answer, Any]] = [
    (Home("DE", None, "unknown", None), Identity("eu", "jwt")),
    (Invalid("jwt", "signature"), Invalid("jwt", "signature")),
    (Unavailable("jwt"), Unavailable("jwt")),
]


def test_a_move_that_is_known_ahead_is_told_apart_from_what_an_answer_may_be_kept_for() -> None:
    token = Fake(Silent("acct", "subject", NOW + 50))
    moves = Fake(Home("DE", None, "unknown", NOW + 60, NOW + 300), "directory")
    found = Sources([token, moves], Places(ZONES)).identify(shown(), NOW)
    assert found == Identity("eu", "directory", "acct", "subject", until=NOW + 50, changes_at=NOW + 300)
    arrives = Fake(Silent(until=NOW + 60, account=True, changes_at=NOW + 200), "directory")
    found = Sources([arrives, moves], Places(ZONES)).identify(shown(), NOW)
    assert found == Identity("eu", "directory", until=NOW + 60, changes_at=NOW + 200)
    found = Sources([token, arrives], Places(ZONES)).identify(shown(), NOW)
    assert found == Identity("unknown", "none", "acct", "subject", until=NOW + 50, changes_at=NOW + 200)


@pytest.mark.parametrize(("answer", "end"), ENDING)
def test_a_weaker_source_is_asked_after_silence_alone(answer: Answer, end: Any) -> None:
    weaker = Fake(Home("CN", None, "unknown", None), "location")
    assert Sources([Fake(Silent()), weaker], Places(ZONES)).identify(shown(), NOW) == Identity(
        "cn-mainland", "location"
    )
    assert weaker.known is not None, "it can be reached"
    weaker.known = None
    assert Sources([Fake(Silent()), Fake(answer), weaker], Places(ZONES)).identify(shown(), NOW) == end
    assert weaker.known is None


def test_whom_a_silent_source_verified_stays_known() -> None:
    support = Silent("acct", "support", NOW + 50)
    last = Fake(Home("DE", None, "unknown", NOW + 90))
    sources = Sources([Fake(Silent(until=NOW + 70)), Fake(support), Fake(Silent()), last], Places(ZONES))
    assert sources.identify(shown(), NOW) == Identity("eu", "jwt", "acct", "support", until=NOW + 50)
    assert last.known == support
    verified = Fake(Home("DE", "other", "subject", None))
    assert Sources([Fake(support), verified], Places(ZONES)).identify(shown(), NOW) == Identity(
        "eu", "jwt", "other", "support", until=NOW + 50
    ), "staff stay staff, whosever token they show"
    silent = Fake(Silent("other", "subject"))
    assert Sources([Fake(support), silent, last], Places(ZONES)).identify(shown(), NOW) == Identity(
        "eu", "jwt", "other", "support", until=NOW + 50
    )


def test_two_issuers_judge_their_own_tokens(tmp_path: Path, jwks: Path) -> None:
    (tmp_path / "other").mkdir()
    second = tokens.written(tmp_path / "other", tokens.key_set(tokens.ed_jwk(1, kid="d")))
    sources = opened(jwt(jwks), jwt(second, issuer="https://other.example"), HERE)
    assert isinstance(sources.identify(shown(token()), NOW), Identity)
    mine = {"iss": "https://other.example", "residency": "FR"}
    assert sources.identify(shown(token(**mine), "DE"), NOW) == Invalid("jwt", "signature")
    theirs = tokens.sealed(
        b'{"alg":"EdDSA","kid":"d"}',
        json.dumps(tokens.claims(**mine)).encode(),
        lambda signed: tokens.eddsa(signed, 1),
    )
    found = sources.identify(shown(theirs, "DE"), NOW)
    assert found == Identity("eu", "jwt", "acct-7f3a", "subject", until=ENDS)
    assert sources.identify(shown(token(iss="https://third.example"), "DE"), NOW) == Invalid("jwt", "issuer")


FORWARDED: list[tuple[bool, bytes | None, frozenset[bytes]]] = [
    (True, b"Bearer " + token(), frozenset()),
    (False, b"Bearer " + token(), frozenset({b"authorization"})),
    (False, b"bearer " + token(residency=...), frozenset({b"authorization"})),
    (False, b"Basic dXNlcjpwYXNz", frozenset()),
    (False, None, frozenset()),
]


@pytest.mark.parametrize(("forward", "credential", "drop"), FORWARDED)
def test_credentials_that_are_not_forwarded(
    jwks: Path, forward: bool, credential: bytes | None, drop: frozenset[bytes]
) -> None:
    fields = () if credential is None else ((b"authorization", credential),)
    for order in ((jwt(jwks, forward=forward), HERE), (HERE, jwt(jwks, forward=forward))):
        sources = opened(*order)
        found = sources.identify(Evidence(fields, None, "DE"), NOW)
        assert isinstance(found, Identity)
        assert found.drop == drop, "whichever source knew"
        assert sources.withheld(fields) == drop


def test_an_address_is_evidence_while_the_data_is_fresh() -> None:
    stale_at = NOW + 100
    sources = opened(HERE, countries=Countries([Slot(Database(lambda _: None, NOW))], max_age=100))
    assert sources.identify(shown(country="DE"), NOW) == Identity("eu", "location", until=stale_at)
    assert sources.identify(shown(country="DE"), stale_at - 1) == Identity("eu", "location", until=stale_at)
    assert sources.identify(shown(country="DE"), stale_at) == Identity("eu", "location"), "what nothing ends any more"
    assert sources.identify(shown(), stale_at) == Identity()


HOMES = {
    "cn-mainland": "cn-mainland",
    "CN": "cn-mainland",
    "cn": "cn-mainland",
    "Cn": "cn-mainland",
    "cN": "cn-mainland",
    "eu": "eu",
    "de": "eu",
    "US": "US",
    "us": "US",
    "Us": "US",
    "HK": "HK",
    "hk": "hk",
    "MO": "hk",
    "EU": None,
    "EEA": None,
    "XK": None,
    "AP": None,
    "ZZ": None,
    "UK": None,
    "CHN": None,
    "Eu": None,
    "CN-MAINLAND": None,
    "cn-mainland ": None,
    " CN": None,
    "ＣＮ": None,
    "ıs": None,
    "": None,
    "unknown": None,
    "any": None,
    "none": None,
    "*": None,
}


@pytest.mark.parametrize("value", HOMES)
def test_homes(value: str) -> None:
    assert Places(ZONES).home(value) == HOMES[value]


@given(st.text(max_size=12) | st.sampled_from(sorted(COUNTRIES)))
@settings(max_examples=200)
def test_a_home_is_a_zone_a_code_or_nothing(value: str) -> None:
    home = Places(ZONES).home(value)
    assert home is None or home in {"cn-mainland", "eu", "hk"} or home in COUNTRIES
    if value in COUNTRIES:
        assert home is not None
        assert Places(ZONES).home(value.title()) == home


def test_a_broken_key_set_stops_opening(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused):
        opened(jwt(tmp_path / "missing.json"))


def test_nothing_personal_is_shown(jwks: Path) -> None:
    text = token(sub="acct-secret-7")
    sources = opened(jwt(jwks, forward=False))
    evidence = shown(text)
    identity = sources.identify(evidence, NOW)
    values = [
        evidence,
        identity,
        sources,
        Home("DE", "acct-secret-7", "subject", 1.0),
        Silent("acct-secret-7", "subject", 1.0),
    ]
    assert isinstance(identity, Identity)
    assert identity.subject == "acct-secret-7"
    for value in values:
        for form in (repr(value), str(value), f"{value}"):
            assert "acct-secret-7" not in form
            assert not any(part in form for part in re.split(r"\.", text.decode()) if len(part) > 8)


def test_failures_show_nothing_in_their_chain(jwks: Path) -> None:
    """What a crash report would print of a refusal: causes, and nothing of the token."""
    from proxy.identity.claims import Refused
    from proxy.identity.jwt import open_jwt

    source = open_jwt(jwt(jwks), frozenset(), frozenset())
    seen = 0
    for text in (
        token()[:-5] + b"AAAAA",
        token().replace(b".", b"!.", 1),
        token(sub=7),
        token(act={"role": "secret-kind"}),
    ):
        with pytest.raises(Refused) as refused:
            source._judge(text, NOW)
        error: BaseException | None = refused.value
        while error is not None:
            seen += 1
            assert error.args == (refused.value.cause,)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert seen == 4
