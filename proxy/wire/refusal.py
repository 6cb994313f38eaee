"""A message that is not passed on: what the client is told, and the cause that the record names."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """status: what a client gets for it. cause: a fixed short phrase, never text from the message.

    For a provider's message the status is always 502.
    """

    status: int
    cause: str
