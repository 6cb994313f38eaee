"""Every way in which a token is not one, and the cause that is told."""

import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from proxy.identity.answers import Home, Invalid, Silent
from proxy.identity.evidence import Evidence
from proxy.identity.jwt import LARGEST_TOKEN, JwtSource, open_jwt
from proxy.policy.subject import Jwt
from tests.identity import tokens
from tests.identity.tokens import NOW, b64, claims, ec_jwk, ed_jwk, rsa_jwk, sealed, token


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> JwtSource:
    return opened(tmp_path_factory.mktemp("keys"), tokens.all_keys())


def opened(folder: Path, keys: bytes, **changes: Any) -> JwtSource:
    settings: dict[str, Any] = {
        "jwks": tokens.written(folder, keys),
        "issuer": tokens.ISSUER,
        "audience": tokens.AUDIENCE,
        "subject_claim": "sub",
        "home_claim": "residency",
        "actor_claim": "act.role",
        "leeway": 30.0,
        "forward": True,
    }
    return open_jwt(Jwt(**(settings | changes)), frozenset({"support"}), frozenset({"https://other.example"}))


def asked(source: JwtSource, credential: bytes, now: float = NOW) -> Any:
    return source.answer(Evidence(((b"authorization", credential),)), Silent(), now)


def _hs256(secret: bytes) -> tokens.Signer:
    return lambda signed: hmac.digest(secret, signed, "sha256")


def _pem() -> bytes:
    return (
        tokens.rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _der() -> bytes:
    return (
        tokens.rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _raw(header: str, payload: str | None = None, signer: tokens.Signer = tokens.eddsa) -> bytes:
    return sealed(header.encode(), (json.dumps(claims()) if payload is None else payload).encode(), signer)


def _confused(secret: bytes, algorithm: str = "HS256", kid: str = "r") -> bytes:
    return _raw(json.dumps({"alg": algorithm, "kid": kid}), None, _hs256(secret))


def _pss(signed: bytes) -> bytes:
    return tokens.rsa_key().sign(signed, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


def _rs512(signed: bytes) -> bytes:
    return tokens.rsa_key().sign(signed, padding.PKCS1v15(), hashes.SHA512())


def _der_signature(signed: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec

    return tokens.ec_key().sign(signed, ec.ECDSA(hashes.SHA256()))


def _noncanonical() -> bytes:
    """A signature whose last character carries bits that no byte needs."""
    good = token("EdDSA")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return good[:-1] + bytes([alphabet[alphabet.index(good[-1]) ^ 1]])


def _payload(text: str) -> bytes:
    return _raw('{"alg":"EdDSA","kid":"d"}', text)


def _with(extra: str) -> bytes:
    """Good claims with raw JSON members appended."""
    return _payload(json.dumps(claims())[:-1] + "," + extra + "}")


def _swapped_payload() -> bytes:
    head, _, signature = token().split(b".")
    return b".".join([head, b64(json.dumps(claims(residency="DE")).encode()).encode(), signature])


def _long() -> bytes:
    return token(note="x" * LARGEST_TOKEN)


def _none(name: str, signature: bytes = b"") -> bytes:
    head, payload, _ = token(header={"alg": name}).split(b".")
    return head + b"." + payload + b"." + signature


EMBEDDED = {"alg": "EdDSA", "kid": "d"}

REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    # no signature, another's signature, an algorithm that the key is not for
    "none": ("algorithm", lambda: _none("none")),
    "None": ("algorithm", lambda: _none("None")),
    "none with a signature": ("algorithm", lambda: _none("none", b"AAAA")),
    "no alg": ("algorithm", lambda: token(header={"alg": ...})),
    "alg null": ("algorithm", lambda: token(header={"alg": None})),
    "alg a list": ("algorithm", lambda: token(header={"alg": ["EdDSA"]})),
    "alg in lower case": ("algorithm", lambda: token(header={"alg": "eddsa"})),
    "HMAC with the public key in PEM": ("algorithm", lambda: _confused(_pem())),
    "HMAC with the public key in DER": ("algorithm", lambda: _confused(_der())),
    "HMAC with the modulus": ("algorithm", lambda: _confused(rsa_jwk()["n"].encode())),
    "HMAC with an Ed25519 key": ("algorithm", lambda: _confused(ed_jwk()["x"].encode(), kid="d")),
    "HMAC that says RS256": ("signature", lambda: _confused(_pem(), "RS256")),
    "HMAC that says EdDSA": ("signature", lambda: _confused(ed_jwk()["x"].encode(), "EdDSA", "d")),
    "HS512": ("algorithm", lambda: _confused(_pem(), "HS512")),
    "PS256 by the right key": (
        "algorithm",
        lambda: sealed(b'{"alg":"PS256","kid":"r"}', json.dumps(claims()).encode(), _pss),
    ),
    "RS512 by the right key": (
        "algorithm",
        lambda: sealed(b'{"alg":"RS512","kid":"r"}', json.dumps(claims()).encode(), _rs512),
    ),
    "PSS that says RS256": (
        "signature",
        lambda: sealed(b'{"alg":"RS256","kid":"r"}', json.dumps(claims()).encode(), _pss),
    ),
    "ES256 by the kid of an RSA key": ("key", lambda: token("ES256", header={"kid": "r"})),
    "RS256 by the kid of an EC key": ("key", lambda: token("RS256", header={"kid": "e"})),
    "EdDSA by the kid of an EC key": ("key", lambda: token("EdDSA", header={"kid": "e"})),
    "the kid of an encryption key": ("key", lambda: token("RS256", header={"kid": "enc"})),
    "unknown kid": ("key", lambda: token(header={"kid": "nobody"})),
    "kid null": ("key", lambda: token(header={"kid": None})),
    "kid a number": ("key", lambda: token(header={"kid": 1})),
    "kid a list": ("key", lambda: token(header={"kid": ["d"]})),
    "empty kid": ("key", lambda: token(header={"kid": ""})),
    "kid a path": ("key", lambda: token(header={"kid": "../../dev/null"})),
    "another's Ed25519 key": (
        "signature",
        lambda: _raw('{"alg":"EdDSA","kid":"d"}', None, lambda s: tokens.eddsa(s, 1)),
    ),
    "another's RSA key": ("signature", lambda: _raw('{"alg":"RS256","kid":"r"}', None, lambda s: tokens.rs256(s, 1))),
    "another's EC key": ("signature", lambda: _raw('{"alg":"ES256","kid":"e"}', None, lambda s: tokens.es256(s, 1))),
    "a key in the header": (
        "signature",
        lambda: _raw(json.dumps(EMBEDDED | {"jwk": ed_jwk(1)}), None, lambda s: tokens.eddsa(s, 1)),
    ),
    "a key set elsewhere": (
        "signature",
        lambda: _raw(json.dumps(EMBEDDED | {"jku": "https://evil.example/"}), None, lambda s: tokens.eddsa(s, 1)),
    ),
    "a certificate elsewhere": (
        "signature",
        lambda: _raw(json.dumps(EMBEDDED | {"x5u": "https://evil.example/"}), None, lambda s: tokens.eddsa(s, 1)),
    ),
    "an ES256 signature in DER": (
        "signature",
        lambda: sealed(b'{"alg":"ES256","kid":"e"}', json.dumps(claims()).encode(), _der_signature),
    ),
    "an ES256 signature of zeros": ("signature", lambda: _raw('{"alg":"ES256","kid":"e"}', None, lambda s: bytes(64))),
    "an RS256 signature of zeros": ("signature", lambda: _raw('{"alg":"RS256","kid":"r"}', None, lambda s: bytes(256))),
    "an EdDSA signature of zeros": ("signature", lambda: _raw('{"alg":"EdDSA","kid":"d"}', None, lambda s: bytes(64))),
    "no signature": ("signature", lambda: token().rpartition(b".")[0] + b"."),
    "half a signature": ("signature", lambda: token("RS256")[:-170]),
    "another payload": ("signature", _swapped_payload),
    # extensions, purposes
    "crit of an unknown name": ("critical", lambda: token(header={"crit": ["exp2"], "exp2": 1})),
    "crit of a known name": ("critical", lambda: token(header={"crit": ["exp"]})),
    "crit empty": ("critical", lambda: token(header={"crit": []})),
    "crit null": ("critical", lambda: token(header={"crit": None})),
    "b64 false": ("critical", lambda: token(header={"b64": False})),
    "b64 false and critical": ("critical", lambda: token(header={"b64": False, "crit": ["b64"]})),
    "a logout token": ("type", lambda: token(header={"typ": "logout+jwt"})),
    "a proof of possession": ("type", lambda: token(header={"typ": "dpop+jwt"})),
    "typ a number": ("type", lambda: token(header={"typ": 1})),
    # shape
    "no dots": ("malformed", lambda: b"abcdef"),
    "one dot": ("malformed", lambda: b"abc.def"),
    "five parts": ("malformed", lambda: b"e30.e30.e30.e30.e30"),
    "empty parts": ("malformed", lambda: b".."),
    "padding": ("malformed", lambda: token("RS256") + b"=="),
    "a line break": ("malformed", lambda: token().replace(b".", b".\n", 1)),
    "a space": ("malformed", lambda: token() + b" x"),
    "a comma and another": ("malformed", lambda: token() + b", Bearer " + token()),
    "plus and slash": ("malformed", lambda: b"e30.e30.+/+/"),
    "stray bits": ("malformed", _noncanonical),
    "bytes past ASCII": ("malformed", lambda: token() + b"\xff"),
    "NUL": ("malformed", lambda: token() + b"\x00"),
    "header no JSON": ("malformed", lambda: _raw("alg")),
    "header a list": ("malformed", lambda: _raw('["EdDSA"]')),
    "header alg twice": ("malformed", lambda: _raw('{"alg":"none","alg":"EdDSA","kid":"d"}')),
    "header kid twice": ("malformed", lambda: _raw('{"alg":"EdDSA","kid":"x","kid":"d"}')),
    "payload no JSON": ("malformed", lambda: _payload("sub")),
    "payload a list": ("malformed", lambda: _payload("[]")),
    "payload text": ("malformed", lambda: _payload('"x"')),
    "payload cut": ("malformed", lambda: _payload(json.dumps(claims())[:-1])),
    "payload and more": ("malformed", lambda: _payload(json.dumps(claims()) + "{}")),
    "payload with NaN": ("malformed", lambda: _with('"x":NaN')),
    "payload with Infinity": ("malformed", lambda: _with('"x":-Infinity')),
    "payload in UTF-16": (
        "malformed",
        lambda: sealed(b'{"alg":"EdDSA","kid":"d"}', json.dumps(claims()).encode("utf-16"), tokens.eddsa),
    ),
    "payload with a byte order mark": (
        "malformed",
        lambda: sealed(b'{"alg":"EdDSA","kid":"d"}', b"\xef\xbb\xbf" + json.dumps(claims()).encode(), tokens.eddsa),
    ),
    "payload of broken UTF-8": (
        "malformed",
        lambda: sealed(b'{"alg":"EdDSA","kid":"d"}', b'{"sub":"\xc3("}', tokens.eddsa),
    ),
    "payload nested without end": ("malformed", lambda: _payload('{"x":' + "[" * 5000)),
    "payload of endless digits": ("malformed", lambda: _with('"x":' + "9" * 5000)),
    "payload sub twice": ("malformed", lambda: _with('"sub":"other"')),
    "payload home twice": ("malformed", lambda: _with('"residency":"DE"')),
    "payload act.role twice": ("malformed", lambda: _with('"act":{"role":"x","role":"support"}')),
    "payload escaped twice": ("malformed", lambda: _with('"\\u0073ub":"other"')),
    "too large": ("oversize", _long),
    # whose, for whom, when
    "another issuer": ("issuer", lambda: token(iss="https://evil.example")),
    "issuer with a slash more": ("issuer", lambda: token(iss="https://id.example/")),
    "issuer in a list": ("issuer", lambda: token(iss=["https://id.example"])),
    "no issuer": ("issuer", lambda: token(iss=...)),
    "another audience": ("audience", lambda: token(aud="mail")),
    "other audiences": ("audience", lambda: token(aud=["mail", "calendar"])),
    "no audience": ("audience", lambda: token(aud=...)),
    "no audiences": ("audience", lambda: token(aud=[])),
    "audience in an object": ("audience", lambda: token(aud={"storage": 1})),
    "audience longer": ("audience", lambda: token(aud="storage2")),
    "expired": ("expired", lambda: token(exp=NOW - 30)),
    "long expired": ("expired", lambda: token(exp=0)),
    "no exp": ("expiry", lambda: token(exp=...)),
    "exp null": ("expiry", lambda: token(exp=None)),
    "exp text": ("expiry", lambda: token(exp=str(int(NOW + 600)))),
    "exp true": ("expiry", lambda: token(exp=True)),
    "exp negative": ("expiry", lambda: token(exp=-1)),
    "exp past all time": ("expiry", lambda: token(exp=10**300)),
    "exp overflowing": ("expiry", lambda: _payload(json.dumps(claims(exp=...))[:-1] + ',"exp":1e999}')),
    "exp a list": ("expiry", lambda: token(exp=[NOW + 600])),
    "nbf text": ("expiry", lambda: token(nbf="now")),
    "iat text": ("expiry", lambda: token(iat="now")),
    "not yet": ("not-yet", lambda: token(nbf=NOW + 31)),
    "issued in the future": ("not-yet", lambda: token(iat=NOW + 31)),
    # what it says
    "no sub": ("subject", lambda: token(sub=...)),
    "sub null": ("subject", lambda: token(sub=None)),
    "sub a number": ("subject", lambda: token(sub=7)),
    "sub a list": ("subject", lambda: token(sub=["a"])),
    "sub empty": ("subject", lambda: token(sub="")),
    "sub too long": ("subject", lambda: token(sub="a" * 256)),
    "sub with a line break": ("subject", lambda: token(sub="a\r\nb")),
    "sub with NUL": ("subject", lambda: token(sub="a\x00")),
    "sub half a character": ("subject", lambda: _payload(json.dumps(claims(sub=...))[:-1] + ',"sub":"\\ud800"}')),
    "home a number": ("home", lambda: token(residency=7)),
    "home a list": ("home", lambda: token(residency=["CN"])),
    "home an object": ("home", lambda: token(residency={"country": "CN"})),
    "an actor that the policy does not list": ("actor", lambda: token(act={"role": "auditor"})),
    "an actor without a kind": ("actor", lambda: token(act={"sub": "bob"})),
    "an actor that is no object": ("actor", lambda: token(act="support")),
    "an actor of several kinds": ("actor", lambda: token(act={"role": ["support"]})),
    "an actor called subject": ("actor", lambda: token(act={"role": "subject"})),
    "an actor called unknown": ("actor", lambda: token(act={"role": "unknown"})),
    "an actor with an empty kind": ("actor", lambda: token(act={"role": ""})),
    "an actor in another case": ("actor", lambda: token(act={"role": "Support"})),
    "an actor twice": ("ambiguous", lambda: token(act={"role": "support"}, **{"act.role": "support"})),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(source: JwtSource, name: str) -> None:
    cause, made = REFUSED[name]
    bad = made()
    answer = asked(source, b"Bearer " + bad)
    assert answer == Invalid("jwt", cause)
    assert asked(source, b"Bearer " + bad) == answer, "and again"


@pytest.mark.parametrize("algorithm", tokens.SIGNERS)
def test_the_tokens_that_the_bad_ones_are_made_of_are_good(source: JwtSource, algorithm: str) -> None:
    good = token(algorithm)
    assert asked(source, b"Bearer " + good) == Home("CN", "acct-7f3a", "subject", NOW + 630)
    for text in (_raw('{"alg":"EdDSA","kid":"d"}'), _with('"x":1'), token(note="x" * 4000)):
        assert isinstance(asked(source, b"Bearer " + text), Home)


CREDENTIALS = {
    b"": None,
    b"Basic dXNlcjpwYXNz": None,
    b"Digest username=bearer": None,
    b"BearerX abc": None,
    b"Bearer-Token abc": None,
    b"DPoP abc": None,
    b"Bearer": "empty",
    b"Bearer ": "empty",
    b"bearer    ": "empty",
    b"Bearer\tabc": "malformed",
    b"Bearer,abc": "malformed",
    b'Bearer"abc"': "malformed",
    b"Bearer abc": "malformed",
    b"Basic dXNlcjpwYXNz, Bearer abc": "repeated",
    b"Basic dXNlcjpwYXNz,bearer\tabc": "repeated",
}


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_schemes(source: JwtSource, credential: bytes) -> None:
    cause = CREDENTIALS[credential]
    assert asked(source, credential) == (Silent() if cause is None else Invalid("jwt", cause))


def test_the_scheme_has_no_case_and_any_number_of_spaces(source: JwtSource) -> None:
    for scheme in (b"bearer ", b"BEARER ", b"Bearer    "):
        assert isinstance(asked(source, scheme + token()), Home)


def test_nothing_shown_is_silence(source: JwtSource) -> None:
    assert source.answer(Evidence(()), Silent(), NOW) == Silent()
    assert source.answer(Evidence(((b"x-authorization", b"Bearer x"),)), Silent(), NOW) == Silent()


@pytest.mark.parametrize("second", [b"Basic eA==", b"Bearer x", b""])
def test_two_authorization_fields_are_none(source: JwtSource, second: bytes) -> None:
    good = b"Bearer " + token()
    for pair in ((good, second), (second, good), (good, good), (b"Basic eA==", second)):
        fields = tuple((b"authorization", value) for value in pair)
        assert source.answer(Evidence(fields), Silent(), NOW) == Invalid("jwt", "repeated")


def test_a_token_of_another_source_is_left_to_it(source: JwtSource) -> None:
    assert asked(source, b"Bearer " + token(iss="https://other.example")) == Silent()


def test_without_a_kid_only_a_sole_key_of_the_algorithm_is_meant(tmp_path: Path, source: JwtSource) -> None:
    assert isinstance(asked(source, b"Bearer " + token(header={"kid": ...})), Home)
    two = opened(tmp_path, tokens.key_set(ed_jwk(kid="d"), ed_jwk(1, kid="d2"), ec_jwk(kid="e")))
    assert asked(two, b"Bearer " + token(header={"kid": ...})) == Invalid("jwt", "key")
    assert isinstance(asked(two, b"Bearer " + token("ES256", header={"kid": ...})), Home)
    unnamed = opened(tmp_path, tokens.key_set(ed_jwk()))
    assert isinstance(asked(unnamed, b"Bearer " + token(header={"kid": ...})), Home)
    assert asked(unnamed, b"Bearer " + token()) == Invalid("jwt", "key")


def test_refusals_show_nothing_of_the_token(source: JwtSource) -> None:
    for _, made in REFUSED.values():
        bad = made()
        shown = repr(asked(source, b"Bearer " + bad))
        assert shown.startswith("Invalid(source='jwt', detail='")
        assert not any(part and part.decode("latin-1") in shown for part in bad.split(b".") if len(part) > 8)
        assert "acct-7f3a" not in shown
