"""TLS to a store: verified always, by the policy's own authorities or by the system's."""

import ssl
from pathlib import Path

from proxy.identity.refused import SourceRefused


def store_context(tls: bool, ca: Path | None) -> ssl.SSLContext | None:
    """A context that verifies chain and name, None for plaintext. Raises SourceRefused for an unusable file."""
    if not tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError):
        raise SourceRefused(f"{ca}: cannot be used as a file of authorities") from None
    return context
