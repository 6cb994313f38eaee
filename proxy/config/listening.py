"""Listeners, bounds, deadlines, the log and the admin endpoints."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from proxy.config.addresses import read_bind
from proxy.config.clients import CertificatePart
from proxy.config.conditions import Flag
from proxy.config.figures import Age, Bound, Count, Duration, Grace, Size, TlsVersion
from proxy.config.law import Name
from proxy.config.part import OneOrSeveral, Part, Several, Typed, TypedHere, words
from proxy.config.scalars import one_of, read_text
from proxy.config.surroundings import Surroundings
from proxy.policy.settings import Admin, Bind, Limits, Listener, Log, Protocol, TcpBind, Timeouts


def _read_bind(text: str, surroundings: Surroundings) -> Bind:
    return read_bind(text, surroundings.folder)


def _read_log_path(text: str, surroundings: Surroundings) -> Path | None:
    return None if text == "stdout" else surroundings.folder / read_text(text)


BindText = Annotated[Bind, TypedHere(_read_bind, {"type": "string"})]
LogPath = Annotated[Path | None, TypedHere(_read_log_path, {"type": "string", "minLength": 1})]
_SPOKEN = ("http", "tls", "tcp")
Spoken = Annotated[Protocol, Typed(one_of(_SPOKEN), words(*_SPOKEN))]
_DUE = ("none", "optional", "required")
ProxyHeader = Annotated[Literal["none", "optional", "required"], Typed(one_of(_DUE), words(*_DUE))]


class ListenerTlsPart(Part):
    """TLS from clients."""

    certificates: Several[CertificatePart] = Field(description="The first serves clients that send no name")
    min_version: TlsVersion = Field(default="1.2", description="Lowest TLS version")


class ListenerPart(Part):
    """Where clients come in."""

    name: Name = Field(description="The listener's name, in metrics and logs too")
    bind: OneOrSeveral[BindText] = Field(description="ADDRESS:PORT, [ADDRESS]:PORT or unix:PATH")
    protocol: Spoken = Field(
        default="http", description="What clients speak; tls and tcp are passed on and never decrypted"
    )
    proxy_protocol: ProxyHeader = Field(
        default="none", description="Whether subject.trusted_proxies send a PROXY header first; nobody else may"
    )
    tls: ListenerTlsPart | None = Field(default=None, description="TLS from clients; left out: plaintext")

    def value(self) -> Listener:
        return Listener(
            name=self.name,
            binds=tuple(self.bind),
            protocol=self.protocol,
            certificates=() if self.tls is None else tuple(each.value() for each in self.tls.certificates),
            min_version="1.2" if self.tls is None else self.tls.min_version,
            proxy_protocol=self.proxy_protocol,
        )


class LimitsPart(Part):
    """Bounds of what clients may send."""

    head: Size = Field(
        default=32 << 10, json_schema_extra={"default": "32KiB"}, description="Bytes of a request's head"
    )
    headers: Count = Field(default=100, json_schema_extra={"default": 100}, description="Header fields of a request")
    target: Size = Field(
        default=8 << 10, json_schema_extra={"default": "8KiB"}, description="Bytes of a request's target"
    )
    body: Bound = Field(
        default=None,
        json_schema_extra={"default": "none"},
        description="Bytes of a request's body, or none for no limit",
    )
    pipelined: Count = Field(
        default=8, json_schema_extra={"default": 8}, description="Requests waiting on one connection"
    )
    connections: Count = Field(
        default=10_000, json_schema_extra={"default": 10000}, description="Connections of a listener at once"
    )

    def value(self) -> Limits:
        return Limits(self.head, self.headers, self.target, self.body, self.pipelined, self.connections)


class TimeoutsPart(Part):
    """Deadlines."""

    head: Duration = Field(
        default=10.0, json_schema_extra={"default": "10s"}, description="From a request's first byte to its head's end"
    )
    body_idle: Duration = Field(
        default=60.0, json_schema_extra={"default": "60s"}, description="Between two pieces of a request's body"
    )
    keep_alive: Duration = Field(
        default=75.0, json_schema_extra={"default": "75s"}, description="Between two requests of a connection"
    )
    connect: Duration = Field(
        default=3.0, json_schema_extra={"default": "3s"}, description="To a connection with a provider, TLS included"
    )
    first_byte: Duration = Field(
        default=30.0,
        json_schema_extra={"default": "30s"},
        description="From a request's end to its answer's first byte",
    )
    idle: Duration = Field(
        default=60.0,
        json_schema_extra={"default": "60s"},
        description="Without a byte in mid-answer, and on what is passed on",
    )
    drain: Grace = Field(
        default=30.0, json_schema_extra={"default": "30s"}, description="For what is in flight when the proxy stops"
    )
    withdrawn: Grace = Field(
        default=30.0,
        json_schema_extra={"default": "30s"},
        description="For requests in flight when their permit is withdrawn",
    )
    lifetime: Age = Field(
        default=None,
        json_schema_extra={"default": "none"},
        description="Of a connection of a tls or tcp listener, from its start; or none",
    )

    def value(self) -> Timeouts:
        return Timeouts(
            head=self.head,
            body_idle=self.body_idle,
            keep_alive=self.keep_alive,
            connect=self.connect,
            first_byte=self.first_byte,
            idle=self.idle,
            drain=self.drain,
            withdrawn=self.withdrawn,
            lifetime=self.lifetime,
        )


class LogPart(Part):
    """The access log."""

    path: LogPath = Field(
        default=None,
        json_schema_extra={"default": "stdout"},
        description="stdout, or a file; relative to the policy file",
    )
    subject: Flag = Field(default=False, description="Whether records name the subject")

    def value(self) -> Log:
        return Log(self.path, self.subject)


class AdminPart(Part):
    """Metrics, health and status."""

    bind: BindText = Field(
        default=TcpBind("127.0.0.1", 9400),
        json_schema_extra={"default": "127.0.0.1:9400"},
        description="ADDRESS:PORT, [ADDRESS]:PORT or unix:PATH",
    )

    def value(self) -> Admin:
        return Admin(self.bind)
