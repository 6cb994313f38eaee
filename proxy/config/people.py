"""The subject: how its home is found."""

from typing import Annotated

from pydantic import Field

from proxy.config.client_header import ClientHeaderPart
from proxy.config.clients import ClientCertificatePart
from proxy.config.conditions import ConnectionTests, Flag, NetworkText, condition
from proxy.config.directories import DirectoryPart
from proxy.config.home_cookies import HomeCookiePart
from proxy.config.note import VALUE, Wrong
from proxy.config.part import OneOrSeveral, Part, Several, Typed, any_key, pattern
from proxy.config.proxy_headers import ProxyHeaderPart
from proxy.config.scalars import read_name
from proxy.config.surroundings import ZoneRef
from proxy.config.tokens import JwtPart
from proxy.policy.protocols import SOURCE_KINDS
from proxy.policy.rules import StatedHome
from proxy.policy.subject import Location, Source, Subject


def _read_actor(text: str) -> str:
    if text == "subject":
        raise Wrong(f"the name {VALUE} is reserved", "it is the subject's own")
    return read_name(text)


ActorName = Annotated[str, Typed(_read_actor, pattern("[a-z][a-z0-9-]*"))]


class LocationPart(Part):
    """The zone of the country that the client's address is in."""

    accounts: Flag = Field(default=False, description="Also for verified subjects whose home nobody knows")

    def value(self) -> Location:
        return Location(self.accounts)


class SourcePart(Part):
    """One source of the home: exactly one key."""

    model_config = any_key(*SOURCE_KINDS)

    jwt: JwtPart | None = Field(default=None, description="Signed tokens")
    client_certificate: ClientCertificatePart | None = Field(default=None, description="Certificates of clients")
    directory: DirectoryPart | None = Field(default=None, description="Who lives where, by the word of a store")
    home_cookie: HomeCookiePart | None = Field(default=None, description="What a stronger source said of this device")
    proxy_header: ProxyHeaderPart | None = Field(default=None, description="Fields of a PROXY v2 header")
    location: LocationPart | None = Field(default=None, description="The client's country")

    def value(self) -> Source:
        kinds = (self.jwt, self.client_certificate, self.directory, self.home_cookie, self.proxy_header, self.location)
        part = next((each for each in kinds if each is not None), None)
        assert part is not None  # `whole` counts the keys
        return part.value()


class StatedPart(Part):
    """A home that the operator states, looked at before the sources."""

    home: ZoneRef = Field(description="The zone")
    when: ConnectionTests | None = Field(default=None, description="What it holds for; left out: everything")
    unless: ConnectionTests | None = Field(default=None, description="What it does not hold for, even so")

    def value(self) -> StatedHome:
        return StatedHome(self.home, (self.when or ConnectionTests()).value(), condition(self.unless))


class SubjectPart(Part):
    """Whose data it is, and who acts on it."""

    trusted_proxies: OneOrSeveral[NetworkText] | None = Field(
        default=None, description="Networks whose forwarding headers are believed"
    )
    client_header: ClientHeaderPart | None = Field(
        default=None, description="A CDN's header that holds the client's address"
    )
    sources: Several[SourcePart] | None = Field(
        default=None, description="Where the home comes from; the first that knows wins"
    )
    stated: Several[StatedPart] | None = Field(default=None, description="Homes that the operator states")
    actors: OneOrSeveral[ActorName] | None = Field(default=None, description="Kinds of staff that tokens may name")

    def value(self) -> Subject:
        return Subject(
            trusted_proxies=tuple(self.trusted_proxies or ()),
            sources=tuple(source.value() for source in self.sources or ()),
            stated=tuple(stated.value() for stated in self.stated or ()),
            actors=frozenset(self.actors or ()),
            client_header=None if self.client_header is None else self.client_header.value(),
        )
