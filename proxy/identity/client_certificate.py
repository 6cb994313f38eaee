"""The `client_certificate` source: who the certificate names that a client showed in its TLS handshake.

- The listener has verified it: chain, purpose, time, revocation (proxy/server/client_trust.py). Here its words are
  read, and its time is compared again at every request: a connection outlives what it began with.
- With `from_header`, a trusted proxy's Client-Cert is read instead. What such a proxy shows in its own handshake
  says who the proxy is, so without that field its client showed nothing. The proxy vouches for what it forwards;
  with `ca` the chain is verified here as well, for its purpose too. Nobody else's field is looked at.
- No certificate is silence. A certificate without the field of the subject is invalid, one without that of the home
  is silent: the subject is known, the home is not. Staff have no home of their own (see `claims`).
"""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from proxy.identity.answers import Home, Invalid, Kind, Silent
from proxy.identity.certificate_fields import Said
from proxy.identity.claims import Refused
from proxy.identity.evidence import Evidence
from proxy.identity.forwarded_certificate import NAMES, byte_sequence, forwarded
from proxy.identity.refused import SourceRefused
from proxy.identity.remembered import Remembered
from proxy.policy.facts import SUBJECT, UNKNOWN
from proxy.policy.subject import ClientCertificate

REMEMBERED: Final = 16384
"""Certificates whose words are kept: about 6 MB."""

_SILENT = Silent(why="no-credential")
_NOTHING: frozenset[bytes] = frozenset()
_TLS_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_ANY_PURPOSE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


def _for_clients(policy: Policy, leaf: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    if usage is not None and _TLS_CLIENT not in usage and _ANY_PURPOSE not in usage:
        raise ValueError("not for clients")


def _vouches(policy: Policy, authority: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("not an authority")


def _signs(policy: Policy, authority: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("not for certificates")


# As OpenSSL judges in a handshake. The web's profile asks more of names and key usage than private authorities
# write; of a client's leaf only its purpose matters here, for its names are the policy's business.
_LEAF = ExtensionPolicy.permit_all().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _for_clients)
_AUTHORITY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _vouches)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs)
)


def open_client_certificate(source: ClientCertificate, actors: frozenset[str]) -> "ClientCertificateSource":
    """The source with its authorities read. Raises SourceRefused, the operator's fault."""
    store: Store | None = None
    if source.ca is not None:
        try:
            store = Store(x509.load_pem_x509_certificates(source.ca.read_bytes()))
        except OSError as error:
            raise SourceRefused(f"{source.ca}: cannot be read: {error.strerror}") from None
        except ValueError:
            raise SourceRefused(f"{source.ca}: not PEM certificates") from None
    return ClientCertificateSource(source, actors, store)


class ClientCertificateSource:
    """Reads certificates and remembers what they said; those that were refused are read anew."""

    __slots__ = ("_actor", "_actors", "_forward", "_from_header", "_home", "_remembered", "_store", "_subject")

    kind: Kind = "client_certificate"

    def __init__(self, source: ClientCertificate, actors: frozenset[str], store: Store | None) -> None:
        self._home = source.home_from
        self._subject = source.subject_from
        self._actor = source.actor_from
        self._actors = actors - {SUBJECT, UNKNOWN}
        self._from_header = source.from_header
        self._forward = source.forward
        self._store = store
        self._remembered: Remembered[bytes, tuple[Home | Silent, float]] = Remembered(REMEMBERED)

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Home | Silent | Invalid:
        chain: tuple[bytes, ...] = ()
        try:
            if self._from_header and evidence.trusted:
                shown = forwarded(evidence.fields)
                if shown is None:
                    return _SILENT
                certificate, chain = shown
                digest = sha256(b"".join((len(certificate).to_bytes(4, "big"), certificate, *chain))).digest()
            elif evidence.client_certificate is not None:
                certificate = evidence.client_certificate
                digest = sha256(certificate).digest()
            else:
                return _SILENT
            return self._judge(certificate, chain, digest, now)
        except Refused as refused:
            return Invalid("client_certificate", refused.cause)

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        # What a trusted proxy forwards goes on as it came; what we add is the only one.
        return _NOTHING if self._forward and self._from_header else NAMES

    def added(self, evidence: Evidence) -> bytes:
        """The line that tells a provider which certificate the client showed us (RFC 9440 section 2.2)."""
        if not self._forward or evidence.client_certificate is None or (self._from_header and evidence.trusted):
            return b""
        return b"Client-Cert: %b\r\n" % byte_sequence(evidence.client_certificate)

    def _judge(self, certificate: bytes, chain: tuple[bytes, ...], digest: bytes, now: float) -> Home | Silent:
        read = self._remembered.get(digest)
        if read is None:
            said = Said(certificate)
            _in_time(said.since, said.until, now)
            until = said.until
            if self._store is not None and self._from_header:
                until = min(until, _verified(self._store, certificate, chain, now))
            read = self._read(said, until), said.since
            self._remembered.put(digest, read)
        answer, since = read
        _in_time(since, answer.until, now)
        return answer

    def _read(self, said: Said, until: float) -> Home | Silent:
        subject = said.value(self._subject)
        if subject is None:
            raise Refused("subject")
        kind = None if self._actor is None else said.value(self._actor)
        if kind is not None and kind not in self._actors:
            raise Refused("actor")
        actor = SUBJECT if kind is None else kind
        home = None if self._home is None else said.value(self._home)
        if actor != SUBJECT:
            return Silent(subject, actor, until, "staff")
        return Silent(subject, actor, until, "no-home") if home is None else Home(home, subject, actor, until)


def _verified(store: Store, certificate: bytes, chain: tuple[bytes, ...], now: float) -> float:
    """Until when the chain holds that vouches for the certificate. Raises Refused."""
    verifier = (
        PolicyBuilder()
        .store(store)
        .time(datetime.fromtimestamp(now, UTC))
        .extension_policies(ca_policy=_AUTHORITY, ee_policy=_LEAF)
        .build_client_verifier()
    )
    try:
        leaf, *between = map(x509.load_der_x509_certificate, (certificate, *chain))
        found = verifier.verify(leaf, between)
    except VerificationError:
        raise Refused("issuer") from None
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise Refused("malformed") from None
    return min(each.not_valid_after_utc.timestamp() for each in found.chain)


def _in_time(since: float, until: float | None, now: float) -> None:
    if until is not None and now >= until:
        raise Refused("expired")
    if now < since:
        raise Refused("not-yet")
