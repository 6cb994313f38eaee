"""Zones and providers: where data may live, and who receives it."""

import base64
import binascii
import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from proxy.config.addresses import read_endpoint, read_host
from proxy.config.balancing import BalancePart, BalanceText, QueuePart, QueueText
from proxy.config.conditions import COUNTRY_SCHEMA, Flag, NetworkText, read_country
from proxy.config.figures import Count, Duration, TlsVersion
from proxy.config.health import UNCHECKED, HealthText, PlacePart
from proxy.config.law import Prose
from proxy.config.note import VALUE, Wrong
from proxy.config.part import OneOrSeveral, Part, Typed, pattern, words
from proxy.config.scalars import is_token, one_of
from proxy.config.surroundings import ZoneRef
from proxy.config.trust import AuthorityFile, CertificateFile, KeyFile
from proxy.policy.settings import Endpoint, Provider, ProviderTimeouts, ProviderTls, Secret, Timeouts

EVERYWHERE = "*"
_PIN = re.compile(r"sha256/(?P<digest>[A-Za-z0-9+/]{43}=)")
_VISIBLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
# Framing, hop-by-hop and conditional on this hop (RFC 9110 sections 7.2, 7.6, 10.1.1; RFC 9112 section 6).
_HOP = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OURS = frozenset({"forwarded", "via", "x-request-id"})


def _read_zone_country(text: str) -> str:
    if text == EVERYWHERE:
        return text
    if text == "unknown":
        raise Wrong("an unknown country belongs to no zone", "a rule's `when` may name it")
    return read_country(text)


def _read_pin(text: str) -> bytes:
    match = _PIN.fullmatch(text)
    if match is None:
        raise Wrong(f"{VALUE} is no pin", "write sha256/ and the base64 of the key's 32-byte digest")
    try:
        return base64.b64decode(match["digest"], validate=True)
    except binascii.Error:
        raise Wrong(f"{VALUE} is no pin", "its base64 is broken") from None


def read_field_name(text: str) -> str:
    """A header's name that the policy may give to a provider, or take from a client."""
    if not is_token(text):
        raise Wrong(f"{VALUE} is no header name", "letters, digits and hyphens (RFC 9110 section 5.1)")
    twin = text.lower().replace("_", "-")
    if twin in _HOP:
        raise Wrong(f"header {VALUE} is about one connection or one message", "it cannot be fixed")
    if twin in _OURS or twin.startswith("x-forwarded-"):
        raise Wrong(f"header {VALUE} is one that the proxy vouches for itself", "choose another name")
    return text


def _read_field_value(text: str) -> Secret:
    if not text:
        raise Wrong("the header's value is empty", "write one, or leave the header out")
    if any(mark in text for mark in "\r\n\0"):
        raise Wrong("the header's value has a line break or NUL", "keep it on one line (a file's last newline too)")
    if not _VISIBLE.fullmatch(text):
        raise Wrong("the header's value has characters that headers cannot carry", "visible ASCII, no space around it")
    return Secret(text)


ZoneCountry = Annotated[str, Typed(_read_zone_country, pattern("[A-Z]{2}|EEA|\\*"))]
ExceptCountry = Annotated[str, Typed(read_country, COUNTRY_SCHEMA)]
EndpointText = Annotated[Endpoint, Typed(read_endpoint, pattern("(https?|tls|tcp)://[^/?#@]+"))]
HostText = Annotated[str, Typed(read_host, {"type": "string"})]
Pin = Annotated[bytes, Typed(_read_pin, pattern("sha256/[A-Za-z0-9+/]{43}="))]
FieldName = Annotated[str, Typed(read_field_name, {"type": "string"})]
FieldValue = Annotated[Secret, Typed(_read_field_value, {"type": "string", "minLength": 1})]
HostSeen = Annotated[
    Literal["preserve", "provider"], Typed(one_of(("preserve", "provider")), words("preserve", "provider"))
]
_SENT = ("none", "v1", "v2")
ProxyHeaderSent = Annotated[Literal["none", "v1", "v2"], Typed(one_of(_SENT), words(*_SENT))]
_MODES = ("record", "enforce")
EvidenceMode = Annotated[Literal["record", "enforce"], Typed(one_of(_MODES), words(*_MODES))]


class ZonePart(Part):
    """A legal area: the countries whose subjects' data may live in it."""

    countries: OneOrSeveral[ZoneCountry] = Field(
        description='ISO 3166-1 codes, EU, EEA, or "*" for whatever no other zone names'
    )
    except_: OneOrSeveral[ExceptCountry] | None = Field(
        default=None, alias="except", description="Countries taken out of them"
    )


class ProviderTlsPart(Part):
    """How the provider is verified (always), and what it is shown."""

    ca: AuthorityFile | None = Field(
        default=None, description="PEM file of the CAs that it is verified by; left out: the system's"
    )
    server_name: HostText | None = Field(
        default=None, description="Name to ask for and verify; left out: the endpoint's host"
    )
    client_certificate: CertificateFile | None = Field(default=None, description="PEM file shown to the provider")
    client_key: KeyFile | None = Field(default=None, description="PEM file of its key, not encrypted")
    pins: OneOrSeveral[Pin] | None = Field(
        default=None, description="sha256/BASE64 of the leaf's public key; one must fit"
    )
    min_version: TlsVersion = Field(default="1.2", description="Lowest TLS version")

    def value(self) -> ProviderTls:
        return ProviderTls(
            ca=self.ca,
            server_name=self.server_name,
            client_certificate=self.client_certificate,
            client_key=self.client_key,
            pins=frozenset(self.pins or ()),
            min_version=self.min_version,
        )


class ProviderTimeoutsPart(Part):
    """Deadlines towards this provider. Left out: those of the whole policy."""

    connect: Duration | None = Field(default=None, description="To a connection, TLS included")
    first_byte: Duration | None = Field(default=None, description="From the request's end to the answer's first byte")
    idle: Duration | None = Field(default=None, description="Without a byte in mid-answer, and on what is passed on")


class ProviderLimitsPart(Part):
    """Bounds towards this provider."""

    connections: Count | None = Field(default=None, description="Connections at once; left out: no limit")
    queue: QueueText = Field(default=QueuePart(), description="Who waits where that is reached; or none")


class ProviderPart(Part):
    """A service that receives traffic."""

    later: ClassVar[frozenset[str]] = frozenset({"kind", "seal"})

    operator: Prose = Field(description="The company that runs it and could read what it stores")
    zone: ZoneRef = Field(description="The zone that it is in")
    endpoints: OneOrSeveral[EndpointText] = Field(
        description="https://HOST[:PORT], or http:// on loopback; tls:// or tcp://HOST:PORT for tls and tcp listeners"
    )
    dial: OneOrSeveral[NetworkText] | None = Field(
        default=None, description="The only networks that may be dialled, whatever DNS says"
    )
    host: HostSeen = Field(default="preserve", description="Which Host it sees: the client's, or its own")
    headers: dict[FieldName, FieldValue] | None = Field(default=None, description="Fixed request headers, never logged")
    tls: ProviderTlsPart = Field(default=ProviderTlsPart(), description="How it is verified")
    timeouts: ProviderTimeoutsPart = Field(default=ProviderTimeoutsPart(), description="Deadlines of its own")
    send_proxy: ProxyHeaderSent = Field(
        default="none", description="PROXY header that tells its tls:// and tcp:// endpoints the client"
    )
    limits: ProviderLimitsPart = Field(default=ProviderLimitsPart(), description="Bounds of its own")
    plaintext: Flag = Field(
        default=False, description="Permits http:// beyond loopback: anybody on the way can read it"
    )
    health: HealthText = Field(default=UNCHECKED, description="How its health is told; left out: by its traffic")
    balance: BalanceText = Field(default=BalancePart(), description="How its endpoints share its traffic")
    location: PlacePart | None = Field(default=None, description="Where it says that it is")
    evidence: EvidenceMode = Field(
        default="record",
        description="What becomes of one that cannot be there, or answers from outside its zone: enforce takes it out",
    )

    def value(self, name: str, timeouts: Timeouts) -> Provider:
        return Provider(
            name=name,
            operator=self.operator,
            zone=self.zone,
            endpoints=tuple(self.endpoints),
            dial=tuple(self.dial or ()),
            host=self.host,
            headers=tuple((self.headers or {}).items()),
            tls=self.tls.value(),
            timeouts=ProviderTimeouts(
                connect=self.timeouts.connect or timeouts.connect,
                first_byte=self.timeouts.first_byte or timeouts.first_byte,
                idle=self.timeouts.idle or timeouts.idle,
            ),
            plaintext=self.plaintext,
            connections=self.limits.connections,
            send_proxy=self.send_proxy,
            health=self.health.value(),
            passive=self.health.passive.value(),
            breaker=self.health.breaker.value(),
            balance=self.balance.value(),
            queue=None if self.limits.queue is None else self.limits.queue.value(),
            location=None if self.location is None else self.location.value(),
            evidence=self.evidence,
        )
