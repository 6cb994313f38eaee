"""How a provider's health is told, and where on earth something is."""

import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.config.addresses import read_authority, read_origin_form
from proxy.config.figures import Count, CountOrNone, Duration, FactorOrNone, Grace
from proxy.config.note import VALUE, Wrong
from proxy.config.part import VARIABLE, Json, OneOrSeveral, Part, Typed, as_text, pattern, words
from proxy.config.scalars import one_of, or_none, read_share, read_text
from proxy.policy.health import Breaker, HealthCheck, Location, Passive

KINDS = ("http", "tls", "tcp", "none")
# Of final answers: a check goes on past a 1xx, and nothing else is an answer.
_STATUSES = re.compile(r"([2-5][0-9]{2})(?:-([2-5][0-9]{2}))?")
_DEGREES = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{1,10})?")


def _read_jitter(text: str) -> float:
    share = read_share(text)
    if share > 0.5:
        raise Wrong(f"{VALUE} is too much", "write at most 50%: checks keep their pace")
    return share


def _read_failing(text: str) -> float:
    share = read_share(text)
    if share == 0.0:
        raise Wrong(f"{VALUE} would do without any failure", "write more than 0%")
    return share


def _read_statuses(text: str) -> frozenset[int]:
    match = _STATUSES.fullmatch(text)
    if match is None:
        suggestion = f"write {text[0]}00-{text[0]}99" if re.fullmatch("[2-5][xX]{2}", text) else None
        raise Wrong(f"{VALUE} is no status", "write a code or a range from 200 to 599", suggestion=suggestion)
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise Wrong(f"{VALUE} is an empty range", "the lower code comes first", suggestion=f"write {last}-{first}")
    return frozenset(range(first, last + 1))


def _degrees(most: int, positive: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not _DEGREES.fullmatch(text) or abs(float(text)) > most:
            hint = f"write degrees from -{most} to {most}, {positive} being positive"
            raise Wrong(f"{VALUE} is not where anything is", hint)
        return float(text)

    return read


def _degrees_schema(most: int) -> Json:
    return {"anyOf": [{"type": "number", "minimum": -most, "maximum": most}, {"type": "string", "pattern": VARIABLE}]}


_PERCENT = "[0-9]{1,3}(\\.[0-9]{1,6})?%"
Kind = Annotated[Literal["http", "tls", "tcp", "none"], Typed(one_of(KINDS), words(*KINDS))]
CheckPath = Annotated[str, Typed(read_origin_form, pattern("/.*"))]
CheckHost = Annotated[str, Typed(read_authority, {"type": "string", "minLength": 1})]
CheckText = Annotated[str, Typed(read_text, {"type": "string", "minLength": 1})]
Jitter = Annotated[
    float, Typed(_read_jitter, {"anyOf": [{"type": "number", "minimum": 0, "maximum": 0.5}, pattern(_PERCENT)]})
]
Failing = Annotated[
    float | None,
    Typed(
        or_none(_read_failing),
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, pattern(f"{_PERCENT}|none")]},
    ),
]
Statuses = Annotated[
    frozenset[int],
    Typed(
        _read_statuses,
        {"anyOf": [{"type": "integer", "minimum": 200, "maximum": 599}, pattern("[2-5][0-9]{2}(-[2-5][0-9]{2})?")]},
    ),
]
Latitude = Annotated[float, Typed(_degrees(90, "north"), _degrees_schema(90))]
Longitude = Annotated[float, Typed(_degrees(180, "east"), _degrees_schema(180))]


class PlacePart(Part):
    """A place on earth, in degrees."""

    lat: Latitude = Field(description="Latitude: north is positive")
    lon: Longitude = Field(description="Longitude: east is positive")

    def value(self) -> Location:
        return Location(self.lat, self.lon)


class PassivePart(Part):
    """When traffic shows that an endpoint is sick."""

    window: Duration = Field(
        default=30.0, json_schema_extra={"default": "30s"}, description="How far back outcomes count"
    )
    samples: Count = Field(default=20, description="Outcomes without which a share says nothing")
    share: Failing = Field(
        default=0.5, json_schema_extra={"default": "50%"}, description="Share of failures, 5xx among them; or none"
    )
    consecutive: CountOrNone = Field(
        default=3,
        description="Failures of the connection in a row (refused, too slow, cut off); or none",
    )
    latency: FactorOrNone = Field(
        default=None,
        json_schema_extra={"default": "none"},
        description="How many times slower than the zone's other providers; or none",
    )

    def value(self) -> Passive:
        return Passive(self.window, self.samples, self.share, self.consecutive, self.latency)


class BreakerPart(Part):
    """For how long a sick endpoint is left alone, and how it comes back."""

    open: Duration = Field(
        default=5.0,
        json_schema_extra={"default": "5s"},
        description="After a trip; each further one doubles it",
    )
    longest: Duration = Field(default=60.0, json_schema_extra={"default": "60s"}, description="How far that goes")
    trials: Count = Field(default=3, description="Requests that try it then, of which most have to succeed")
    slow_start: Grace = Field(
        default=10.0,
        json_schema_extra={"default": "10s"},
        description="How long its share of traffic takes to grow back; 0s is at once",
    )

    def value(self) -> Breaker:
        return Breaker(self.open, self.longest, self.trials, self.slow_start)


class HealthPart(Part):
    """How a provider's health is told. May be written as the kind of its checks alone."""

    kind: Kind = Field(
        default="http",
        description="Checks: http is a GET, tls a handshake, tcp a connection; none is by traffic alone",
    )
    path: CheckPath = Field(default="/", description="What is asked for, perhaps with a query")
    host: CheckHost | None = Field(default=None, description="The Host that is asked; left out: the endpoint's own")
    interval: Duration = Field(default=5.0, json_schema_extra={"default": "5s"}, description="From check to check")
    jitter: Jitter = Field(
        default=0.1, json_schema_extra={"default": "10%"}, description="Share of it by which one comes sooner or later"
    )
    timeout: Duration = Field(default=2.0, json_schema_extra={"default": "2s"}, description="For the whole of a check")
    healthy: Count = Field(default=2, description="Good results in a row that bring an endpoint back")
    unhealthy: Count = Field(default=3, description="Bad results in a row that take it out")
    status: OneOrSeveral[Statuses] = Field(
        default=(frozenset(range(200, 300)),),
        json_schema_extra={"default": "200-299"},
        description="What is a good answer: codes and ranges",
    )
    body: CheckText | None = Field(default=None, description="Text that the answer's content has to hold")
    passive: PassivePart = Field(default=PassivePart(), description="When traffic shows that it is sick")
    breaker: BreakerPart = Field(default=BreakerPart(), description="For how long it is left alone then")

    def value(self) -> HealthCheck | None:
        """The checks; None where there are none."""
        if self.kind == "none":
            return None
        return HealthCheck(
            kind=self.kind,
            path=self.path,
            host=self.host,
            interval=self.interval,
            jitter=self.jitter,
            timeout=self.timeout,
            healthy=self.healthy,
            unhealthy=self.unhealthy,
            statuses=frozenset[int]().union(*self.status),
            body=self.body,
        )


UNCHECKED = HealthPart(kind="none")


def _health(value: object) -> object:
    return value if isinstance(value, dict) else {"kind": as_text(value)}


HealthText = Annotated[HealthPart, BeforeValidator(_health, json_schema_input_type=Kind | HealthPart)]
