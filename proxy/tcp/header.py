"""The PROXY header that a provider is told the client with: who it is, where it connected to, the name it asked for."""

import socket
from ipaddress import ip_address

from proxy.identity.addresses import unmapped
from proxy.policy.facts import Address
from proxy.policy.settings import Provider
from proxy.tcp.arrival import Arrival
from proxy.wire.proxy_header import AUTHORITY, UNIQUE_ID, proxy_header, proxy_line


def introduction(provider: Provider, arrival: Arrival, client: socket.socket, request_id: bytes) -> bytes:
    """What goes to the provider ahead of everything; empty where it is to be told nothing."""
    if provider.send_proxy == "none":
        return b""
    source = None if arrival.peer is None else (arrival.peer, arrival.port)
    destination = arrival.destination or _own_address(client)
    if provider.send_proxy == "v1":
        return proxy_line(source, destination)
    fields = [(UNIQUE_ID, request_id)]
    if arrival.sni is not None:
        fields.insert(0, (AUTHORITY, arrival.sni.encode("ascii")))
    return proxy_header(source, destination, tuple(fields))


def _own_address(client: socket.socket) -> tuple[Address, int] | None:
    """Where a client connected to, by its own socket; None on a Unix socket."""
    name = client.getsockname()
    return (parsed(name[0]), name[1]) if isinstance(name, tuple) else None


def parsed(text: str) -> Address:
    """A socket's address: without its scope, an IPv4-mapped one as the IPv4 address that it is."""
    return unmapped(ip_address(text.partition("%")[0]))
