"""A verified connection to a provider's endpoint, for whoever speaks through asyncio's transports.

1. `connect` opens the socket: within a permit, to an address that the guard admits.
2. TLS is verified (chain, name, version, pins) behind a gate: the caller's protocol comes into being only afterwards,
   so it can neither send nor be sent a byte before.

All of it within the provider's `connect` time. Whatever ends it early, cancellation too, leaves no socket behind.
"""

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from proxy.policy.decision import Permit, ProbePermit
from proxy.policy.settings import Endpoint, Provider
from proxy.providers.connect import connect
from proxy.providers.failure import DialFailure, DialMisuse, handshake_cause
from proxy.providers.gate import Gate
from proxy.providers.guard import Admission
from proxy.providers.resolve import Resolver

P = TypeVar("P", bound=asyncio.BaseProtocol)

# How long closing may wait for the provider's close_notify.
_SHUTDOWN = 5.0

_WRAPPED = frozenset({"https", "tls"})

_VERSIONS = {"TLSv1.2": 2, "TLSv1.3": 3}


async def dial(
    permit: Permit | ProbePermit,
    provider: Provider,
    endpoint: Endpoint,
    protocol_factory: Callable[[], P],
    *,
    context: ssl.SSLContext | None,
    resolver: Resolver,
    first: bytes = b"",
    admission: Admission | None = None,
) -> tuple[asyncio.Transport, P]:
    """A connection to a permitted provider's endpoint, verified, and the caller's protocol on it.

    context: the provider's TLS context for `https` and `tls`, None for other schemes. first: a PROXY header, which goes
    ahead of everything in clear. admission: this endpoint's, where it is kept. The protocol is made when all is
    verified; its `connection_made` has run and reading is on when this returns.
    Raises DialFailure when the provider was not reached, DialMisuse for this program's own mistakes.
    """
    _demand(provider, endpoint, context)
    loop = asyncio.get_running_loop()
    until = loop.time() + provider.timeouts.connect
    sock = await open_socket(permit, provider, endpoint, resolver, admission)
    if admission is not None and admission.closed and isinstance(permit, Permit):
        # Meanwhile, and what is said first may say who the client is.
        sock.close()
        raise DialFailure("outside", provider.name, endpoint.host, "address not allowed")
    try:
        async with asyncio.timeout_at(until):
            transport, gate = await _open(loop, provider, endpoint, sock, context, first)
    except TimeoutError:
        raise DialFailure("timeout", provider.name, endpoint.host, "too slow") from None
    try:
        if context is not None:
            _verify(provider, endpoint, transport)
        if gate.lost or transport.is_closing():
            raise DialFailure("refused", provider.name, endpoint.host, "connection reset")
        protocol = protocol_factory()
    except BaseException:
        transport.abort()
        raise
    gate.hand_over(transport, protocol)
    return transport, protocol


def _demand(provider: Provider, endpoint: Endpoint, context: ssl.SSLContext | None) -> None:
    if (context is not None) != (endpoint.scheme in _WRAPPED):
        raise DialMisuse(f"provider {provider.name}: {endpoint.host}: TLS context and scheme disagree")
    if context is not None and not (context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED):
        raise DialMisuse(f"provider {provider.name}: {endpoint.host}: a TLS context that does not verify")


async def open_socket(
    permit: Permit | ProbePermit,
    provider: Provider,
    endpoint: Endpoint,
    resolver: Resolver,
    admission: Admission | None,
) -> socket.socket:
    """A connected socket to a permitted provider's endpoint, as `connect` makes it, with nothing sent on it.

    Within the provider's `connect` time. Raises DialFailure, DialMisuse.
    """
    loop = asyncio.get_running_loop()
    made: asyncio.Future[socket.socket] = loop.create_future()

    # Whoever awaits a future hears of it a turn later: meanwhile it may be cancelled, or its time be over.
    def connected(sock: socket.socket) -> None:
        if made.cancelled():
            sock.close()
        else:
            made.set_result(sock)

    def failed(failure: DialFailure) -> None:
        if not made.done():
            made.set_exception(failure)

    connecting = connect(permit, provider, endpoint, resolver, connected, failed, admission)
    if made.done():
        return made.result()
    late = loop.call_later(provider.timeouts.connect, connecting.time_out)
    try:
        return await made
    except asyncio.CancelledError:
        connecting.stop()
        if made.done() and not made.cancelled() and made.exception() is None:
            made.result().close()
        raise
    finally:
        late.cancel()


async def _open(
    loop: asyncio.AbstractEventLoop,
    provider: Provider,
    endpoint: Endpoint,
    sock: socket.socket,
    context: ssl.SSLContext | None,
    first: bytes,
) -> tuple[asyncio.Transport, Gate]:
    try:
        if first and sock.send(first) < len(first):
            raise BlockingIOError("a new connection takes no header")
        raw, gate = await loop.create_connection(Gate, sock=sock)
    except OSError:
        sock.close()
        raise DialFailure("refused", provider.name, endpoint.host, "connection reset") from None
    except BaseException:
        sock.close()
        raise
    if context is None:
        return raw, gate
    # In two steps, not `create_connection(ssl=...)`: that one, cancelled before the handshake begins, closes a TLS
    # transport that does not yet know its socket's, which then lives on (asyncio in 3.11, `_start_shutdown`).
    try:
        if gate.lost or raw.is_closing():
            raise DialFailure("tls", provider.name, endpoint.host, "closed in the handshake")
        if gate.early:
            # It spoke before our ClientHello: not TLS, and not to be taken for what TLS protected.
            raise DialFailure("tls", provider.name, endpoint.host, "handshake failed")
        transport = await loop.start_tls(
            raw,
            gate,
            context,
            server_hostname=provider.tls.server_name or endpoint.host,
            # The dial's own deadline comes first; this one must only not come before it.
            ssl_handshake_timeout=provider.timeouts.connect + 1.0,
            ssl_shutdown_timeout=_SHUTDOWN,
        )
        if transport is None or transport.is_closing():
            # What asyncio and uvloop return when the connection ends in mid-handshake without an error.
            raise DialFailure("tls", provider.name, endpoint.host, "closed in the handshake")
    except OSError as error:
        raw.abort()
        raise DialFailure("tls", provider.name, endpoint.host, handshake_cause(error)) from None
    except BaseException:
        raw.abort()
        raise
    return transport, gate


def _verify(provider: Provider, endpoint: Endpoint, transport: asyncio.Transport) -> None:
    """What the context cannot check: pins. And once more what it has checked."""
    session: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    leaf = None if session is None else session.getpeercert(binary_form=True)
    if session is None or leaf is None:
        raise DialFailure("tls", provider.name, endpoint.host, "handshake failed")
    least = 3 if provider.tls.min_version == "1.3" else 2
    if _VERSIONS.get(session.version() or "", 0) < least:
        raise DialFailure("tls", provider.name, endpoint.host, "protocol version not accepted")
    if provider.tls.pins and public_key_pin(leaf) not in provider.tls.pins:
        raise DialFailure("tls", provider.name, endpoint.host, "public key not pinned")


def public_key_pin(certificate: bytes) -> bytes | None:
    """SHA-256 of a DER certificate's SubjectPublicKeyInfo; None for a key that cannot be read, which fits no pin."""
    try:
        key = load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
