"""What a policy file says of how a home is found: sources, and whom they believe. Durations are seconds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from proxy.policy.rules import Network, StatedHome
from proxy.policy.settings import Secret


@dataclass(frozen=True, slots=True)
class KeySetUrl:
    """A key set that its issuer publishes, https or http on loopback.

    ca: verifies the server; None is the system's. max_age: how old the keys may become before they are fetched
    again; keep: how long they serve while that fails. timeout: for one fetch.
    """

    url: str
    ca: Path | None = None
    max_age: float = 600.0
    keep: float = 86400.0
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Where a token is: in a header of this lower-cased name, or in a cookie of exactly this name."""

    kind: Literal["header", "cookie"]
    name: str


@dataclass(frozen=True, slots=True)
class Jwt:
    """The `jwt` source: verifies signed tokens against a key set. Claims are names, dots go down.

    token: where it is; None is a bearer token in Authorization.
    """

    jwks: Path | KeySetUrl
    issuer: str
    audience: str
    subject_claim: str
    home_claim: str
    actor_claim: str | None
    leeway: float
    forward: bool
    token: TokenPlace | None = None


@dataclass(frozen=True, slots=True)
class HomeCookie:
    """The `home_cookie` source: a signed cookie that remembers a home. keys: the first signs, all verify."""

    name: str
    keys: tuple[Path | Secret, ...]
    max_age: float
    forward: bool


@dataclass(frozen=True, slots=True)
class Location:
    """The `location` source: the zone of the client's country. accounts: also for verified subjects."""

    accounts: bool


@dataclass(frozen=True, slots=True)
class DirectoryKey:
    """What of a request a directory is asked about.

    text: a header's name in lower case; for path and host a canonical pattern with one `{}`, a path's perhaps
    ending in `/*`; empty for the others. token, certificate: whom an earlier source verified.
    """

    kind: Literal["header", "token", "certificate", "sni", "path", "host"]
    text: str = ""


@dataclass(frozen=True, slots=True)
class DirectoryCache:
    """What a directory said, for how long. size: homes that are kept.

    refresh: the age at which it is asked again, beside requests; max_age: the age that no home is used beyond;
    unknown: as max_age, for subjects that it does not know.
    """

    size: int = 100_000
    max_age: float = 300.0
    refresh: float = 60.0
    unknown: float = 30.0


@dataclass(frozen=True, slots=True)
class SqliteStore:
    """A file that `domicile directory import` makes."""

    path: Path


@dataclass(frozen=True, slots=True)
class ValkeyStore:
    """A Valkey or Redis server. tls: verified by `ca`, else by the system's authorities. prefix: before each key."""

    host: str
    port: int
    database: int
    tls: bool
    user: str | None
    password: Secret | None
    ca: Path | None
    prefix: str


@dataclass(frozen=True, slots=True)
class PostgresStore:
    """A PostgreSQL database. query: None is the one against the documented table. connections: at most."""

    host: str
    port: int
    database: str
    tls: bool
    user: str
    password: Secret | None
    ca: Path | None
    query: str | None
    connections: int


@dataclass(frozen=True, slots=True)
class HttpStore:
    """An HTTP service. url: `{}` in its path or query stands for the key."""

    url: str
    headers: tuple[tuple[str, Secret], ...]
    ca: Path | None


Store = SqliteStore | ValkeyStore | PostgresStore | HttpStore


@dataclass(frozen=True, slots=True)
class Directory:
    """The `directory` source. timeout: for one look-up; lookups: how many at once.

    forward: whether the provider sees a key header of a trusted proxy; one of anybody else it never does.
    """

    store: Store
    key: DirectoryKey
    cache: DirectoryCache
    timeout: float
    lookups: int
    forward: bool


@dataclass(frozen=True, slots=True)
class CertificatePlace:
    """Where in a certificate something stands.

    kind field: text is a field of the subject as OpenSSL names it. The others are alternative names: text holds one
    `{}`, which stands for the value; of dns names it is in lower case.
    """

    kind: Literal["field", "uri", "dns", "email"]
    text: str


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The `client_certificate` source. home_from, actor_from: None where certificates do not say.

    from_header: of trusted proxies, the certificate that they forward (RFC 9440) is read and not their own. ca:
    verifies those once more. forward: whether providers are told the certificate, in the same form.
    """

    home_from: CertificatePlace | None
    subject_from: CertificatePlace
    actor_from: CertificatePlace | None
    from_header: bool
    ca: Path | None
    forward: bool


@dataclass(frozen=True, slots=True)
class ProxyHeaderSource:
    """The `proxy_header` source: what a trusted proxy says in the TLVs of a PROXY v2 header, by their types.

    Each is None where it does not say.
    """

    home_from: int | None
    subject_from: int | None
    actor_from: int | None


Source = ClientCertificate | Jwt | Directory | HomeCookie | ProxyHeaderSource | Location


@dataclass(frozen=True, slots=True)
class ClientHeader:
    """A header that holds the client's address, by its lower-cased name; believed from these networks alone."""

    name: str
    networks: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """How the home is found: trusted proxies, sources in order, stated homes, kinds of staff.

    client_header: a CDN's header with the client's address, None where none is believed.
    """

    trusted_proxies: tuple[Network, ...]
    sources: tuple[Source, ...]
    stated: tuple[StatedHome, ...]
    actors: frozenset[str]
    client_header: ClientHeader | None = None
