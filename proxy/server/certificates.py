"""What a TLS listener shows its clients: one context for each certificate, chosen by the name a client asks for.

Contexts are never shared or switched after the handshake began: which one serves is decided from the ClientHello
beforehand. So a session of one name cannot be resumed under another (each context has ticket keys and a cache of its
own), and what one entry demands of clients cannot be had by asking for a neighbour.
"""

import ssl
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from proxy.http1.demands import Demand, Demands
from proxy.policy.settings import Certificate, Listener
from proxy.server.client_trust import UnusableTrust, demand_certificates, open_client_trust
from proxy.wire.hello import host_name
from proxy.wire.server_names import ServerNames

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class CertificateError(Exception):
    """The operator's to mend: a certificate or key that cannot serve. `mistakes`: a line for each of them."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class _EncryptedError(ValueError):
    """A key that wants a password; never leaves this module."""


@dataclass(frozen=True, slots=True)
class _Entry:
    context: ssl.SSLContext
    names: frozenset[str]
    demand: Demand
    expiries: dict[Path, float]


class Certificates:
    """A listener's certificates, in the policy's order: contexts, and what each demands of clients."""

    __slots__ = ("choose", "contexts", "demands", "demands_by_name")

    def __init__(self, entries: Iterable[_Entry]) -> None:
        listed = list(entries)
        names = ServerNames(entry.names for entry in listed)
        self.contexts = [entry.context for entry in listed]
        self.demands = [entry.demand for entry in listed]
        self.demands_by_name = Demands(names, self.demands)
        self.choose = names.choose


def open_certificates(listeners: Iterable[Listener]) -> tuple[dict[str, Certificates], dict[str, float]]:
    """Contexts by name of listener (TLS ones only), and when each certificate expires (seconds since the epoch).

    Authorities of clients and their revocation lists expire too. All are named by their file's name, or by their
    path where two files share a name.
    Reads files. Raises CertificateError with every mistake.
    """
    mistakes: list[str] = []
    opened: dict[str, Certificates] = {}
    expiries: dict[Path, float] = {}
    for listener in listeners:
        entries: list[_Entry] = []
        for certificate in listener.certificates:
            try:
                entry = _open(listener, certificate)
            except (OSError, ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
                mistakes.append(f"listener {listener.name}: {_cause(certificate, error)}")
                continue
            except UnusableTrust as unusable:
                mistakes.append(f"listener {listener.name}: {unusable}")
                continue
            entries.append(entry)
            expiries |= entry.expiries
        if entries:
            opened[listener.name] = Certificates(entries)
    if mistakes:
        raise CertificateError(tuple(mistakes))
    return opened, _named(expiries)


def _named(expiries: dict[Path, float]) -> dict[str, float]:
    uses = Counter(path.name for path in expiries)
    return {path.name if uses[path.name] == 1 else str(path): expiry for path, expiry in expiries.items()}


def _open(listener: Listener, certificate: Certificate) -> _Entry:
    """Raises OSError (ssl.SSLError among them), ValueError and UnusableTrust."""
    leaf = x509.load_pem_x509_certificates(certificate.certificate.read_bytes())[0]
    certificate.key.open("rb").close()  # so that an error names the file, which load_cert_chain's does not
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[listener.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate.certificate, certificate.key, password=_no_password)
    trust = open_client_trust(certificate)
    demand_certificates(context, trust)
    expiries = {certificate.certificate: leaf.not_valid_after_utc.timestamp(), **trust.expiries}
    return _Entry(context, _names(leaf), trust.demand, expiries)


def _no_password() -> str:
    # Without this OpenSSL asks the terminal, and a service waits for an answer for ever.
    raise _EncryptedError


def _cause(certificate: Certificate, error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"{certificate.key}: is not the key of {certificate.certificate}"
        reason = error.reason.replace("_", " ").lower() if error.reason else "no PEM key"
        return f"{certificate.certificate} with {certificate.key}: cannot be used ({reason})"
    if isinstance(error, OSError):
        return f"{error.filename}: {(error.strerror or 'cannot be read').lower()}"
    if isinstance(error, _EncryptedError):
        return f"{certificate.key}: is encrypted"
    return f"{certificate.certificate}: not a PEM certificate"


def _names(leaf: x509.Certificate) -> frozenset[str]:
    """The DNS names, canonical; those that are no host names serve nobody. Subjects' common names are not names."""
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    found: set[str] = set()
    for name in alternative.get_values_for_type(x509.DNSName):
        wildcard = name.startswith("*.")
        plain = host_name(name.removeprefix("*.").encode("ascii", "replace"))
        if plain is not None:
            found.add(f"*.{plain}" if wildcard else plain)
    return frozenset(found)
