"""Which key sets are taken, and which keys of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.identity.answers import Home
from proxy.identity.keyset import open_key_set
from proxy.identity.refused import SourceRefused
from tests.identity import tokens
from tests.identity.test_tokens_refused import asked, opened
from tests.identity.tokens import ec_jwk, ed_jwk, key_set, number, rsa_jwk, token


def _private(kind: str) -> dict[str, Any]:
    if kind == "RSA":
        return rsa_jwk() | {"d": number(tokens.rsa_key().private_numbers().d)}
    if kind == "EC":
        return ec_jwk() | {"d": number(tokens.ec_key().private_numbers().private_value, 32)}
    return ed_jwk() | {"d": tokens.b64(tokens.ed_key().private_bytes_raw())}


def _p384() -> dict[str, Any]:
    numbers = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
    return {"kty": "EC", "crv": "P-384", "x": number(numbers.x, 48), "y": number(numbers.y, 48)}


def _off_curve() -> dict[str, Any]:
    jwk = ec_jwk()
    return jwk | {"y": jwk["x"]}


REFUSED: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"-----BEGIN PUBLIC KEY-----", "not strict JSON"),
    "a list": (b"[]", "not a JSON object"),
    "empty": (b"", "not strict JSON"),
    "no keys member": (b"{}", "a key set has a list `keys`"),
    "keys an object": (b'{"keys":{}}', "a key set has a list `keys`"),
    "a member twice": (b'{"keys":[],"keys":[]}', "not strict JSON"),
    "no keys": (key_set(), "no key verifies"),
    "a key that is no object": (b'{"keys":["x"]}', "keys[0]: a key is an object"),
    "only keys that are passed over": (key_set(rsa_jwk(use="enc")), "no key verifies"),
    "a private RSA key": (key_set(ed_jwk(), _private("RSA")), "keys[1]: a private or symmetric key"),
    "a private EC key": (key_set(_private("EC")), "a private or symmetric key"),
    "a private Ed25519 key": (key_set(_private("OKP")), "a private or symmetric key"),
    "a private key for encryption": (key_set(ed_jwk(), _private("RSA") | {"use": "enc"}), "a private or symmetric key"),
    "a symmetric key": (key_set(ed_jwk(), {"kty": "oct", "k": "c2VjcmV0"}), "a private or symmetric key"),
    "a symmetric key without a value": (key_set(ed_jwk(), {"kty": "oct"}), "a private or symmetric key"),
    "a small RSA key": (key_set(rsa_jwk(1024)), "2048 to 8192 bits"),
    "no modulus": (key_set({"kty": "RSA", "e": "AQAB"}), "not a RS256 public key"),
    "a modulus that is a number": (key_set({"kty": "RSA", "e": "AQAB", "n": 5}), "not a RS256 public key"),
    "a modulus with padding": (key_set(rsa_jwk() | {"n": rsa_jwk()["n"] + "=="}), "not a RS256 public key"),
    "an exponent of one": (key_set(rsa_jwk() | {"e": "AQ"}), "not a RS256 public key"),
    "a point off the curve": (key_set(_off_curve()), "not a ES256 public key"),
    "half an Ed25519 key": (key_set(ed_jwk() | {"x": "AAAA"}), "not a EdDSA public key"),
    "one kid twice": (key_set(ed_jwk(kid="a"), ec_jwk(kid="a")), "keys[1]: another key has the same kid"),
    "a kid that is a number": (key_set(ed_jwk(kid=7)), "kid is not text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    content, why = REFUSED[name]
    path = tokens.written(tmp_path, content)
    with pytest.raises(SourceRefused) as refused:
        open_key_set(path)
    text = str(refused.value)
    assert text.startswith(f"{path}: ")
    assert why in text
    if content.startswith(b'{"keys":['):
        for key in json.loads(content)["keys"]:
            for member, value in key.items() if isinstance(key, dict) else ():
                assert member in ("kty", "crv", "use", "e", "kid") or str(value) not in text.removeprefix(str(path))


PASSED_OVER: dict[str, dict[str, Any]] = {
    "for encryption": rsa_jwk(which=1, use="enc"),
    "of another algorithm": rsa_jwk(which=1, alg="PS256"),
    "RSA of another hash": rsa_jwk(which=1, alg="RS512"),
    "of another type's algorithm": ec_jwk(1, alg="RS256"),
    "P-384": _p384(),
    "X25519": {"kty": "OKP", "crv": "X25519", "x": "AAAA"},
    "Ed448": {"kty": "OKP", "crv": "Ed448", "x": "AAAA"},
    "of an unknown type": {"kty": "ML-DSA", "x": "AAAA"},
    "without a type": {"x": "AAAA"},
    "a type that is a list": {"kty": ["RSA"]},
    "that may not verify": ed_jwk(1, key_ops=["encrypt"]),
    "whose operations are no list": ed_jwk(1, key_ops="verify"),
    "small and for encryption": rsa_jwk(1024, use="enc"),
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_passed_over(tmp_path: Path, name: str) -> None:
    keys = open_key_set(tokens.written(tmp_path, key_set(PASSED_OVER[name] | {"kid": "d"}, ed_jwk(kid="d"))))
    assert len(keys) == 1
    assert isinstance(asked(opened(tmp_path, key_set(PASSED_OVER[name], ed_jwk(kid="d"))), b"Bearer " + token()), Home)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="cannot be read"):
        open_key_set(tmp_path / "missing.json")
    with pytest.raises(SourceRefused, match="cannot be read"):
        open_key_set(tmp_path)
    with pytest.raises(SourceRefused, match="larger than"):
        open_key_set(tokens.written(tmp_path, b" " * (1 << 20) + b"{}"))


@pytest.mark.parametrize("leeway", [-1.0, 301.0, float("nan")])
def test_leeway_is_bounded(tmp_path: Path, leeway: float) -> None:
    with pytest.raises(SourceRefused, match="leeway"):
        opened(tmp_path, tokens.all_keys(), leeway=leeway)


def test_keys_show_nothing(tmp_path: Path) -> None:
    key = open_key_set(tokens.written(tmp_path, tokens.all_keys())).named("r", "RS256")
    assert repr(key) == "Key(kid='r', algorithm='RS256')"
