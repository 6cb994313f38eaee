"""`when` and `unless`. What they may test depends on whom they serve: nothing may test what it decides."""

from typing import Annotated, ClassVar

from pydantic import Field

from proxy.config.addresses import read_host_pattern, read_network, read_path_pattern
from proxy.config.note import VALUE, Wrong, did_you_mean
from proxy.config.part import VARIABLE, OneOrSeveral, Part, Typed, pattern, words
from proxy.config.scalars import one_of, read_flag, read_method
from proxy.config.surroundings import ActorRef, ClassRef, HomeRef, ListenerRef
from proxy.policy.countries import COUNTRIES, UNIONS, expand
from proxy.policy.facts import NO_SOURCE, STATED, UNKNOWN
from proxy.policy.protocols import SOURCE_KINDS
from proxy.policy.rules import Condition, Network

SOURCES = (*SOURCE_KINDS, STATED, NO_SOURCE)


def read_country(text: str) -> str:
    """An ISO 3166-1 alpha-2 code in upper case, `EU` or `EEA`."""
    if text in COUNTRIES or text in UNIONS:
        return text
    upper = text.upper()
    if upper in COUNTRIES or upper in UNIONS:
        raise Wrong(f"{VALUE} is no country code", "codes are upper case", suggestion=f"write {upper}")
    if upper == "UK":
        raise Wrong(f"{VALUE} is no country code", "the United Kingdom is GB")
    raise Wrong(f"{VALUE} is no country code", "write ISO 3166-1 codes of two letters, EU or EEA")


def _read_country_test(text: str) -> str:
    if text == UNKNOWN:
        return text
    try:
        return read_country(text)
    except Wrong as wrong:
        suggestion = wrong.suggestion or did_you_mean(text, [UNKNOWN])
        raise Wrong(wrong.what, f"{wrong.hint}, or unknown", suggestion=suggestion) from None


COUNTRY_SCHEMA = pattern("[A-Z]{2}|EEA")
Flag = Annotated[
    bool, Typed(read_flag, {"anyOf": [{"type": "boolean"}, {"enum": ["true", "false"]}, {"pattern": VARIABLE}]})
]
CountryTest = Annotated[str, Typed(_read_country_test, pattern("[A-Z]{2}|EEA|unknown"))]
HostTest = Annotated[str, Typed(read_host_pattern, {"type": "string"})]
PathTest = Annotated[str, Typed(read_path_pattern, pattern("/.*"))]
MethodTest = Annotated[str, Typed(read_method, {"type": "string"})]
NetworkText = Annotated[Network, Typed(read_network, {"type": "string"})]
SourceName = Annotated[str, Typed(one_of(SOURCES), words(*SOURCES))]


class ConnectionTests(Part):
    """Tests of the connection and the request alone. Every key must match, any value of a list will do."""

    barred: ClassVar[dict[str, str]] = dict.fromkeys(
        ("home", "source", "actor", "class"), "a stated home is looked at before anybody is identified"
    )

    country: OneOrSeveral[CountryTest] | None = Field(
        default=None, description="Country of the client's address: ISO codes, EU, EEA, unknown"
    )
    host: OneOrSeveral[HostTest] | None = Field(
        default=None, description="Host without port; *.suffix covers any depth below the suffix, not itself"
    )
    path: OneOrSeveral[PathTest] | None = Field(
        default=None, description="Path without query; /p/* covers /p, /p/ and all below; case counts"
    )
    method: OneOrSeveral[MethodTest] | None = Field(
        default=None, description="Methods; read is GET, HEAD and OPTIONS, write is all else and every upgrade"
    )
    listener: OneOrSeveral[ListenerRef] | None = Field(
        default=None, description="Listeners that the request came in by"
    )
    client: OneOrSeveral[NetworkText] | None = Field(
        default=None, description="Networks that hold the client's address"
    )
    ech: Flag | None = Field(default=None, description="Whether the ClientHello carried the encrypted-hello extension")

    def value(self) -> Condition:
        """The condition that this mapping stands for."""
        return Condition(
            home=_set(getattr(self, "home", None)),
            country=None if self.country is None else _countries(self.country),
            data_class=_set(getattr(self, "class_", None)),
            host=_set(self.host),
            path=_set(self.path),
            method=_set(self.method),
            listener=_set(self.listener),
            client=None if self.client is None else frozenset(self.client),
            source=_set(getattr(self, "source", None)),
            actor=_set(getattr(self, "actor", None)),
            ech=self.ech,
        )


class ClassTests(ConnectionTests):
    """Tests of everything but the class."""

    barred: ClassVar[dict[str, str]] = {"class": "classes are what is being decided here"}

    home: OneOrSeveral[HomeRef] | None = Field(
        default=None, description="Zones that the subject's data belongs to, or unknown"
    )
    source: OneOrSeveral[SourceName] | None = Field(default=None, description="Which kind of source gave the home")
    actor: OneOrSeveral[ActorRef] | None = Field(default=None, description="subject, unknown, or one of subject.actors")


class Tests(ClassTests):
    """Tests of every fact. Every key must match, any value of a list will do; {} matches everything."""

    barred: ClassVar[dict[str, str]] = {}

    class_: OneOrSeveral[ClassRef] | None = Field(
        default=None, alias="class", description="Kinds of data, or unclassified"
    )


def condition(tests: ConnectionTests | None) -> Condition | None:
    return None if tests is None else tests.value()


def _set(values: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def _countries(names: tuple[str, ...]) -> frozenset[str]:
    codes = expand([name for name in names if name != UNKNOWN], [])
    return frozenset(codes) | ({UNKNOWN} if UNKNOWN in names else frozenset())
