"""A CDN's header with the client's address, and whose word it is."""

from typing import Annotated

from pydantic import Field

from proxy.config.conditions import NetworkText
from proxy.config.note import VALUE, Wrong
from proxy.config.part import OneOrSeveral, Part, Typed, pattern
from proxy.config.places import read_field_name
from proxy.policy.subject import ClientHeader

_CREDENTIALS = frozenset({"authorization", "cookie"})


def _read_name(text: str) -> str:
    name = text.lower()
    if name in ("forwarded", "x-forwarded-for"):
        raise Wrong(
            f"header {VALUE} is a chain of proxies", "it is believed from `trusted_proxies`, by rules of its own"
        )
    if name in _CREDENTIALS:
        raise Wrong(f"header {VALUE} holds no address", "name one such as CF-Connecting-IP")
    if "_" in text:
        raise Wrong(f"header {VALUE} has an underscore", "names with underscores are twins, which are never believed")
    return read_field_name(text).lower()


FieldName = Annotated[str, Typed(_read_name, pattern("[A-Za-z0-9-]+"))]


class ClientHeaderPart(Part):
    """A header that a CDN sets to its client's address. From anybody else it is dropped."""

    name: FieldName = Field(description="The header's name, such as CF-Connecting-IP")
    from_: OneOrSeveral[NetworkText] = Field(alias="from", description="The CDN's own networks")

    def value(self) -> ClientHeader:
        return ClientHeader(self.name, tuple(self.from_))
