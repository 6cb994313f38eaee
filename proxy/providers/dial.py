"""The one function that opens provider sockets.

1. Without a permit that covers the provider there is no socket. A test holds that nothing else in the tree opens one.
2. The name is resolved off the loop; addresses that the guard does not admit are never sent a packet.
3. A raw socket is connected to one literal address after the other, and its peer judged again.
4. TLS is verified (chain, name, version, pins) behind a gate: the caller's protocol comes into being only afterwards,
   so it can neither send nor be sent a byte before.

All of it within the provider's `connect` time. Whatever ends it early, cancellation too, leaves no socket behind.
"""

import asyncio
import errno
import hashlib
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from proxy.policy.decision import Permit
from proxy.policy.facts import Address
from proxy.policy.settings import Endpoint, Provider
from proxy.providers.failure import DialFailure, DialMisuse, connect_cause, handshake_cause
from proxy.providers.gate import Gate
from proxy.providers.guard import admits, unmapped
from proxy.providers.resolve import NameUnresolved, Resolver

P = TypeVar("P", bound=asyncio.BaseProtocol)

# How long closing may wait for the provider's close_notify.
_SHUTDOWN = 5.0

# A provider that vanished without a FIN is noticed after 60 + 3 * 10 seconds, also on a quiet tunnel.
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))

_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

_VERSIONS = {"TLSv1.2": 2, "TLSv1.3": 3}


async def dial(
    permit: Permit,
    provider: Provider,
    endpoint: Endpoint,
    protocol_factory: Callable[[], P],
    *,
    context: ssl.SSLContext | None,
    resolver: Resolver,
) -> tuple[asyncio.Transport, P]:
    """A connection to a permitted provider's endpoint, verified, and the caller's protocol on it.

    context: the provider's TLS context for `https`, None for every other scheme. The protocol is made when all is
    verified; its `connection_made` has run and reading is on when this returns.
    Raises DialFailure when the provider was not reached, DialMisuse for this program's own mistakes.
    """
    _demand(permit, provider, endpoint, context)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + provider.timeouts.connect
    try:
        async with asyncio.timeout_at(deadline):
            addresses = await _addresses(provider, endpoint, resolver)
            sock = await _connect(loop, provider, endpoint, addresses, deadline)
            transport, gate = await _open(loop, provider, endpoint, sock, context)
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


def _demand(permit: Permit, provider: Provider, endpoint: Endpoint, context: ssl.SSLContext | None) -> None:
    if not permit.covers(provider):
        raise DialMisuse(f"provider {provider.name}: no permit")
    if endpoint not in provider.endpoints:
        raise DialMisuse(f"provider {provider.name}: {endpoint.host}: not its endpoint")
    if (context is not None) != (endpoint.scheme == "https"):
        raise DialMisuse(f"provider {provider.name}: {endpoint.host}: TLS context and scheme disagree")
    if context is not None and not (context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED):
        raise DialMisuse(f"provider {provider.name}: {endpoint.host}: a TLS context that does not verify")


async def _addresses(provider: Provider, endpoint: Endpoint, resolver: Resolver) -> Sequence[Address]:
    try:
        answers = await resolver.resolve(endpoint.host)
    except NameUnresolved:
        raise DialFailure("name", provider.name, endpoint.host, "name not found") from None
    allowed = [unmapped(address) for address in answers if admits(provider, endpoint, address)]
    if not allowed:
        raise DialFailure("outside", provider.name, endpoint.host, "address not allowed")
    return allowed


async def _connect(
    loop: asyncio.AbstractEventLoop,
    provider: Provider,
    endpoint: Endpoint,
    addresses: Sequence[Address],
    deadline: float,
) -> socket.socket:
    """A connected socket whose peer is admitted. Each address has an equal share of the time that is left."""
    failure: DialFailure | None = None
    for place, address in enumerate(addresses):
        left = len(addresses) - place
        share = None if left == 1 else (deadline - loop.time()) / left
        try:
            async with asyncio.timeout(share):
                sock = await _reach(loop, address, endpoint.port)
        except OSError as error:
            kind, cause = connect_cause(error)
            failure = DialFailure(kind, provider.name, endpoint.host, cause)
            continue
        try:
            peer = sock.getpeername()[0]
        except OSError:
            sock.close()
            failure = DialFailure("refused", provider.name, endpoint.host, "connection reset")
            continue
        if peer == str(address) or admits(provider, endpoint, ip_address(peer)):
            return sock
        sock.close()
        failure = DialFailure("outside", provider.name, endpoint.host, "address not allowed")
    assert failure is not None
    raise failure from None


async def _reach(loop: asyncio.AbstractEventLoop, address: Address, port: int) -> socket.socket:
    sock = _socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        # Not `loop.sock_connect`: uvloop's asks getaddrinfo in a thread even for a literal, so that the dial would cost
        # twice as much, and wait behind the look-ups of a slow name service.
        error = sock.connect_ex((str(address), port))
        if error == errno.EINPROGRESS:
            await _writable(loop, sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        if sock.getsockname() == sock.getpeername():
            # Nobody listens, and the kernel chose that very port for our side: TCP met itself (simultaneous open).
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    except BaseException:
        sock.close()
        raise
    return sock


def _socket(family: socket.AddressFamily) -> socket.socket:
    return socket.socket(family, _STREAM, socket.IPPROTO_TCP)


async def _writable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock)


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


async def _open(
    loop: asyncio.AbstractEventLoop,
    provider: Provider,
    endpoint: Endpoint,
    sock: socket.socket,
    context: ssl.SSLContext | None,
) -> tuple[asyncio.Transport, Gate]:
    try:
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
