"""Keys and tokens, good and bad: every part of a token can be written by hand."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

NOW = 1_800_000_000.0
ISSUER = "https://id.example"
AUDIENCE = "storage"

Signer = Callable[[bytes], bytes]


def b64(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


@cache
def rsa_key(bits: int = 2048, which: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(which: int = 0) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key(which: int = 0) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def rsa_jwk(bits: int = 2048, which: int = 0, **more: Any) -> dict[str, Any]:
    numbers = rsa_key(bits, which).public_key().public_numbers()
    return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)} | more


def ec_jwk(which: int = 0, **more: Any) -> dict[str, Any]:
    numbers = ec_key(which).public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": number(numbers.x, 32), "y": number(numbers.y, 32)} | more


def ed_jwk(which: int = 0, **more: Any) -> dict[str, Any]:
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(ed_key(which).public_key().public_bytes_raw())} | more


def rs256(signed: bytes, which: int = 0) -> bytes:
    return rsa_key(2048, which).sign(signed, padding.PKCS1v15(), hashes.SHA256())


def es256(signed: bytes, which: int = 0) -> bytes:
    r, s = decode_dss_signature(ec_key(which).sign(signed, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def eddsa(signed: bytes, which: int = 0) -> bytes:
    return ed_key(which).sign(signed)


SIGNERS: dict[str, Signer] = {"RS256": rs256, "ES256": es256, "EdDSA": eddsa}
KIDS = {"RS256": "r", "ES256": "e", "EdDSA": "d"}


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims; a change to `...` takes one out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "acct-7f3a", "exp": NOW + 600, "iat": NOW - 10, "residency": "CN"}
    return {name: value for name, value in (good | changes).items() if value is not ...}


def sealed(header: bytes, payload: bytes, signer: Signer) -> bytes:
    """A token of exactly these bytes."""
    signed = f"{b64(header)}.{b64(payload)}".encode()
    return signed + b"." + b64(signer(signed)).encode()


def token(algorithm: str = "EdDSA", *, header: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """A signed token; `header` and the claims can be changed, `...` takes a member out."""
    head = {"alg": algorithm, "typ": "JWT", "kid": KIDS[algorithm]} | (header or {})
    head = {name: value for name, value in head.items() if value is not ...}
    return sealed(json.dumps(head).encode(), json.dumps(claims(**changes)).encode(), SIGNERS[algorithm])


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def all_keys() -> bytes:
    """One signing key of each kind, and one that is for encryption and so passed over."""
    return key_set(
        rsa_jwk(kid="r", use="sig", alg="RS256"),
        ec_jwk(kid="e", use="sig"),
        ed_jwk(kid="d", alg="EdDSA"),
        rsa_jwk(which=1, kid="enc", use="enc", alg="RSA-OAEP"),
    )


def written(folder: Path, content: bytes) -> Path:
    path = folder / "jwks.json"
    path.write_bytes(content)
    return path
