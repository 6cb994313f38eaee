"""Bad certificates: as a trusted proxy forwards them, and as clients show them in a handshake.

FORWARDED: whole requests, to a proxy whose source is `client_certificate: {from_header: true, home_from: C,
subject_from: CN, actor_from: OU}`, from a peer that is a trusted proxy; `ca` is given where the name says so.
GOOD is what the same proxy answers 200 to. SHOWN: certificates for a handshake with a listener that takes those
of `clients`, by name; all are to be refused there, before any request is read, or answered 401.
"""

from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.authority import Authority, Issued, make_authority, self_signed

HEAD = b"GET / HTTP/1.1\r\nHost: storage.example\r\n%b\r\n\r\n"


@cache
def clients() -> Authority:
    """The authority whose certificates are believed."""
    return make_authority(Path(mkdtemp(prefix="clients-")), "clients")


@cache
def strangers() -> Authority:
    return make_authority(clients().directory, "strangers")


def sequence(data: bytes) -> bytes:
    """RFC 8941 section 3.3.5."""
    return b":%b:" % b64encode(data)


def der(certificate: Issued) -> bytes:
    return certificate.parsed.public_bytes(Encoding.DER)


def certificate(*fields: tuple[x509.ObjectIdentifier, str], kind: x509.name._ASN1Type | None = None) -> Issued:
    """One of `clients`, with exactly these fields, each of this string type."""
    attributes = [x509.NameAttribute(oid, value, _type=kind, _validate=False) for oid, value in fields]
    return clients().issue(client=True, name=x509.Name(attributes))


C, CN, OU = NameOID.COUNTRY_NAME, NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME
GERMANY = (C, "DE")
ALICE = (CN, "alice")
BMP, T61 = x509.name._ASN1Type.BMPString, x509.name._ASN1Type.T61String


@cache
def good() -> bytes:
    return der(certificate(GERMANY, ALICE))


def fields(*lines: bytes) -> bytes:
    return HEAD % b"\r\n".join(lines)


def forwarding(issued: Issued) -> bytes:
    return fields(b"Client-Cert: " + sequence(der(issued)))


def value(text: bytes) -> bytes:
    return fields(b"Client-Cert: " + text)


def chain(text: bytes) -> bytes:
    return fields(b"Client-Cert: " + sequence(good()), b"Client-Cert-Chain: " + text)


def GOOD() -> bytes:  # noqa: N802
    """What is answered 200."""
    return fields(b"Client-Cert: " + sequence(good()))


def padded() -> bytes:
    """A byte sequence whose last character has bits that nobody reads."""
    text = b64encode(b"x" * 4)
    assert text.endswith(b"A==")
    return b":%bB==:" % text[:-3]


FORWARDED: dict[str, Callable[[], bytes]] = {
    "two certificates": lambda: fields(*[b"Client-Cert: " + sequence(good())] * 2),
    "a certificate and junk": lambda: fields(b"Client-Cert: " + sequence(good()), b"client-cert: junk"),
    "two on one line": lambda: value(sequence(good()) + b", " + sequence(good())),
    "no byte sequence": lambda: value(b64encode(good())),
    "a quoted string": lambda: value(b'"%b"' % b64encode(good())),
    "parameters behind it": lambda: value(sequence(good()) + b";a=b"),
    "one colon": lambda: value(sequence(good())[:-1]),
    "an empty field": lambda: value(b""),
    "an empty sequence": lambda: value(b"::"),
    "no padding": lambda: value(b":%b:" % b64encode(b"x" * 4).rstrip(b"=")),
    "stray bits": lambda: value(padded()),
    "spaces inside": lambda: value(b":%b :" % b64encode(good())),
    "base64url": lambda: value(b":%b:" % b64encode(b"\xff\xff\xff").replace(b"/", b"_")),
    "PEM": lambda: value(b"-----BEGIN CERTIFICATE-----"),
    "URL-encoded PEM, as nginx writes it": lambda: value(b"-----BEGIN%20CERTIFICATE-----%0A"),
    "no certificate in it": lambda: value(sequence(b"x" * 100)),
    "half a certificate": lambda: value(sequence(good()[: len(good()) // 2])),
    "bytes behind the certificate": lambda: value(sequence(good() + b"\0")),
    "too many bytes": lambda: value(sequence(b"0" * (16 * 1024 + 1))),
    "a chain alone": lambda: fields(b"Client-Cert-Chain: " + sequence(good())),
    "two chains": lambda: fields(b"Client-Cert: " + sequence(good()), *[b"Client-Cert-Chain: " + sequence(good())] * 2),
    "a chain that is no list": lambda: chain(b"junk"),
    "a chain with a gap": lambda: chain(sequence(good()) + b",," + sequence(good())),
    "a chain that ends with a comma": lambda: chain(sequence(good()) + b","),
    "a chain with a list inside": lambda: chain(b"(" + sequence(good()) + b")"),
    "a chain of nine": lambda: chain(b", ".join([b":AAAA:"] * 9)),
    "no subject": lambda: forwarding(certificate(GERMANY)),
    "two subjects": lambda: forwarding(certificate(GERMANY, ALICE, (CN, "bob"))),
    "the same subject twice": lambda: forwarding(certificate(GERMANY, ALICE, ALICE)),
    "two homes": lambda: forwarding(certificate(GERMANY, (C, "US"), ALICE)),
    "two actors": lambda: forwarding(certificate(GERMANY, ALICE, (OU, "support"), (OU, "support"))),
    "an unknown actor": lambda: forwarding(certificate(GERMANY, ALICE, (OU, "sales"))),
    "a home that is a union": lambda: forwarding(certificate((C, "EU"), ALICE)),
    "a home of nowhere": lambda: forwarding(certificate((C, "ZZ"), ALICE)),
    "a home with a space": lambda: forwarding(certificate((C, "D "), ALICE)),
    "NUL in the subject": lambda: forwarding(certificate(GERMANY, (CN, "alice\0.evil"))),
    "a new line in the subject": lambda: forwarding(certificate(GERMANY, (CN, "alice\nX-Account: bob"))),
    "an escape sequence": lambda: forwarding(certificate(GERMANY, (CN, "\x1b[31malice"))),
    "bidirectional controls": lambda: forwarding(certificate(GERMANY, (CN, "al\u202eeci"))),
    "zero width": lambda: forwarding(certificate(GERMANY, (CN, "ali\u200bce"))),
    "spaces around it": lambda: forwarding(certificate(GERMANY, (CN, " alice"))),
    "BMPString": lambda: forwarding(certificate(GERMANY, ALICE, kind=BMP)),
    "T61String": lambda: forwarding(certificate(GERMANY, ALICE, kind=T61)),
    "expired": lambda: forwarding(clients().issue(client=True, expired=True)),
    "not yet valid": lambda: forwarding(clients().issue(client=True, early=True)),
}
"""All are answered 401, whoever vouches for them."""

UNVERIFIED: dict[str, Callable[[], bytes]] = {
    "of strangers": lambda: forwarding(strangers().issue(client=True, common_name="alice", subject={"C": "DE"})),
    "self-signed": lambda: forwarding(self_signed(clients().directory)),
    "for servers": lambda: forwarding(clients().issue(common_name="alice", subject={"C": "DE"})),
    "without its intermediate": lambda: forwarding(
        clients().intermediate("between").issue(client=True, common_name="alice", subject={"C": "DE"})
    ),
}
"""With `ca: clients.pem` these are answered 401 too."""

SHOWN: dict[str, Callable[[], Issued]] = {
    "of strangers": lambda: strangers().issue(client=True, common_name="alice", subject={"C": "DE"}),
    "self-signed": lambda: self_signed(clients().directory),
    "for servers": lambda: clients().issue(common_name="alice", subject={"C": "DE"}),
    "expired": lambda: clients().issue(client=True, common_name="alice", subject={"C": "DE"}, expired=True),
    "not yet valid": lambda: clients().issue(client=True, common_name="alice", subject={"C": "DE"}, early=True),
    "expired an hour ago": lambda: clients().issue(client=True, life=timedelta(hours=-1)),
    "NUL in the subject": lambda: certificate(GERMANY, (CN, "alice\0.evil")),
    "two subjects": lambda: certificate(GERMANY, ALICE, (CN, "bob")),
    "two homes": lambda: certificate(GERMANY, (C, "US"), ALICE),
    "no subject": lambda: certificate(GERMANY),
    "an unknown actor": lambda: certificate(GERMANY, ALICE, (OU, "sales")),
    "BMPString": lambda: certificate(GERMANY, ALICE, kind=BMP),
    "bidirectional controls": lambda: certificate(GERMANY, (CN, "al\u202eeci")),
}
