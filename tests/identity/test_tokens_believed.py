"""What a token that verifies says, for how long, and what is remembered of it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.identity import jwt as jwt_module
from proxy.identity.answers import Home, Invalid, Silent
from proxy.identity.jwt import JwtSource
from proxy.identity.keyset import Key
from proxy.identity.remembered import Remembered
from tests.identity import tokens
from tests.identity.test_tokens_refused import asked, opened
from tests.identity.tokens import NOW, token

ENDS = NOW + 630


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> JwtSource:
    return opened(tmp_path_factory.mktemp("keys"), tokens.all_keys())


def shown(source: JwtSource, now: float = NOW, **changes: Any) -> Any:
    return asked(source, b"Bearer " + token(**changes), now)


SAID: list[tuple[dict[str, Any], Home | Silent]] = [
    ({}, Home("CN", "acct-7f3a", "subject", ENDS)),
    ({"residency": "cn-mainland"}, Home("cn-mainland", "acct-7f3a", "subject", ENDS)),
    ({"residency": ""}, Home("", "acct-7f3a", "subject", ENDS)),
    ({"residency": ...}, Silent("acct-7f3a", "subject", ENDS)),
    ({"residency": None}, Silent("acct-7f3a", "subject", ENDS)),
    ({"aud": ["mail", "storage"]}, Home("CN", "acct-7f3a", "subject", ENDS)),
    ({"iat": ...}, Home("CN", "acct-7f3a", "subject", ENDS)),
    ({"exp": NOW + 0.5}, Home("CN", "acct-7f3a", "subject", NOW + 30.5)),
    ({"sub": "用户-1 a@b.example"}, Home("CN", "用户-1 a@b.example", "subject", ENDS)),
    ({"act": None}, Home("CN", "acct-7f3a", "subject", ENDS)),
    # staff give no home of their own, whatever the token says
    ({"act": {"role": "support"}}, Silent("acct-7f3a", "support", ENDS)),
    ({"act": {"role": "support", "sub": "bob"}, "residency": ...}, Silent("acct-7f3a", "support", ENDS)),
    ({"act.role": "support"}, Silent("acct-7f3a", "support", ENDS)),
]


@pytest.mark.parametrize(("changes", "answer"), SAID)
def test_said(source: JwtSource, changes: dict[str, Any], answer: Home | Silent) -> None:
    for _ in range(2):
        assert shown(source, **changes) == answer


@pytest.mark.parametrize("kind", ["jwt", "at+jwt", "AT+JWT", "application/at+jwt", ...])
def test_types_of_access_tokens(source: JwtSource, kind: object) -> None:
    assert isinstance(shown(source, header={"typ": kind}), Home)


def test_headers_that_point_elsewhere_change_nothing_for_a_good_signature(source: JwtSource) -> None:
    assert isinstance(shown(source, header={"jku": "https://evil.example/", "jwk": tokens.ed_jwk(1)}), Home)


def test_namespaced_and_nested_names(tmp_path: Path) -> None:
    name = "https://id.example/residency"
    literal = opened(tmp_path, tokens.all_keys(), home_claim=name)
    assert shown(literal, **{name: "DE"}).home == "DE"
    nested = opened(tmp_path, tokens.all_keys(), home_claim="app.where.home", subject_claim="app.id")
    assert shown(nested, app={"where": {"home": "DE"}, "id": "x"}) == Home("DE", "x", "subject", ENDS)
    assert shown(nested, app={"where": "DE", "id": "x"}) == Silent("x", "subject", ENDS)
    assert shown(nested, app={"id": "x"}, **{"app.where.home": "FR"}).home == "FR"
    assert shown(nested, app={"where": {"home": "DE"}, "id": "x"}, **{"app.where.home": "DE"}) == Invalid(
        "jwt", "ambiguous"
    )


def test_act_names_an_actor_even_where_the_policy_reads_another_claim(tmp_path: Path) -> None:
    none = opened(tmp_path, tokens.all_keys(), actor_claim=None)
    assert isinstance(shown(none, role="support"), Home)
    assert shown(none, act={"sub": "bob"}) == Invalid("jwt", "actor")
    role = opened(tmp_path, tokens.all_keys(), actor_claim="role")
    assert shown(role, role="support", act={"sub": "bob"}) == Silent("acct-7f3a", "support", ENDS)
    assert shown(role, act={"sub": "bob"}) == Invalid("jwt", "actor")


@pytest.mark.parametrize("remembered", [False, True])
def test_time(source: JwtSource, remembered: bool) -> None:
    """Each moment's answer is the same whether the token was seen before or not."""
    bearer = b"Bearer " + token(nbf=NOW + 100, exp=NOW + 200, jti=str(remembered))
    if remembered:
        assert isinstance(asked(source, bearer, NOW + 150), Home)
    moments = [
        (NOW + 69.9, Invalid("jwt", "not-yet")),
        (NOW + 70, Home("CN", "acct-7f3a", "subject", NOW + 230)),
        (NOW + 229.9, Home("CN", "acct-7f3a", "subject", NOW + 230)),
        (NOW + 230, Invalid("jwt", "expired")),
        (NOW + 1e9, Invalid("jwt", "expired")),
        (NOW + 150, Home("CN", "acct-7f3a", "subject", NOW + 230)),
        (NOW, Invalid("jwt", "not-yet")),
    ]
    for now, answer in moments:
        assert asked(source, bearer, now) == answer


def test_without_leeway(tmp_path: Path) -> None:
    strict = opened(tmp_path, tokens.all_keys(), leeway=0.0)
    assert shown(strict, exp=NOW) == Invalid("jwt", "expired")
    assert shown(strict, nbf=NOW + 1) == Invalid("jwt", "not-yet")
    assert shown(strict, exp=NOW + 1, nbf=NOW, iat=NOW) == Home("CN", "acct-7f3a", "subject", NOW + 1)


def test_a_verified_token_is_not_verified_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(tmp_path, tokens.all_keys())
    verified: list[bytes] = []
    verifies = Key.verifies
    monkeypatch.setattr(Key, "verifies", lambda self, *signed: (verified.append(signed[0]), verifies(self, *signed))[1])
    text = token()
    good, bad = text, text[:-4] + b"AAAA"
    for _ in range(3):
        assert isinstance(asked(source, b"Bearer " + good), Home)
    signed = text[: text.rindex(b".")]
    assert verified == [signed]
    for _ in range(3):
        assert asked(source, b"Bearer " + bad) == Invalid("jwt", "signature")
    assert verified == [signed] * 4, "failures are judged anew"
    assert len(source._verified) == 1


def test_what_is_remembered_is_bounded_and_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_module, "REMEMBERED", 8)
    source = opened(tmp_path, tokens.all_keys())
    made = [token(sub=f"acct-{index}") for index in range(20)]
    for text in made:
        assert isinstance(asked(source, b"Bearer " + text), Home)
    assert len(source._verified) == 8
    kept = source._verified._entries
    assert all(len(key) == 32 for key in kept)
    assert not any(text in key for text in made for key in kept)
    for index, text in enumerate(made):
        assert asked(source, b"Bearer " + text).subject == f"acct-{index}"


@given(asked=st.lists(st.integers(0, 6), max_size=60))
@settings(max_examples=60)
def test_the_one_asked_for_longest_ago_makes_room(asked: list[int]) -> None:
    table: Remembered[int, str] = Remembered(3)
    model: list[int] = []
    for key in asked:
        assert table.get(key) == (str(key) if key in model else None)
        table.put(key, str(key))
        model = [*[other for other in model if other != key][-2:], key]
        assert len(table) == len(model) <= 3


@given(cut=st.integers(0, 400), byte=st.integers(0, 255))
@settings(max_examples=150)
def test_no_token_with_one_byte_changed_verifies(source: JwtSource, cut: int, byte: int) -> None:
    good = token()
    place = cut % len(good)
    changed = good[:place] + bytes([byte]) + good[place + 1 :]
    answer = asked(source, b"Bearer " + changed)
    assert isinstance(answer, Home) is (changed == good)


@given(text=st.binary(max_size=200))
@settings(max_examples=100)
def test_no_other_bytes_verify(source: JwtSource, text: bytes) -> None:
    assert isinstance(asked(source, b"Bearer " + text), Invalid)
    asked(source, text)


@given(
    payload=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
    claim=st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "residency", "act", "act.role"]),
)
@settings(max_examples=150)
def test_any_value_of_any_claim_gets_an_answer(source: JwtSource, payload: object, claim: str) -> None:
    answer = shown(source, **{claim: payload})
    assert isinstance(answer, Home | Silent | Invalid)
    if isinstance(answer, Home | Silent):
        assert isinstance(answer.subject, str)
        assert answer.until is not None
        assert answer.until > NOW
