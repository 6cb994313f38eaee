"""What a policy file says of providers, sources, listeners and bounds. Durations are seconds, sizes bytes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from proxy.policy.rules import Network, StatedHome


class Secret:
    """A value that never shows itself: not in a repr, a log, an error text or a comparison's output."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class Zone:
    """A legal area: a name and the ISO 3166-1 alpha-2 codes it holds, `*` already expanded."""

    name: str
    countries: frozenset[str]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a provider. host is a DNS name or an address literal without brackets."""

    scheme: Literal["https", "http", "tls", "tcp"]
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ProviderTls:
    """How a provider is verified, and what we show it. pins: SHA-256 digests of the leaf's SPKI."""

    ca: Path | None = None
    server_name: str | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    pins: frozenset[bytes] = frozenset()
    min_version: Literal["1.2", "1.3"] = "1.2"


@dataclass(frozen=True, slots=True)
class ProviderTimeouts:
    connect: float
    first_byte: float
    idle: float


@dataclass(frozen=True, slots=True)
class Provider:
    """A service that receives traffic.

    dial: the only networks that may be dialled, whatever DNS says; empty means the default guard.
    host: which Host it sees, the client's or its own. connections: how many at once; None is no limit.
    """

    name: str
    operator: str
    zone: str
    endpoints: tuple[Endpoint, ...]
    dial: tuple[Network, ...]
    host: Literal["preserve", "provider"]
    headers: tuple[tuple[str, Secret], ...]
    tls: ProviderTls
    timeouts: ProviderTimeouts
    plaintext: bool
    connections: int | None


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


Source = ClientCertificate | Jwt | Directory | HomeCookie | Location


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


@dataclass(frozen=True, slots=True)
class CountryOverride:
    """The country of some networks, as the operator states it: an ISO code or `unknown`."""

    networks: tuple[Network, ...]
    country: str


@dataclass(frozen=True, slots=True)
class GeoIP:
    """Country data. databases: at least one, None is the embedded registry data. max_age: seconds, None is for ever.

    agree: whether all databases have to say the same of an address, or more than half. overrides: win over all.
    """

    databases: tuple[Path | None, ...] = (None,)
    max_age: float | None = None
    agree: Literal["all", "majority"] = "all"
    overrides: tuple[CountryOverride, ...] = ()


@dataclass(frozen=True, slots=True)
class TcpBind:
    """host is an address literal without brackets; port 0 lets the kernel choose."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class UnixBind:
    path: Path


Bind = TcpBind | UnixBind


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its key, both PEM, and what clients have to show.

    client_ca: PEM file of who vouches for clients; crl: files of revocation lists, PEM or DER.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    client_certificate: Literal["none", "optional", "required"] = "none"
    crl: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Listener:
    """Where clients come in. certificates: empty is plaintext; the first serves clients that name none.

    proxy_protocol: whether trusted proxies send, or have to send, a PROXY header first.
    """

    name: str
    binds: tuple[Bind, ...]
    protocol: Literal["http"]
    certificates: tuple[Certificate, ...]
    min_version: Literal["1.2", "1.3"]
    proxy_protocol: Literal["none", "optional", "required"] = "none"


@dataclass(frozen=True, slots=True)
class Limits:
    """head, target: bytes; headers: how many; body: bytes or None; connections: for each listener."""

    head: int
    headers: int
    target: int
    body: int | None
    pipelined: int
    connections: int


@dataclass(frozen=True, slots=True)
class Timeouts:
    """head: from a request's first byte to the end of its head. body_idle: between two pieces of its body.

    idle: without a byte from the provider, or taken by the client, in mid-response, and on tunnels.
    """

    head: float
    body_idle: float
    keep_alive: float
    connect: float
    first_byte: float
    idle: float
    drain: float
    withdrawn: float


@dataclass(frozen=True, slots=True)
class Log:
    """path None is standard output. subject: whether a record names the subject."""

    path: Path | None
    subject: bool


@dataclass(frozen=True, slots=True)
class Admin:
    bind: Bind
