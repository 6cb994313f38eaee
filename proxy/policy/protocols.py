"""The protocols of listeners: what a connection of each brings, who can speak for it, and which endpoints serve it.

    http  requests are read
    tls   passed on untouched: the ClientHello is read, and never answered
    tcp   passed on unread

A fact that is neither brought always nor never may be missing: the address of a Unix socket's peer, or one behind a
trusted proxy that cannot be read; a host, where a ClientHello names none.
"""

from typing import Final

from proxy.policy.facts import NO_SOURCE, STATED
from proxy.policy.settings import Protocol, Provider

_OF_ALL = frozenset({"home", "country", "listener", "source", "actor"})

ALWAYS: Final[dict[Protocol, frozenset[str]]] = {
    "http": _OF_ALL | {"host", "path", "method", "ech"},
    "tls": _OF_ALL | {"ech"},
    "tcp": _OF_ALL,
}
"""Facts that every connection has."""

NEVER: Final[dict[Protocol, frozenset[str]]] = {
    "http": frozenset(),
    "tls": frozenset({"path", "method"}),
    "tcp": frozenset({"host", "path", "method", "ech"}),
}
"""Facts that no connection has; where there is no method, no upgrade is asked for either."""

SOURCE_KINDS: Final = ("jwt", "client_certificate", "directory", "home_cookie", "proxy_header", "location")
"""Every kind of source."""

SOURCES: Final[dict[Protocol, frozenset[str]]] = {
    "http": frozenset({*SOURCE_KINDS, STATED, NO_SOURCE}),
    "tls": frozenset({"directory", "proxy_header", "location", STATED, NO_SOURCE}),
    "tcp": frozenset({"proxy_header", "location", STATED, NO_SOURCE}),
}
"""What can give a home. The others read what is inside of TLS, or of HTTP, and are silent; a directory's key that a
ClientHello shows is its name."""

SCHEMES: Final[dict[Protocol, frozenset[str]]] = {
    "http": frozenset({"https", "http"}),
    "tls": frozenset({"tls", "tcp"}),
    "tcp": frozenset({"tls", "tcp"}),
}
"""The endpoints that a listener's connections may be passed to."""


def serves(provider: Provider, protocol: Protocol) -> bool:
    """Whether any endpoint of the provider is one for listeners of this protocol."""
    return any(endpoint.scheme in SCHEMES[protocol] for endpoint in provider.endpoints)
