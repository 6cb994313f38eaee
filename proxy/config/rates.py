"""Limits of rate, and the store that instances share them in."""

import math
import re
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from proxy.config.conditions import Tests, condition
from proxy.config.directories import Prefix, ValkeyPart, ValkeyUrl
from proxy.config.figures import Count
from proxy.config.home_cookies import KeyText
from proxy.config.law import Name
from proxy.config.note import VALUE, Wrong
from proxy.config.part import VARIABLE, Json, Part, Several, Typed, words
from proxy.config.scalars import one_of, read_number
from proxy.policy.balance import RateLimit
from proxy.policy.rates import Rates

MOST_KEYS: Final = 10_000_000


def _read_rate(text: str) -> float:
    rate = read_number(text)
    if rate == 0:
        raise Wrong(f"{VALUE} lets nothing through", "write requests a second, such as 100 or 0.5")
    return rate


def _prefix(longest: int) -> Typed:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= longest:
            raise Wrong(f"{VALUE} is no length of a prefix", f"write 1 to {longest}")
        return int(text)

    schema = {"type": "integer", "minimum": 1, "maximum": longest}
    return Typed(read, {"anyOf": [schema, {"type": "string", "pattern": VARIABLE}]})


def _read_keys(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MOST_KEYS:
        raise Wrong(f"{VALUE} is not as many as can be kept", f"write 1 to {MOST_KEYS}")
    return int(text)


_RATE: Json = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": VARIABLE}]}
_KEYS: Json = {
    "anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_KEYS}, {"type": "string", "pattern": VARIABLE}]
}
_COUNTED = ("subject", "network")
Rate = Annotated[float, Typed(_read_rate, _RATE)]
Counted = Annotated[Literal["subject", "network"], Typed(one_of(_COUNTED), words(*_COUNTED))]
Prefix4 = Annotated[int, _prefix(32)]
Prefix6 = Annotated[int, _prefix(128)]
Keys = Annotated[int, Typed(_read_keys, _KEYS)]


class RateStorePart(ValkeyPart):
    """A Valkey or Redis server that holds the buckets of all instances. May be written as its URL alone."""

    prefix: Prefix = Field(default="rate:", description="What stands before a bucket in the store's keys")


def _store(value: object) -> object:
    if value == "none":
        return None
    return value if isinstance(value, dict) else {"url": value}


Nowhere = Annotated[str, Typed(one_of(("none",)), words("none"))]
StoreText = Annotated[
    RateStorePart | None, BeforeValidator(_store, json_schema_input_type=Nowhere | ValkeyUrl | RateStorePart)
]


class RateLimitPart(Part):
    """At most so many requests a second of each subject, or each network, of what matches."""

    name: Name = Field(description="The limit's name, in metrics too")
    rate: Rate = Field(description="Requests a second that come back")
    burst: Count | None = Field(default=None, description="Requests at once; left out: those of one second")
    by: Counted = Field(
        default="subject", description="Who has a bucket: subject (its network where nobody was verified) or network"
    )
    when: Tests | None = Field(default=None, description="What it applies to; left out: everything")
    unless: Tests | None = Field(default=None, description="What it does not apply to, even so")
    prefix4: Prefix4 = Field(default=32, description="Bits that make an IPv4 network")
    prefix6: Prefix6 = Field(default=64, description="Bits that make an IPv6 network")
    keys: Keys = Field(default=100_000, description="Buckets kept at once; the one used longest ago makes room")

    def value(self) -> RateLimit:
        return RateLimit(
            name=self.name,
            rate=self.rate,
            burst=math.ceil(self.rate) if self.burst is None else self.burst,
            by=self.by,
            when=(self.when or Tests()).value(),
            unless=condition(self.unless),
            prefix4=self.prefix4,
            prefix6=self.prefix6,
            keys=self.keys,
        )


class RatesPart(Part):
    """Limits of rate; a request has to pass each that matches it, or gets a 429."""

    store: StoreText = Field(
        default=None,
        json_schema_extra={"default": "none"},
        description="valkeys://HOST[:PORT][/NUMBER] (valkey:// on loopback) that instances share; or none",
    )
    secret: KeyText | None = Field(
        default=None, description="With a store: makes its keys name nobody. A file, or ${NAME}; 32 bytes or more"
    )
    limits: Several[RateLimitPart] = Field(description="The limits")

    def value(self) -> Rates:
        return Rates(
            limits=tuple(each.value() for each in self.limits),
            store=None if self.store is None else self.store.value(),
            secret=self.secret,
        )
