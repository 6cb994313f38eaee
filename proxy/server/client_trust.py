"""Whom a listener believes about its clients: authorities and revocation lists, brought into a context.

- Each certificate of `client_ca` is an anchor, so an intermediate may stand there without its root.
- With lists, every certificate of a client's chain must be on none, and must have one: OpenSSL refuses whom no list
  speaks of, whose list has run out, is not yet in force or is signed by somebody else. It fails closed.
- The names of the authorities are not sent to clients.
- A session holds who the client was when it was verified. Under TLS 1.3 none are made where certificates are asked
  for. Under TLS 1.2 they cannot be switched off from here, so what a handshake would look at is looked at again
  when one is resumed: the certificate's end, the authorities', the lists'. A reload forgets all sessions.
"""

import os
import ssl
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.config.revocation import next_update, read_lists
from proxy.http1.demands import NOTHING, Demand
from proxy.policy.settings import Certificate

_WORD = (1 << 64) - 1
"""The lowest bits of a serial number, which are random in all but the smallest authorities."""


class UnusableTrust(Exception):
    """The operator's to mend: a file of authorities or lists that cannot serve. The text names the file."""


@dataclass(frozen=True, slots=True)
class ClientTrust:
    """What one certificate's clients are held to. pem: authorities and lists together.

    expiries: when each file's first certificate or list ends, seconds since the epoch.
    """

    demand: Demand
    pem: bytes
    expiries: dict[Path, float]


def open_client_trust(certificate: Certificate) -> ClientTrust:
    """Read the files. Raises UnusableTrust."""
    path = certificate.client_ca
    if certificate.client_certificate == "none" or path is None:
        return ClientTrust(NOTHING, b"", {})
    try:
        authorities = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise UnusableTrust(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except ValueError:
        raise UnusableTrust(f"{path}: not PEM certificates") from None
    expiries = {path: min(each.not_valid_after_utc for each in authorities).timestamp()}
    lists: list[x509.CertificateRevocationList] = []
    for file in certificate.crl:
        try:
            found = read_lists(file)
        except OSError as error:
            raise UnusableTrust(f"{file}: {(error.strerror or 'cannot be read').lower()}") from None
        except ValueError:
            raise UnusableTrust(f"{file}: not revocation lists") from None
        lists += found
        expiries[file] = next_update(found).timestamp()
    pem = b"".join([each.public_bytes(Encoding.PEM) for each in authorities])
    pem += b"".join([each.public_bytes(Encoding.PEM) for each in lists])
    resumption = _Resumption(min(expiries.values()), lists)
    demand = Demand(
        certificate.client_certificate,
        path,
        certificate.crl,
        sha256(pem).hexdigest(),
        resumption.revoked,
        resumption.holds,
    )
    return ClientTrust(demand, pem, expiries)


def demand_certificates(context: ssl.SSLContext, trust: ClientTrust) -> None:
    """Let a server's context ask its clients. Raises ssl.SSLError."""
    if not trust.demand.asks:
        return
    context.verify_mode = ssl.CERT_REQUIRED if trust.demand.mode == "required" else ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if trust.demand.lists:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    context.num_tickets = 0
    # OpenSSL takes lists from files alone; this one is never on a disk, and cannot change between two looks.
    descriptor = os.memfd_create("clients", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(trust.pem)
        context.load_verify_locations(cafile=f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class _Resumption:
    """What is asked of a certificate that was verified earlier. until: when the first file ends."""

    __slots__ = ("_lists", "_until", "_words")

    def __init__(self, until: float, lists: Iterable[x509.CertificateRevocationList]) -> None:
        self._until = until
        self._lists = tuple(lists)
        # A list is searched from end to end, which takes 7 ms for 100,000 entries. So most are told by a word first.
        self._words = [array("Q", sorted(entry.serial_number & _WORD for entry in each)) for each in self._lists]

    def holds(self, certificate: bytes | None, now: float) -> bool:
        if certificate is None:
            return True
        parsed = x509.load_der_x509_certificate(certificate)
        return (
            now < self._until
            and parsed.not_valid_before_utc.timestamp() <= now < parsed.not_valid_after_utc.timestamp()
        )

    def revoked(self, certificate: bytes) -> bool:
        parsed = x509.load_der_x509_certificate(certificate)
        word = parsed.serial_number & _WORD
        for each, words in zip(self._lists, self._words, strict=True):
            at = bisect_left(words, word)
            if at == len(words) or words[at] != word or each.issuer != parsed.issuer:
                continue
            if each.get_revoked_certificate_by_serial_number(parsed.serial_number) is not None:
                return True
        return False
