"""The `proxy_header` source: which fields of a PROXY v2 header say whose data a connection carries."""

import re
from typing import Annotated

from pydantic import Field, model_validator

from proxy.config.note import VALUE, Wrong
from proxy.config.part import Json, Part, Typed, any_key, pattern
from proxy.policy.subject import ProxyHeaderSource

# Types of the specification (2.2.1, 2.2.2 and 2.2.7): those that have a meaning for whoever connects, and those
# that are left to whoever runs both ends.
_NAMED = {"authority": 0x02, "unique_id": 0x05}
_CUSTOM = re.compile(r"0[xX][eE]([0-9a-fA-F])")
_HINT = "write one from 0xE0 to 0xEF"


def _read_custom(text: str) -> int:
    match = _CUSTOM.fullmatch(text)
    if match is None:
        number = int(text) if re.fullmatch(r"[0-9]{1,3}", text) else 0
        suggestion = f"write 0x{number:X}" if 0xE0 <= number <= 0xEF else None
        raise Wrong(f"{VALUE} is no type of a field that proxies may give a meaning", _HINT, suggestion=suggestion)
    return 0xE0 + int(match[1], 16)


def _read_subject(text: str) -> int:
    if text in _NAMED:
        return _NAMED[text]
    try:
        return _read_custom(text)
    except Wrong as wrong:
        hint = f"{_HINT}, authority or unique_id"
        raise Wrong(wrong.what, hint, suggestion=wrong.suggestion) from None


# YAML 1.2 knows hexadecimal numbers.
_TYPE: Json = {"type": "integer", "minimum": 0xE0, "maximum": 0xEF}
_WRITTEN = "0[xX][eE][0-9a-fA-F]"
Custom = Annotated[int, Typed(_read_custom, {"anyOf": [_TYPE, pattern(_WRITTEN)]})]
OfSubject = Annotated[int, Typed(_read_subject, {"anyOf": [_TYPE, pattern(f"{_WRITTEN}|authority|unique_id")]})]


class ProxyHeaderPart(Part):
    """What a trusted proxy says in a PROXY v2 header, by the types of its fields (TLVs)."""

    model_config = any_key("home_from", "subject_from")

    home_from: Custom | None = Field(
        default=None, description="Field with the home: a zone's name or an ISO code; left out: it names no home"
    )
    subject_from: OfSubject | None = Field(
        default=None, description="Field with the subject; authority and unique_id too; left out: it names nobody"
    )
    actor_from: Custom | None = Field(default=None, description="Field with who acts, if not the subject")

    @model_validator(mode="after")
    def _consistent(self) -> "ProxyHeaderPart":
        named = [each for each in (self.home_from, self.subject_from, self.actor_from) if each is not None]
        if self.home_from is None and self.subject_from is None:
            raise Wrong("the source says nothing", "give it `home_from`, `subject_from` or both")
        if self.actor_from is not None and self.subject_from is None:
            raise Wrong("`actor_from` without `subject_from`", "staff act on somebody's data: say whose")
        if len(set(named)) < len(named):
            raise Wrong("one field for two meanings", "give each a type of its own")
        return self

    def value(self) -> ProxyHeaderSource:
        return ProxyHeaderSource(self.home_from, self.subject_from, self.actor_from)
