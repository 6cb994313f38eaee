"""A key set that loads is one that the `jwt` source opens, and the other way round."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from proxy.config import PolicyRefused
from proxy.identity.keyset import open_key_set
from proxy.identity.refused import SourceRefused
from tests.config.marked import loaded

PRIVATE = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True)
RSA = {name: PRIVATE[name] for name in ("kty", "n", "e")}
SHORT = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
EC = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
P384 = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
ED = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True)

SETS: list[tuple[Any, bool]] = [
    ({"keys": [RSA, EC, ED]}, True),
    ({"keys": [{**RSA, "kid": "a"}, {**EC, "kid": "b"}], "other": 1}, True),
    ({"keys": [{**RSA, "kid": "a"}, {**EC, "kid": "a"}]}, False),
    ({"keys": [{**RSA, "kid": "a"}, {**P384, "kid": "a"}]}, True),
    ({"keys": [RSA, P384]}, True),
    ({"keys": [P384]}, False),
    ({"keys": []}, False),
    ({"keys": {}}, False),
    ({"keys": [RSA, 1]}, False),
    ({"keys": [RSA, PRIVATE]}, False),
    ({"keys": [RSA, {"kty": "oct", "k": "AAAA"}]}, False),
    ({"keys": [RSA, {"kty": "oct"}]}, False),
    ({"keys": [RSA, {**ED, "d": "AAAA"}]}, False),
    ({"keys": [SHORT]}, False),
    ({"keys": [RSA, {**SHORT, "use": "enc"}]}, True),
    ({"keys": [{**RSA, "use": "enc"}]}, False),
    ({"keys": [{**RSA, "use": "sig", "alg": "RS256", "key_ops": ["verify"]}]}, True),
    ({"keys": [{**RSA, "alg": "RS512"}]}, False),
    ({"keys": [{**RSA, "key_ops": ["encrypt"]}]}, False),
    ({"keys": [{**RSA, "key_ops": "verify"}]}, False),
    ({"keys": [{**RSA, "kid": 1}]}, False),
    ({"keys": [{**RSA, "n": "!"}]}, False),
    ({"keys": [{**RSA, "n": ""}]}, False),
    ({"keys": [{**EC, "x": EC["y"]}]}, False),
    ({"keys": [{**EC, "x": 1}]}, False),
    ({"keys": [{"kty": "EC", "crv": "P-256"}]}, False),
    ({"keys": [{**ED, "x": "AAAA"}]}, False),
    ({"keys": [{}]}, False),
    ([RSA], False),
    ("keys", False),
]


@pytest.mark.parametrize(("content", "good"), SETS, ids=range(len(SETS)))
def test_one_judgement(tmp_path: Path, content: Any, good: bool) -> None:
    (tmp_path / "keys.json").write_text(json.dumps(content))
    assert (opens(tmp_path / "keys.json"), loads(tmp_path)) == (good, good)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b'{"keys": NaN}', b'{"keys": [], "keys": []}', b"[" * 100_000, b" " * (1 << 20) + b"{}"],
    ids=range(7),
)
def test_one_judgement_of_what_is_no_json(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "keys.json").write_bytes(data)
    assert (opens(tmp_path / "keys.json"), loads(tmp_path)) == (False, False)


def opens(path: Path) -> bool:
    try:
        open_key_set(path)
    except SourceRefused:
        return False
    return True


def loads(folder: Path) -> bool:
    text = "subject:\n  sources: [{jwt: {jwks: keys.json, issuer: i, audience: a, home_claim: h}}]"
    try:
        loaded(folder, text)
    except PolicyRefused as refused:
        (note,) = refused.mistakes
        return (note.line, note.column) != (2, 26)
    return True
