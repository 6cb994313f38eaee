"""What a policy file says of providers, sources, listeners and bounds. Durations are seconds, sizes bytes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from proxy.policy.balance import Balance, Queue
from proxy.policy.health import Breaker, HealthCheck, Location, Passive
from proxy.policy.rules import Network

Protocol = Literal["http", "tls", "tcp"]
"""What the clients of a listener speak, as far as we look: see `protocols`."""


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


Scheme = Literal["https", "http", "tls", "tcp"]


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _host_and_port(host: str, port: int) -> str:
    return f"{_in_brackets(host)}:{port}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a provider. host is a DNS name or an address literal without brackets. As text: as a policy file
    writes it."""

    scheme: Scheme
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.label}"

    @property
    def label(self) -> str:
        """What metrics and the operator's screen call it: `host:port`."""
        return _host_and_port(self.host, self.port)

    @property
    def authority(self) -> str:
        """What a Host field calls it: without the port that its scheme has anyhow."""
        return _in_brackets(self.host) if self.port == (443 if self.scheme == "https" else 80) else self.label


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
    host: which Host it sees, the client's or its own. connections: how many at once; None is no limit. queue: who waits
    where that is reached; None is nobody.
    send_proxy: the PROXY header that its tls and tcp endpoints are told the client with, before all else.
    health: how its endpoints are checked; None is not at all, they are judged by their traffic alone.
    location: where it says that it is. evidence: whether one that cannot be there, or answers from outside its zone, is
    only recorded, or taken out of service.
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
    send_proxy: Literal["none", "v1", "v2"] = "none"
    health: HealthCheck | None = None
    passive: Passive = field(default_factory=Passive)
    breaker: Breaker = field(default_factory=Breaker)
    balance: Balance = field(default_factory=Balance)
    queue: Queue | None = field(default_factory=Queue)
    location: Location | None = None
    evidence: Literal["record", "enforce"] = "record"


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
    """host is an address literal without brackets; port 0 lets the kernel choose. As text: as a policy file has it."""

    host: str
    port: int

    def __str__(self) -> str:
        return _host_and_port(self.host, self.port)


@dataclass(frozen=True, slots=True)
class UnixBind:
    """As text: as a policy file writes it."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


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

    protocol: tls passes what clients send untouched, reading no more than their ClientHello; tcp reads nothing.
    proxy_protocol: whether trusted proxies send, or have to send, a PROXY header first.
    """

    name: str
    binds: tuple[Bind, ...]
    protocol: Protocol
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
    lifetime: of a connection of a tls or tcp listener, from its start; None is for ever.
    """

    head: float
    body_idle: float
    keep_alive: float
    connect: float
    first_byte: float
    idle: float
    drain: float
    withdrawn: float
    lifetime: float | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """path None is standard output. subject: whether a record names the subject."""

    path: Path | None
    subject: bool


@dataclass(frozen=True, slots=True)
class Admin:
    bind: Bind


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes that serve. count: None is one for each processor that we may run on.

    affinity: whether each stays on a processor of its own.
    """

    count: int | None = None
    affinity: bool = False


AUTO = Workers()
"""What a policy that says nothing of workers has."""
