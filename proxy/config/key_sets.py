"""JSON Web Key Sets (RFC 7517) as a policy may name them: public keys that can verify tokens.

`proxy.identity` reads the same file when it is used; a test holds the two to one judgement.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from proxy.config.note import VALUE, Wrong
from proxy.config.part import TypedHere
from proxy.config.surroundings import Surroundings
from proxy.config.trust import path_schema, read_bytes, read_path

_LARGEST = 1 << 20
# RFC 7518 sections 6.2.2, 6.3.2 and 6.4: what only a private or a symmetric key has.
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
_MEMBERS = {"RS256": ("n", "e"), "ES256": ("x", "y"), "EdDSA": ("x",)}
_RSA_BITS = range(2048, 8192 + 1)  # RFC 7518 section 3.3; a larger one makes every token expensive
_BASE64URL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def read_key_set_file(text: str, surroundings: Surroundings) -> Path:
    """The path of a key set file that can be used. Raises Wrong."""
    path = read_path(text, surroundings)
    data = read_bytes(path)
    if len(data) > _LARGEST:
        raise Wrong(f"{VALUE} is larger than 1 MiB", "name another file")
    try:
        tree = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Wrong(f"{VALUE} is not JSON", "name a JSON Web Key Set (RFC 7517), with no name twice") from None
    keys = tree.get("keys") if isinstance(tree, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise Wrong(f"{VALUE} is no key set", 'it is an object with "keys" (RFC 7517)')
    usable = [key for index, key in enumerate(keys, 1) if _judged(index, key)]
    if not usable:
        raise Wrong(f"{VALUE} has no key for RS256, ES256 or EdDSA signatures", "add the issuer's public keys")
    kids = [key["kid"] for key in usable if "kid" in key and key["kid"] is not None]
    if len(set(kids)) < len(kids):
        raise Wrong(f"{VALUE} has two keys with one kid", "a token's kid must name one key")
    return path


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError
    return members


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _judged(index: int, key: dict[str, Any]) -> bool:
    """Whether a token may be verified with it; keys for other purposes are nobody's mistake."""
    if key.get("kty") == "oct" or "k" in key:
        raise Wrong(f"key {index} of {VALUE} is symmetric", "whoever can read it can sign: use public keys")
    if _PRIVATE & key.keys():
        raise Wrong(f"key {index} of {VALUE} is a private key", "keep only its public members here")
    name, algorithm = _algorithm(key)
    operations = key.get("key_ops", ["verify"])
    for_signatures = isinstance(operations, list) and "verify" in operations and key.get("use", "sig") == "sig"
    if algorithm is None or not for_signatures or key.get("alg", name) != name:
        return False
    if not isinstance(key.get("kid"), str | None):
        raise Wrong(f"key {index} of {VALUE} has a kid that is not text", "write it in quotes")
    try:
        if not all(key[member] and _BASE64URL.issuperset(key[member]) for member in _MEMBERS[name]):
            raise ValueError
        public = algorithm.from_jwk(key)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        raise Wrong(f"key {index} of {VALUE} cannot be read", f"it says it is for {name}") from None
    if isinstance(public, RSAPublicKey) and public.key_size not in _RSA_BITS:
        length = "short" if public.key_size < _RSA_BITS.start else "long"
        raise Wrong(f"key {index} of {VALUE} is too {length}", "RSA keys have 2048 to 8192 bits")
    return True


def _algorithm(key: dict[str, Any]) -> tuple[str, Algorithm | None]:
    match key.get("kty"), key.get("crv"):
        case "RSA", _:
            return "RS256", RSAAlgorithm(RSAAlgorithm.SHA256)
        case "EC", "P-256":
            return "ES256", ECAlgorithm(ECAlgorithm.SHA256)
        case "OKP", "Ed25519":
            return "EdDSA", OKPAlgorithm()
        case _:
            return "", None


KeySetFile = Annotated[Path, TypedHere(read_key_set_file, path_schema("JSON Web Key Set of public keys"))]
