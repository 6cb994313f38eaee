"""The subject: how its home is found."""

from typing import Annotated, ClassVar

from pydantic import Field

from proxy.config.conditions import ConnectionTests, Flag, NetworkText, condition
from proxy.config.directories import DirectoryPart
from proxy.config.figures import Leeway
from proxy.config.key_sets import KeySetFile
from proxy.config.law import Prose
from proxy.config.note import VALUE, Wrong
from proxy.config.part import OneOrSeveral, Part, Several, Typed, any_key, pattern
from proxy.config.scalars import read_claim, read_name
from proxy.config.surroundings import ZoneRef
from proxy.policy.rules import StatedHome
from proxy.policy.settings import Jwt, Location, Source, Subject


def _read_actor(text: str) -> str:
    if text == "subject":
        raise Wrong(f"the name {VALUE} is reserved", "it is the subject's own")
    return read_name(text)


Claim = Annotated[str, Typed(read_claim, {"type": "string", "minLength": 1})]
ActorName = Annotated[str, Typed(_read_actor, pattern("[a-z][a-z0-9-]*"))]


class JwtPart(Part):
    """Signed bearer tokens: RS256, ES256 and EdDSA."""

    jwks: KeySetFile = Field(description="JSON Web Key Set of the issuer's public keys; relative to the policy file")
    issuer: Prose = Field(description="The iss that tokens must have")
    audience: Prose = Field(description="The aud that tokens must have")
    subject_claim: Claim = Field(default="sub", description="The claim that names the subject; dots go down")
    home_claim: Claim = Field(description="The claim that holds the home: a zone's name or an ISO code")
    actor_claim: Claim | None = Field(default=None, description="The claim that names who acts, if not the subject")
    leeway: Leeway = Field(
        default=30.0, json_schema_extra={"default": "30s"}, description="How far clocks may be apart, at most 5m"
    )
    forward: Flag = Field(default=True, description="Whether the provider sees the token")

    def value(self) -> Jwt:
        return Jwt(
            jwks=self.jwks,
            issuer=self.issuer,
            audience=self.audience,
            subject_claim=self.subject_claim,
            home_claim=self.home_claim,
            actor_claim=self.actor_claim,
            leeway=self.leeway,
            forward=self.forward,
        )


class LocationPart(Part):
    """The zone of the country that the client's address is in."""

    accounts: Flag = Field(default=False, description="Also for verified subjects whose home nobody knows")

    def value(self) -> Location:
        return Location(self.accounts)


class SourcePart(Part):
    """One source of the home: exactly one key."""

    model_config = any_key("jwt", "directory", "location")
    later: ClassVar[frozenset[str]] = frozenset({"client_certificate", "home_cookie"})

    jwt: JwtPart | None = Field(default=None, description="Signed bearer tokens")
    directory: DirectoryPart | None = Field(default=None, description="Who lives where, by the word of a store")
    location: LocationPart | None = Field(default=None, description="The client's country")

    def value(self) -> Source:
        part = self.jwt or self.directory or self.location
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
        )
