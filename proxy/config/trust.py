"""Readers of the files that a policy names: certificates and keys.

They are read to be judged, and read again by whoever uses them. No message holds what is in them.
"""

import ssl
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from proxy.config.note import VALUE, Wrong
from proxy.config.part import TypedHere
from proxy.config.scalars import read_text
from proxy.config.surroundings import Surroundings

_LARGEST = 4 << 20


def read_path(text: str, surroundings: Surroundings) -> Path:
    """A path, relative to the policy file."""
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


def certificates(path: Path) -> list[x509.Certificate]:
    """A PEM file's certificates, at least one. Raises Wrong."""
    try:
        found = x509.load_pem_x509_certificates(read_bytes(path))
        found[0].public_key()  # parsed when asked for
        return found
    except Wrong:
        raise
    except (ValueError, UnsupportedAlgorithm):
        raise Wrong(f"{VALUE} holds no PEM certificates", "it begins with -----BEGIN CERTIFICATE-----") from None


def _read_certificates(text: str, surroundings: Surroundings) -> Path:
    path = read_path(text, surroundings)
    certificates(path)
    return path


def _read_authorities(text: str, surroundings: Surroundings) -> Path:
    path = _read_certificates(text, surroundings)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise Wrong(f"{VALUE} cannot be used by OpenSSL", "name a PEM file of CA certificates") from None
    return path


def _read_private_key(text: str, surroundings: Surroundings) -> Path:
    path = read_path(text, surroundings)
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
    leaf = certificates(certificate)[0]
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
    return certificates(certificate)[0].not_valid_after_utc


def path_schema(what: str) -> dict[str, Any]:
    """JSON Schema of a path."""
    return {"type": "string", "minLength": 1, "description": f"{what}; relative to the policy file"}


AnyPath = Annotated[Path, TypedHere(read_path, path_schema("Path"))]
CertificateFile = Annotated[Path, TypedHere(_read_certificates, path_schema("PEM file of a certificate and its chain"))]
AuthorityFile = Annotated[Path, TypedHere(_read_authorities, path_schema("PEM file of CA certificates"))]
KeyFile = Annotated[Path, TypedHere(_read_private_key, path_schema("PEM file of a private key, not encrypted"))]
