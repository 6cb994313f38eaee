"""What a client's certificate says: fields of its subject (RFC 5280 section 4.1.2.6) and alternative names.

- A field or a matching name that is there twice says two things, and the certificate is refused. So is a value
  that programs read differently: another string type than UTF8String, PrintableString and IA5String (a BMPString
  hides NUL bytes in plain ASCII), anything unprintable (NUL, controls, bidirectional controls, zero width), white
  space around it, more than LONGEST bytes.
- The subject is read from its DER, not from a rendering of it as text.
- Only what the policy asks for is looked at: oddities elsewhere are nobody's business.
"""

from typing import Final

from cryptography import x509

from proxy.identity.claims import Refused
from proxy.policy.subject import CertificatePlace

LONGEST: Final = 512
"""Bytes of a value as UTF-8."""

# Encoded object identifiers, by the names that OpenSSL prints.
FIELDS: Final = {
    "CN": bytes.fromhex("550403"),
    "SN": bytes.fromhex("550404"),
    "serialNumber": bytes.fromhex("550405"),
    "C": bytes.fromhex("550406"),
    "L": bytes.fromhex("550407"),
    "ST": bytes.fromhex("550408"),
    "street": bytes.fromhex("550409"),
    "O": bytes.fromhex("55040a"),
    "OU": bytes.fromhex("55040b"),
    "title": bytes.fromhex("55040c"),
    "GN": bytes.fromhex("55042a"),
    "dnQualifier": bytes.fromhex("55042e"),
    "pseudonym": bytes.fromhex("550441"),
    "organizationIdentifier": bytes.fromhex("550461"),
    "UID": bytes.fromhex("0992268993f22c640101"),
    "emailAddress": bytes.fromhex("2a864886f70d010901"),
}
"""The fields that a policy may name."""

_SEQUENCE, _SET, _OBJECT, _VERSION = 0x30, 0x31, 0x06, 0xA0
_UTF8, _PRINTABLE, _IA5 = 0x0C, 0x13, 0x16


class Said:
    """One certificate's words, read when they are asked for. since, until: its validity, seconds since the epoch."""

    __slots__ = ("_fields", "_parsed", "since", "until")

    def __init__(self, certificate: bytes) -> None:
        """Raises Refused for what is no certificate."""
        try:
            self._fields = _subject(certificate)
            self._parsed = x509.load_der_x509_certificate(certificate)
            self.since = self._parsed.not_valid_before_utc.timestamp()
            self.until = self._parsed.not_valid_after_utc.timestamp()
        except (ValueError, OverflowError, IndexError, x509.InvalidVersion):
            raise Refused("malformed") from None

    def value(self, place: CertificatePlace) -> str | None:
        """What stands there, None where nothing does. Raises Refused."""
        found = self._named(place) if place.kind == "field" else self._alternative(place)
        if not found:
            return None
        if len(found) > 1:
            raise Refused("ambiguous")
        return _sound(found[0])

    def _named(self, place: CertificatePlace) -> list[str]:
        wanted = FIELDS[place.text]
        return [_text(tag, content) for name, tag, content in self._fields if name == wanted]

    def _alternative(self, place: CertificatePlace) -> list[str]:
        try:
            names = self._parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            raise Refused("malformed") from None
        before, _, behind = place.text.partition("{}")
        if place.kind == "uri":
            listed, barred = names.get_values_for_type(x509.UniformResourceIdentifier), ""
        elif place.kind == "dns":
            listed, barred = [name.lower() for name in names.get_values_for_type(x509.DNSName)], "."
        else:
            listed, barred = names.get_values_for_type(x509.RFC822Name), "@"
        least = len(before) + len(behind) + 1
        fitting = [name for name in listed if name.startswith(before) and name.endswith(behind) and len(name) >= least]
        values = [name[len(before) : len(name) - len(behind)] for name in fitting]
        return [value for value in values if not barred or barred not in value]


def _sound(value: str) -> str:
    if not value or value != value.strip() or not value.isprintable() or len(value.encode()) > LONGEST:
        raise Refused("malformed")
    return value


def _text(tag: int, content: bytes) -> str:
    if len(content) > LONGEST or tag not in (_UTF8, _PRINTABLE, _IA5):
        raise Refused("malformed")
    try:
        return content.decode("utf-8" if tag == _UTF8 else "ascii")
    except UnicodeDecodeError:
        raise Refused("malformed") from None


def _subject(certificate: bytes) -> list[tuple[bytes, int, bytes]]:
    """Object identifier, string type and content of each field of the subject. Raises ValueError, IndexError.

    Behind the version come serial number, algorithm, issuer and validity; then the subject (RFC 5280 section 4.1).
    """
    (_, whole) = _one(certificate)
    to_be_signed = _parts(_parts(whole)[0][1])
    if to_be_signed[0][0] == _VERSION:
        del to_be_signed[0]
    (_, serial), (tag, subject) = to_be_signed[0], to_be_signed[4]
    # RFC 5280 section 4.1.2.2: positive. The library warns of others, and is about to refuse them.
    if tag != _SEQUENCE or not serial or serial[0] >= 0x80 or not any(serial):
        raise ValueError
    found = []
    for kind, relative in _parts(subject):
        if kind != _SET:
            raise ValueError
        for _, attribute in _parts(relative):
            (name_tag, name), (value_tag, value) = _parts(attribute)
            if name_tag != _OBJECT:
                raise ValueError
            found.append((name, value_tag, value))
    return found


def _one(data: bytes) -> tuple[int, bytes]:
    (only,) = _parts(data)
    return only


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """The tags and contents that stand one after another: DER, lengths definite and as short as can be."""
    found = []
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if tag & 0x1F == 0x1F or length == 0x80:
            raise ValueError
        if length > 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            if size > 4 or length < 0x80 or length >> (8 * (size - 1)) == 0:
                raise ValueError
            at += size
        content = data[at : at + length]
        if len(content) != length:
            raise ValueError
        found.append((tag, content))
        at += length
    return found
