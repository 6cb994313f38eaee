"""The whole policy file as a model, and the policy that it becomes."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from proxy.config.balancing import OverloadPart, RetriesPart
from proxy.config.geoip import GeoIPPart
from proxy.config.health import PlacePart
from proxy.config.law import ClassPart, GuaranteePart, Name, RoutePart, RulePart
from proxy.config.listening import AdminPart, LimitsPart, ListenerPart, LogPart, TimeoutsPart
from proxy.config.note import VALUE, Wrong
from proxy.config.part import Part, Several, Typed, words
from proxy.config.people import SubjectPart
from proxy.config.places import EVERYWHERE, ProviderPart, ZonePart
from proxy.config.processes import ControlPath, WorkersPart, WorkersText
from proxy.config.rates import RatesPart
from proxy.policy.countries import COUNTRIES, expand
from proxy.policy.policy import Policy
from proxy.policy.rates import Rates
from proxy.policy.settings import GeoIP, Zone


def _read_version(text: str) -> str:
    if text != "1":
        raise Wrong(f"version {VALUE} is not one that this program reads", "write `version: 1`")
    return text


class PolicyFile(Part):
    """A Domicile policy: which data may live where, and who may carry it there."""

    later: ClassVar[frozenset[str]] = frozenset({"keys"})

    version: Annotated[Literal["1"], Typed(_read_version, words("1"))] = Field(description="The format's version")
    zones: dict[Name, ZonePart] = Field(description="Legal areas, by name")
    geoip: GeoIPPart | None = Field(default=None, description="Where client addresses are")
    providers: dict[Name, ProviderPart] = Field(description="Services that receive traffic, by name")
    subject: SubjectPart = Field(default=SubjectPart(), description="How the home of a subject's data is found")
    classes: Several[ClassPart] | None = Field(default=None, description="Kinds of data; the first that matches")
    rules: Several[RulePart] | None = Field(default=None, description="The law; their order never matters")
    routes: Several[RoutePart] | None = Field(default=None, description="Preferences; the first that matches")
    guarantees: Several[GuaranteePart] | None = Field(
        default=None, description="What is proved whenever the file is read"
    )
    listeners: Several[ListenerPart] | None = Field(default=None, description="Where clients come in")
    limits: LimitsPart = Field(default=LimitsPart(), description="Bounds of what clients may send")
    timeouts: TimeoutsPart = Field(default=TimeoutsPart(), description="Deadlines")
    log: LogPart = Field(default=LogPart(), description="The access log")
    admin: AdminPart = Field(default=AdminPart(), description="Metrics, health and status")
    workers: WorkersText = Field(
        default=WorkersPart(), json_schema_extra={"default": "auto"}, description="Processes that serve"
    )
    control: ControlPath | None = Field(
        default=None, description="Unix socket at which a new program finds this one; left out: none"
    )
    location: PlacePart | None = Field(default=None, description="Where this proxy is")
    retries: RetriesPart = Field(default=RetriesPart(), description="When a request is tried again")
    rates: RatesPart | None = Field(default=None, description="Limits of rate")
    overload: OverloadPart = Field(default=OverloadPart(), description="How much the proxy takes on")

    def value(self, digest: str) -> Policy:
        timeouts = self.timeouts.value()
        return Policy(
            digest=digest,
            zones=_zones(self.zones),
            providers=tuple(part.value(name, timeouts) for name, part in self.providers.items()),
            rules=tuple(part.value() for part in self.rules or ()),
            classes=tuple(part.value() for part in self.classes or ()),
            routes=tuple(part.value() for part in self.routes or ()),
            guarantees=tuple(part.value() for part in self.guarantees or ()),
            subject=self.subject.value(),
            geoip=GeoIP() if self.geoip is None else self.geoip.value(),
            listeners=tuple(part.value() for part in self.listeners or ()),
            limits=self.limits.value(),
            timeouts=timeouts,
            log=self.log.value(),
            admin=self.admin.value(),
            workers=self.workers.value(),
            control=self.control,
            location=None if self.location is None else self.location.value(),
            retries=self.retries.value(),
            rates=Rates() if self.rates is None else self.rates.value(),
            overload=self.overload.value(),
        )


def _zones(parts: dict[str, ZonePart]) -> tuple[Zone, ...]:
    named = {
        name: expand([code for code in part.countries if code != EVERYWHERE], part.except_ or ())
        for name, part in parts.items()
    }
    taken = frozenset[str]().union(*named.values())
    return tuple(
        Zone(
            name,
            named[name]
            | (COUNTRIES - taken - expand(part.except_ or ()) if EVERYWHERE in part.countries else frozenset()),
        )
        for name, part in parts.items()
    )
