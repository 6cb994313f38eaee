"""TLS towards a provider: always verified, with what its definition says and nothing from the environment.

Not `ssl.create_default_context`: that one honours SSLKEYLOGFILE, which would write session keys to a file.
"""

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.x509 import load_pem_x509_certificates

from proxy.policy.settings import Provider, ProviderTls

FileKey = Literal["ca", "client_certificate", "client_key"]


@dataclass(frozen=True, slots=True)
class UnusableFile:
    """One file of a provider's `tls` that cannot serve: which key names it, and what is wrong with it."""

    provider: str
    key: FileKey
    what: str

    def __str__(self) -> str:
        return f"provider {self.provider}: tls.{self.key}: {self.what}"


class UnusableFiles(Exception):
    """The operator's fault: files of a policy that is being loaded do not serve. Nothing has been changed."""

    def __init__(self, faults: tuple[UnusableFile, ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        return "; ".join(map(str, self.faults))


def provider_context(provider: Provider, scheme: Literal["https", "tls"] = "https") -> ssl.SSLContext | None:
    """How a provider is verified and what we show it at endpoints of this scheme; None when it has none.

    Its own CA file is the only trust when there is one, and each certificate in it an anchor; else the system's.
    Pins are checked by the dial, which sees the leaf. What is spoken inside `tls` is the client's affair: no protocol
    is offered for it. Raises UnusableFiles.
    """
    if not any(endpoint.scheme == scheme for endpoint in provider.endpoints):
        return None
    tls = provider.tls
    # PROTOCOL_TLS_CLIENT: CERT_REQUIRED and check_hostname; its ciphers are forward secret, no compression.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # RFC 9110 section 4.3.4: subjectAltName alone names
    context.options |= ssl.OP_NO_RENEGOTIATION
    if scheme == "https":
        context.set_alpn_protocols(["http/1.1"])
    _trust(context, provider.name, tls)
    _show(context, provider)
    return context


def _trust(context: ssl.SSLContext, name: str, tls: ProviderTls) -> None:
    if tls.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return
    try:
        # Comments between certificates may be in any script; OpenSSL takes ASCII.
        context.load_verify_locations(cadata=tls.ca.read_bytes().decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        raise _unusable(name, "ca", "holds no certificate") from None
    except OSError as error:
        raise _unusable(name, "ca", _reason(error)) from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _show(context: ssl.SSLContext, provider: Provider) -> None:
    tls = provider.tls
    if tls.client_certificate is None:
        return
    client_certificate_expiry(provider)  # so that a fault of the certificate is not taken for one of the key
    try:
        if tls.client_key is not None:
            tls.client_key.read_bytes()
    except OSError as error:
        raise _unusable(provider.name, "client_key", _reason(error)) from None
    try:
        context.load_cert_chain(tls.client_certificate, tls.client_key, password=_no_password)
    except (OSError, ValueError) as error:
        mismatch = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
        what = "is not the certificate's key" if mismatch else "holds no unencrypted key"
        raise _unusable(provider.name, "client_key" if tls.client_key else "client_certificate", what) from None


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal.
    raise ValueError("encrypted")


def _unusable(provider: str, key: FileKey, what: str) -> UnusableFiles:
    return UnusableFiles((UnusableFile(provider, key, what),))


def _reason(error: OSError) -> str:
    return (error.strerror or "cannot be read").lower()


def fingerprint(provider: Provider, read: dict[Path, bytes] | None = None) -> bytes:
    """Changes when the contents of any file do that the provider's context is made of. Unreadable ones count too.

    Taken before the context is made: a file that changes in between is then seen as changed by the next load.
    read: digests of files already read in this load, added to.
    """
    read = {} if read is None else read
    tls = provider.tls
    authorities = tls.ca
    if authorities is None and (system := ssl.get_default_verify_paths().cafile) is not None:
        authorities = Path(system)
    digest = hashlib.sha256()
    for path in (authorities, tls.client_certificate, tls.client_key):
        if path is None:
            digest.update(b"-")
            continue
        if path not in read:
            read[path] = _digest(path)
        digest.update(read[path])
    return digest.digest()


def _digest(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        content = f"unreadable: {error.errno}".encode()
    return hashlib.sha256(content).digest()


def client_certificate_expiry(provider: Provider) -> float | None:
    """When the certificate that we show the provider expires (seconds since the epoch); None when we show none.

    With its chain: the first to expire ends it. Raises UnusableFiles.
    """
    path = provider.tls.client_certificate
    if path is None:
        return None
    try:
        chain = load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise _unusable(provider.name, "client_certificate", _reason(error)) from None
    except ValueError:
        raise _unusable(provider.name, "client_certificate", "is not a certificate") from None
    return min(certificate.not_valid_after_utc.timestamp() for certificate in chain)
