"""Readers of the files that a policy names: certificates, keys, key sets, country databases.

They are read to be judged, and read again by whoever uses them. No message holds what is in them.
"""

import json
import ssl
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import jwt
import maxminddb
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from proxy.config.note import VALUE, Wrong, quoted
from proxy.config.part import TypedHere
from proxy.config.scalars import not_built, read_text
from proxy.config.surroundings import Surroundings

_LARGEST = 4 << 20
# RFC 7518 sections 6.2.2, 6.3.2 and 6.4: what only a private or a symmetric key has.
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_VERIFIABLE = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_SMALLEST_RSA = 2048  # RFC 7518 section 3.3


def _path(text: str, surroundings: Surroundings) -> Path:
    if "\0" in text:
        raise Wrong("a path may not hold NUL", "remove it")
    return surroundings.folder / read_text(text)


def read_bytes(path: Path) -> bytes:
    """A file's bytes, bounded."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file's name"
        raise Wrong(f"{VALUE} cannot be read: {reason}", "relative paths start at the policy file") from None
    if len(data) > _LARGEST:
        raise Wrong(f"{VALUE} is larger than 4 MiB", "name another file")
    return data


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read_bytes(path))
    except Wrong:
        raise
    except (ValueError, UnsupportedAlgorithm):
        raise Wrong(f"{VALUE} holds no PEM certificates", "it begins with -----BEGIN CERTIFICATE-----") from None


def _read_certificates(text: str, surroundings: Surroundings) -> Path:
    path = _path(text, surroundings)
    _certificates(path)
    return path


def _read_authorities(text: str, surroundings: Surroundings) -> Path:
    path = _read_certificates(text, surroundings)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise Wrong(f"{VALUE} cannot be used by OpenSSL", "name a PEM file of CA certificates") from None
    return path


def _read_private_key(text: str, surroundings: Surroundings) -> Path:
    path = _path(text, surroundings)
    _private_spki(path)
    return path


def _private_spki(path: Path) -> bytes:
    try:
        key = load_pem_private_key(read_bytes(path), password=None)
    except Wrong:
        raise
    except TypeError:
        raise Wrong(
            f"{VALUE} is encrypted", "store the key without a passphrase, readable by the proxy alone"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise Wrong(f"{VALUE} holds no PEM private key", "it begins with -----BEGIN PRIVATE KEY-----") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_pair(certificate: Path, key: Path) -> None:
    """Raises Wrong, of the key, unless it belongs to the file's first certificate. Both are readable."""
    leaf = _certificates(certificate)[0]
    if leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != _private_spki(key):
        raise Wrong(
            f"{VALUE} is not the key of its certificate", "the file's first certificate is the one it belongs to"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or "refused"
        raise Wrong(f"{VALUE} cannot be used by OpenSSL ({reason})", "make a stronger key and certificate") from None


def expiry(certificate: Path) -> datetime:
    """When the file's first certificate ends, with its zone. The file is readable."""
    return _certificates(certificate)[0].not_valid_after_utc


def _read_key_set(text: str, surroundings: Surroundings) -> Path:
    if "://" in text:
        raise not_built("a key set by URL")
    path = _path(text, surroundings)
    try:
        tree = json.loads(read_bytes(path))
    except Wrong:
        raise
    except (ValueError, RecursionError):
        raise Wrong(f"{VALUE} is not JSON", "name a JSON Web Key Set (RFC 7517)") from None
    keys = tree.get("keys") if isinstance(tree, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise Wrong(f"{VALUE} is no key set", 'it is an object with "keys" (RFC 7517)')
    usable = sum(_judged(index, key) for index, key in enumerate(keys, 1))
    if not usable:
        raise Wrong(f"{VALUE} has no key for RS256, ES256 or EdDSA signatures", "add the issuer's public keys")
    return path


def _judged(index: int, key: dict[str, Any]) -> bool:
    """Whether a token may be verified with it; keys for other purposes are nobody's mistake."""
    if key.get("kty") == "oct" or "k" in key:
        raise Wrong(f"key {index} of {VALUE} is symmetric", "whoever can read it can sign: use public keys")
    if _PRIVATE & key.keys():
        raise Wrong(f"key {index} of {VALUE} is a private key", "keep only its public members here")
    algorithm = _VERIFIABLE.get((str(key.get("kty")), None if key.get("kty") == "RSA" else str(key.get("crv"))))
    if algorithm is None or key.get("alg", algorithm) != algorithm or key.get("use", "sig") != "sig":
        return False
    try:
        parsed = jwt.PyJWK(key, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        raise Wrong(f"key {index} of {VALUE} cannot be read", f"it says it is for {quoted(algorithm)}") from None
    if isinstance(parsed, RSAPublicKey) and parsed.key_size < _SMALLEST_RSA:
        raise Wrong(f"key {index} of {VALUE} is too short", f"RSA keys have at least {_SMALLEST_RSA} bits")
    return True


def _read_database(text: str, surroundings: Surroundings) -> Path:
    path = _path(text, surroundings)
    database_age(path)
    return path


def database_age(path: Path) -> int:
    """When a country database was built, in seconds since the epoch."""
    try:
        with maxminddb.open_database(path) as database:
            return database.metadata().build_epoch
    except (maxminddb.InvalidDatabaseError, ValueError, TypeError, EOFError):
        raise Wrong(f"{VALUE} is no MMDB database", "name one that gives countries by address") from None
    except OSError as error:
        raise Wrong(f"{VALUE} cannot be read: {error.strerror}", "relative paths start at the policy file") from None


def _schema(what: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": f"{what}; relative to the policy file"}


AnyPath = Annotated[Path, TypedHere(_path, _schema("Path"))]
CertificateFile = Annotated[Path, TypedHere(_read_certificates, _schema("PEM file of a certificate and its chain"))]
AuthorityFile = Annotated[Path, TypedHere(_read_authorities, _schema("PEM file of CA certificates"))]
KeyFile = Annotated[Path, TypedHere(_read_private_key, _schema("PEM file of a private key, not encrypted"))]
KeySetFile = Annotated[Path, TypedHere(_read_key_set, _schema("JSON Web Key Set of public keys"))]
DatabaseFile = Annotated[Path, TypedHere(_read_database, _schema("MMDB file of countries by address"))]
