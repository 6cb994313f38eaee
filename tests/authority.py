"""Throwaway certificate authorities for tests: certificates on disk as PEM, good ones and every kind of bad one.

authority = make_authority(tmp_path)
server = authority.issue(names=["storage.example"], ips=["127.0.0.1"])
context.load_cert_chain(server.certificate, server.key)
"""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = timedelta(days=1)
_PARTS = {"C": NameOID.COUNTRY_NAME, "O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME}


@dataclass(frozen=True)
class Issued:
    """A certificate (with its chain up to, not with, the root) and its key, on disk. pin: SHA-256 of its SPKI."""

    certificate: Path
    key: Path
    pin: bytes
    parsed: x509.Certificate


@dataclass(frozen=True)
class Authority:
    """A CA whose certificate is at `certificate`. chain: what comes between it and a root, for intermediates."""

    directory: Path
    name: str
    certificate: Path
    parsed: x509.Certificate
    private: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def issue(
        self,
        names: Iterable[str] = (),
        ips: Iterable[str] = (),
        *,
        common_name: str = "leaf",
        subject: dict[str, str] | None = None,
        expired: bool = False,
        early: bool = False,
        client: bool = False,
        key: ec.EllipticCurvePrivateKey | None = None,
        name: x509.Name | None = None,
        alternatives: Iterable[x509.GeneralName] = (),
        life: timedelta | None = None,
    ) -> Issued:
        """A leaf for DNS names and addresses. expired, early: valid until yesterday, from tomorrow.

        client: for clients, else for servers. subject: C, O, OU besides the common name; name: a whole one instead.
        key: instead of a new one. alternatives: more of them. life: until how long from now, instead of a month.
        """
        private = key or ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        start, end = (
            (now + _DAY, now + 30 * _DAY) if early else (now - 30 * _DAY, now + (-_DAY if expired else 30 * _DAY))
        )
        if life is not None:
            end = now + life
        whose = _name(common_name, subject or {}) if name is None else name
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            _builder(whose, self.parsed.subject, private, start, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private.public_key()), critical=False
            )
        )
        listed = [*map(x509.DNSName, names), *(x509.IPAddress(ip_address(ip)) for ip in ips), *alternatives]
        if listed:
            builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
        certificate = builder.sign(self.private, hashes.SHA256())
        stem = f"{self.name}-{next(self._numbers)}-{common_name.replace(' ', '-')}"
        return _written(self.directory, stem, certificate, private, self.chain)

    def revocation_list(
        self,
        revoked: Iterable[Issued] = (),
        *,
        stem: str = "",
        expired: bool = False,
        early: bool = False,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Path:
        """A list of revoked certificates, PEM, in STEM.crl. expired, early: as for `issue`. key: not our own."""
        now = datetime.now(UTC)
        start, end = (now + _DAY, now + 2 * _DAY) if early else (now - 2 * _DAY, now + (-_DAY if expired else _DAY))
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.parsed.subject)
            .last_update(start)
            .next_update(end)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private.public_key()), critical=False
            )
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.parsed.serial_number).revocation_date(start)
            builder = builder.add_revoked_certificate(entry.build())
        path = self.directory / f"{stem or self.name}.crl"
        path.write_bytes(builder.sign(key or self.private, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path

    def intermediate(self, name: str = "intermediate") -> "Authority":
        """A CA under this one; what it issues brings the chain along."""
        made = make_authority(self.directory, f"{self.name}-{name}", signer=self)
        return Authority(
            made.directory, made.name, made.certificate, made.parsed, made.private, (made.parsed, *self.chain)
        )


def make_authority(directory: Path, name: str = "authority", *, signer: Authority | None = None) -> Authority:
    """A new root CA (or one under `signer`), its certificate in `directory`."""
    private = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = _name(name, {})
    issuer, signing = (subject, private) if signer is None else (signer.parsed.subject, signer.private)
    certificate = (
        _builder(subject, issuer, private, now - 30 * _DAY, now + 30 * _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(signing, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return Authority(directory, name, path, certificate, private)


def self_signed(directory: Path, names: Iterable[str] = (), ips: Iterable[str] = ()) -> Issued:
    """A certificate that vouches for itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = _name("self-signed", {})
    alternatives = [*map(x509.DNSName, names), *(x509.IPAddress(ip_address(ip)) for ip in ips)]
    certificate = (
        _builder(subject, subject, private, now - _DAY, now + _DAY)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(private, hashes.SHA256())
    )
    return _written(directory, "self-signed", certificate, private, ())


_CA_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _name(common_name: str, parts: dict[str, str]) -> x509.Name:
    attributes = [x509.NameAttribute(_PARTS[part], value) for part, value in parts.items()]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, private: ec.EllipticCurvePrivateKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _written(
    directory: Path,
    stem: str,
    certificate: x509.Certificate,
    private: ec.EllipticCurvePrivateKey,
    chain: tuple[x509.Certificate, ...],
) -> Issued:
    path, key = directory / f"{stem}.pem", directory / f"{stem}.key"
    path.write_bytes(b"".join(part.public_bytes(Encoding.PEM) for part in (certificate, *chain)))
    key.touch(0o600)
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Issued(path, key, hashlib.sha256(spki).digest(), certificate)
