"""Processes: how many serve, and where a new program finds the old one."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from proxy.config.addresses import read_socket
from proxy.config.conditions import Flag
from proxy.config.note import VALUE, Wrong
from proxy.config.part import VARIABLE, Json, Part, Typed, TypedHere, as_text
from proxy.config.surroundings import Surroundings
from proxy.policy.settings import Workers

MOST_WORKERS = 1024
"""More is a slip: no machine has as many processors for one proxy."""


def _read_count(text: str) -> int | None:
    if text == "auto":
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise Wrong(f"{VALUE} is no number of workers", f"write auto, or 1 to {MOST_WORKERS}")
    if int(text) > MOST_WORKERS:
        raise Wrong(f"{VALUE} is more workers than can be had", f"write auto, or at most {MOST_WORKERS}")
    return int(text)


def _read_control(text: str, surroundings: Surroundings) -> Path:
    return read_socket(text, surroundings.folder)


_COUNT: Json = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": MOST_WORKERS},
        {"type": "string", "pattern": f"^(auto|[0-9]{{1,4}})$|{VARIABLE}"},
    ]
}
WorkerCount = Annotated[int | None, Typed(_read_count, _COUNT)]
ControlPath = Annotated[Path, TypedHere(_read_control, {"type": "string", "minLength": 1})]


class WorkersPart(Part):
    """The processes that serve. May be written as the count alone."""

    count: WorkerCount = Field(
        default=None,
        json_schema_extra={"default": "auto"},
        description="How many; auto is one for each processor that the proxy may run on",
    )
    affinity: Flag = Field(default=False, description="Whether each stays on a processor of its own")

    def value(self) -> Workers:
        return Workers(self.count, self.affinity)


def _workers(value: object) -> object:
    return value if isinstance(value, dict) else WorkersPart.model_construct(count=_read_count(as_text(value)))


WorkersText = Annotated[WorkersPart, BeforeValidator(_workers, json_schema_input_type=WorkerCount | WorkersPart)]
