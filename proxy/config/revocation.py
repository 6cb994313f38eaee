"""Certificate revocation lists (RFC 5280 section 5) as a policy may name them: PEM, perhaps several, or one in DER.

With lists every certificate of a client's chain is looked up (`X509_V_FLAG_CRL_CHECK_ALL`), and whose list is
missing is refused. A file that could only refuse everybody is therefore a mistake, and said when it is read.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509 import CertificateRevocationList, load_der_x509_crl, load_pem_x509_crl

from proxy.config.note import VALUE, Wrong
from proxy.config.part import TypedHere
from proxy.config.surroundings import Surroundings
from proxy.config.trust import path_schema, read_path

LARGEST_LIST = 64 << 20
"""Bytes of a file of revocation lists: some millions of entries."""

_PEM = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def revocation_lists(data: bytes) -> list[CertificateRevocationList]:
    """The lists in a file's bytes, at least one. Raises ValueError for anything else."""
    found = [load_pem_x509_crl(match[0]) for match in _PEM.finditer(data)] or [load_der_x509_crl(data)]
    for each in found:
        if each.next_update_utc is None:
            raise ValueError("a list that never ends")
    return found


def read_lists(path: Path) -> list[CertificateRevocationList]:
    """The lists of a file. Raises OSError and ValueError."""
    with path.open("rb") as file:
        data = file.read(LARGEST_LIST + 1)
    if len(data) > LARGEST_LIST:
        raise ValueError("too large")
    try:
        return revocation_lists(data)
    except (UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValueError("not understood") from error


def next_update(lists: Iterable[CertificateRevocationList]) -> datetime:
    """When the first of these lists runs out; from then on OpenSSL refuses whoever it speaks of."""
    return min(each.next_update_utc for each in lists if each.next_update_utc is not None)


def unlisted(authorities: Iterable[x509.Certificate], lists: Iterable[CertificateRevocationList]) -> Iterator[int]:
    """The places of the authorities that signed none of the lists."""
    known = list(lists)
    for index, authority in enumerate(authorities):
        if not any(each.issuer == authority.subject and _signed(each, authority) for each in known):
            yield index


def unrooted(authorities: Iterable[x509.Certificate]) -> Iterator[int]:
    """The places of the authorities whose own chain does not end among them: their own revocation has no judge."""
    known = list(authorities)
    for index, authority in enumerate(known):
        if not any(authority.issuer == each.subject and _issued(authority, each) for each in known):
            yield index


def _signed(each: CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return each.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _read_revocation(text: str, surroundings: Surroundings) -> Path:
    path = read_path(text, surroundings)
    try:
        read_lists(path)
    except OSError as error:
        reason = error.strerror or "not a file's name"
        raise Wrong(f"{VALUE} cannot be read: {reason}", "relative paths start at the policy file") from None
    except ValueError:
        raise Wrong(
            f"{VALUE} holds no revocation list", "name a file of X.509 CRLs, PEM or DER, up to 64 MiB"
        ) from None
    return path


RevocationFile = Annotated[Path, TypedHere(_read_revocation, path_schema("Revocation lists, PEM or DER"))]
