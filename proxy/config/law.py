"""Selectors, rules, classes, routes and guarantees."""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from proxy.config.conditions import ClassTests, Flag, Tests, condition
from proxy.config.note import VALUE, Wrong
from proxy.config.part import VARIABLE, Json, OneOrSeveral, Part, Several, Typed, any_key, pattern
from proxy.config.scalars import read_authority, read_instant, read_name, read_prose, read_weight
from proxy.config.surroundings import OperatorRef, ProviderRef, ZoneRef
from proxy.policy.facts import UNCLASSIFIED
from proxy.policy.rules import Condition, DataClass, Guarantee, Preference, Route, Rule, Selector, Term


def _read_class(text: str) -> str:
    if text == UNCLASSIFIED:
        raise Wrong(f"the name {VALUE} is reserved", "it is the class of what no class matches")
    return read_name(text)


NAME_SCHEMA = pattern("[a-z][a-z0-9-]*")
Name = Annotated[str, Typed(read_name, NAME_SCHEMA)]
ClassName = Annotated[str, Typed(_read_class, NAME_SCHEMA)]
Prose = Annotated[str, Typed(read_prose, {"type": "string", "minLength": 1})]
Authority = Annotated[str, Typed(read_authority, pattern("https?://[^ \"'<>]+"))]
Instant = Annotated[float, Typed(read_instant, {"type": "string"})]
Weight = Annotated[
    float, Typed(read_weight, {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": VARIABLE}]})
]


class TermPart(Part):
    """Providers, described: every key must fit, any value of a list will do."""

    model_config = any_key("zones", "operators", "providers")

    zones: OneOrSeveral[ZoneRef] | None = Field(default=None, description="Zones that hold the provider")
    operators: OneOrSeveral[OperatorRef] | None = Field(default=None, description="Operators that run the provider")
    providers: OneOrSeveral[ProviderRef] | None = Field(default=None, description="Providers by name")
    from_: Instant | None = Field(
        default=None, alias="from", description="In force from this moment on; needs an offset"
    )
    until: Instant | None = Field(default=None, description="In force before this moment; needs an offset")

    @model_validator(mode="after")
    def _selects(self) -> "TermPart":
        described = (self.zones, self.operators, self.providers) != (None, None, None)
        if not described and not isinstance(self, _AnyPart):
            raise Wrong("the selector is empty", "name zones, operators or providers, or write any for all")
        return self

    def value(self) -> Term:
        return Term(
            zones=None if self.zones is None else frozenset(self.zones),
            operators=None if self.operators is None else frozenset(self.operators),
            providers=None if self.providers is None else frozenset(self.providers),
            from_=self.from_,
            until=self.until,
        )


class _AnyPart(TermPart):
    """Written `any`: every provider."""


def _term(value: object) -> object:
    if value == "any":
        return _AnyPart.model_construct()
    return {"zones": value} if isinstance(value, str) else value


_TERM_SCHEMA: Json = {"type": "string", "description": "any, or a zone's name"}
TermText = Annotated[str, Typed(str, _TERM_SCHEMA)]
SelectorPart = OneOrSeveral[Annotated[TermPart, BeforeValidator(_term, json_schema_input_type=TermText | TermPart)]]


class RulePart(Part):
    """One law: what it allows, narrows and forbids, and when. At least one of allow, only and forbid."""

    model_config = any_key("allow", "only", "forbid")

    name: Name = Field(description="The rule's name, in metrics and logs too")
    because: Prose | None = Field(default=None, description="The law that it carries out")
    authority: Authority | None = Field(default=None, description="Who demands it, as a URL: the Link of a 451 answer")
    when: Tests | None = Field(default=None, description="What it applies to; left out: everything")
    unless: Tests | None = Field(default=None, description="What it does not apply to, even so")
    allow: SelectorPart | None = Field(default=None, description="Grants these providers, and leaves out all others")
    only: SelectorPart | None = Field(default=None, description="Leaves out all other providers, and grants none")
    forbid: SelectorPart | None = Field(default=None, description="Takes these providers away")
    from_: Instant | None = Field(
        default=None, alias="from", description="In force from this moment on; needs an offset"
    )
    until: Instant | None = Field(default=None, description="In force before this moment; needs an offset")

    def value(self) -> Rule:
        return Rule(
            name=self.name,
            when=_when(self.when),
            unless=condition(self.unless),
            allow=selector(self.allow),
            only=selector(self.only),
            forbid=selector(self.forbid),
            because=self.because,
            authority=self.authority,
            from_=self.from_,
            until=self.until,
        )


class ClassPart(Part):
    """One kind of data. The first that matches; else unclassified."""

    class_: ClassName = Field(alias="class", description="The class's name")
    when: ClassTests | None = Field(default=None, description="What belongs to it; left out: everything")
    unless: ClassTests | None = Field(default=None, description="What does not, even so")

    def value(self) -> DataClass:
        return DataClass(self.class_, (self.when or ClassTests()).value(), condition(self.unless))


class PreferencePart(Part):
    """One provider of a route, with its share."""

    provider: ProviderRef = Field(description="The provider's name")
    weight: Weight | None = Field(default=None, description="Its share; either all of a route have one or none")


def _preference(value: object) -> object:
    return {"provider": value} if isinstance(value, str) else value


class RoutePart(Part):
    """What the operator prefers among permitted providers. The first that matches."""

    when: Tests | None = Field(default=None, description="What it applies to; left out: everything")
    unless: Tests | None = Field(default=None, description="What it does not apply to, even so")
    only: SelectorPart | None = Field(default=None, description="Limits the choice")
    prefer: (
        Several[
            Annotated[PreferencePart, BeforeValidator(_preference, json_schema_input_type=ProviderRef | PreferencePart)]
        ]
        | None
    ) = Field(default=None, description="Orders the choice: by weights, or as listed")
    strict: Flag = Field(default=False, description="Leaves out permitted providers that prefer does not list")

    def value(self) -> Route:
        return Route(
            when=_when(self.when),
            unless=condition(self.unless),
            only=selector(self.only),
            prefer=tuple(Preference(each.provider, each.weight) for each in self.prefer or ()),
            strict=self.strict,
        )


class GuaranteePart(Part):
    """What must hold whatever rules and routes say; proved whenever the file is read. One of only and never."""

    model_config = any_key("only", "never")

    when: Tests | None = Field(default=None, description="What it holds for; left out: everything")
    unless: Tests | None = Field(default=None, description="What it does not hold for, even so")
    only: SelectorPart | None = Field(default=None, description="No other provider is ever reached")
    never: SelectorPart | None = Field(default=None, description="These providers are never reached")

    def value(self) -> Guarantee:
        return Guarantee(_when(self.when), condition(self.unless), selector(self.only), selector(self.never))


def selector(part: SelectorPart | None) -> Selector | None:
    return None if part is None else tuple(term.value() for term in part)


def _when(tests: Tests | None) -> Condition:
    return (tests or Tests()).value()
