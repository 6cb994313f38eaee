"""Why a provider was not reached: a kind for the answer, a cause from a fixed list for the operator."""

import errno
import ssl
from typing import Literal, get_args

Kind = Literal["refused", "timeout", "outside", "name", "tls", "full", "local"]

Cause = Literal[
    "connection refused",
    "connection reset",
    "unreachable",
    "too slow",
    "address not allowed",
    "name not found",
    "certificate expired",
    "certificate not yet valid",
    "certificate for another name",
    "certificate of an unknown authority",
    "certificate revoked",
    "certificate not acceptable",
    "public key not pinned",
    "protocol version not accepted",
    "client certificate demanded or not accepted",
    "closed in the handshake",
    "handshake failed",
    "connection limit of the policy",
    "out of descriptors, ports or memory",
]

CAUSES: frozenset[str] = frozenset(get_args(Cause))


class DialFailure(Exception):
    """A provider was not reached. Whose fault that is, by kind:

    `refused`  the provider's or the network's: nobody listens, reset, no way there
    `timeout`  the provider's or the network's: not connected, name and TLS included, within its `connect` time
    `outside`  the name service's or the policy's: no address of the name is one that may be dialled
    `name`     the name service's: no answer, and none remembered that is fresh enough
    `tls`      the provider's or the policy's: certificate, name, authority, pin, version, handshake
    `full`     nobody's: the policy's own cap on the provider's connections is reached
    `local`    this machine's: no descriptor, port or memory left

    Nothing was sent of any request, so another permitted provider may be tried. The text names provider,
    endpoint host (as the policy writes it) and cause, never a resolved address or a peer's words.
    """

    def __init__(self, kind: Kind, provider: str, host: str, cause: Cause) -> None:
        super().__init__(kind, provider, host, cause)
        self.kind: Kind = kind
        self.provider = provider
        self.host = host
        self.cause: Cause = cause

    def __str__(self) -> str:
        return f"provider {self.provider}: {self.host}: {self.kind}: {self.cause}"


class DialMisuse(RuntimeError):
    """This program's own mistake: a provider asked for without a permit, or with another's endpoint or context."""


_OUT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN})

_NO_WAY = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EACCES, errno.EPERM, errno.EINVAL}
    | {errno.EAFNOSUPPORT}
)


def connect_cause(error: OSError) -> tuple[Kind, Cause]:
    """What a failed connect means."""
    if isinstance(error, TimeoutError):
        return "timeout", "too slow"
    if error.errno in _OUT_OF:
        return "local", "out of descriptors, ports or memory"
    if error.errno in _NO_WAY:
        return "refused", "unreachable"
    if isinstance(error, ConnectionRefusedError):
        return "refused", "connection refused"
    return "refused", "connection reset"


# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_VERIFY_CAUSES: dict[int, Cause] = {
    2: "certificate of an unknown authority",
    18: "certificate of an unknown authority",
    19: "certificate of an unknown authority",
    20: "certificate of an unknown authority",
    21: "certificate of an unknown authority",
    7: "certificate of an unknown authority",
    9: "certificate not yet valid",
    10: "certificate expired",
    23: "certificate revoked",
    62: "certificate for another name",
    64: "certificate for another name",
}

_REASON_CAUSES: dict[str, Cause] = {
    "UNSUPPORTED_PROTOCOL": "protocol version not accepted",
    "TLSV1_ALERT_PROTOCOL_VERSION": "protocol version not accepted",
    "VERSION_TOO_LOW": "protocol version not accepted",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "handshake failed",
    "SSLV3_ALERT_BAD_CERTIFICATE": "client certificate demanded or not accepted",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "client certificate demanded or not accepted",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "client certificate demanded or not accepted",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "client certificate demanded or not accepted",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "client certificate demanded or not accepted",
    "TLSV1_ALERT_UNKNOWN_CA": "client certificate demanded or not accepted",
    "TLSV1_ALERT_ACCESS_DENIED": "client certificate demanded or not accepted",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "client certificate demanded or not accepted",
    "UNEXPECTED_EOF_WHILE_READING": "closed in the handshake",
}


def handshake_cause(error: OSError) -> Cause:
    """What a failed TLS handshake means. The peer's own words never leave here."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_CAUSES.get(error.verify_code, "certificate not acceptable")
    if isinstance(error, ssl.SSLEOFError):
        return "closed in the handshake"
    if isinstance(error, ssl.SSLError):
        return _REASON_CAUSES.get(error.reason or "", "handshake failed")
    return "closed in the handshake"
