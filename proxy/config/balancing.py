"""Choice among endpoints, waiting, trying again, and what the proxy itself can bear."""

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from proxy.config.conditions import Flag
from proxy.config.figures import Age, Count, Duration, Factor, Number, Share
from proxy.config.note import VALUE, Wrong
from proxy.config.part import VARIABLE, Json, OneOrSeveral, Part, Typed, as_text, pattern, words
from proxy.config.scalars import one_of, or_none, read_size, read_weight
from proxy.policy.balance import Balance, Concurrency, Queue, Retries

KINDS: Final[dict[str, Any]] = {
    "peak-ewma": "peak_ewma",
    "round-robin": "round_robin",
    "least-connections": "least_connections",
    "weighted": "weighted",
    "consistent-hash": "consistent_hash",
}
"""As the file writes them, and as `Balance` does."""

MOST_ATTEMPTS = 10
MOST_REPLAY = 16 << 20


def _read_kind(text: str) -> str:
    return one_of(tuple(KINDS))(text)


def _read_endpoint_weight(text: str) -> float:
    weight = read_weight(text)
    if weight == 0:
        raise Wrong(f"{VALUE} is no weight of an endpoint", "write more than 0, or take the endpoint out")
    return weight


def _read_attempts(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MOST_ATTEMPTS:
        raise Wrong(f"{VALUE} is no number of attempts", f"write 1 (never again) to {MOST_ATTEMPTS}")
    return int(text)


def _read_replay(text: str) -> int | None:
    size = or_none(read_size)(text)
    if size is not None and size > MOST_REPLAY:
        raise Wrong(f"{VALUE} is too much to keep of every body", f"write at most {MOST_REPLAY >> 20}MiB")
    return size


_ABOVE_0: Json = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": VARIABLE}]}
_ATTEMPTS: Json = {
    "anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_ATTEMPTS}, {"type": "string", "pattern": VARIABLE}]
}
_REPLAY: Json = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": MOST_REPLAY},
        pattern("[0-9]{1,15}(B|KiB|MiB)?|none"),
    ]
}
Kind = Annotated[str, Typed(_read_kind, words(*KINDS))]
EndpointWeight = Annotated[float, Typed(_read_endpoint_weight, _ABOVE_0)]
Attempts = Annotated[int, Typed(_read_attempts, _ATTEMPTS)]
Replay = Annotated[int | None, Typed(_read_replay, _REPLAY)]


class BalancePart(Part):
    """How a provider's traffic is shared among its healthy endpoints. May be written as the kind alone."""

    kind: Kind = Field(
        default="peak-ewma",
        description="peak-ewma: of two drawn by chance, the one that is expected to answer first; "
        "consistent-hash: a subject stays with its endpoint",
    )
    weights: OneOrSeveral[EndpointWeight] | None = Field(
        default=None, description="One for each of the endpoints, in their order; left out: all alike"
    )
    bound: Factor = Field(
        default=1.25,
        description="With consistent-hash: how many times its part an endpoint may have of what is under way",
    )

    def value(self) -> Balance:
        return Balance(KINDS[self.kind], tuple(self.weights or ()), self.bound)


def _balance(value: object) -> object:
    return value if isinstance(value, dict) else {"kind": as_text(value)}


BalanceText = Annotated[BalancePart, BeforeValidator(_balance, json_schema_input_type=Kind | BalancePart)]


class QueuePart(Part):
    """Who waits while a provider is at its connection cap."""

    most: Count = Field(default=256, description="How many wait at once")
    longest: Duration = Field(default=3.0, json_schema_extra={"default": "3s"}, description="How long one waits")

    def value(self) -> Queue:
        return Queue(self.most, self.longest)


def _queue(value: object) -> object:
    return None if value == "none" else value


Nobody = Annotated[str, Typed(one_of(("none",)), words("none"))]
QueueText = Annotated[QueuePart | None, BeforeValidator(_queue, json_schema_input_type=Nobody | QueuePart)]


class RetriesPart(Part):
    """When a request is tried again, never beyond its permit."""

    share: Share = Field(default=0.2, json_schema_extra={"default": "20%"}, description="Retries to requests, at most")
    least: Number = Field(default=3.0, description="Retries a second that are free even so")
    attempts: Attempts = Field(
        default=3,
        description="The first among them; 1 is never again",
    )
    replay: Replay = Field(
        default=64 << 10,
        json_schema_extra={"default": "64KiB"},
        description="Bytes of a body that are kept to be sent again; or none",
    )
    hedge: Age = Field(
        default=None,
        json_schema_extra={"default": "none"},
        description="A read without an answer after so long is asked elsewhere too; or none",
    )

    def value(self) -> Retries:
        return Retries(self.share, self.least, self.attempts, self.replay or 0, self.hedge)


class OverloadPart(Part):
    """How many requests are under way at once; what is above is shed with a 503."""

    adaptive: Flag = Field(default=True, description="Whether latency finds the bound; else it is most")
    least: Count = Field(default=16, description="The lowest that it may find")
    most: Count = Field(default=10_000, description="The highest")
    tolerance: Factor = Field(default=2.0, description="How many times the unloaded latency those let in may take")

    def value(self) -> Concurrency:
        return Concurrency(self.adaptive, self.least, self.most, self.tolerance)
