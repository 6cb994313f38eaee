"""The `home_cookie` source."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

from proxy.config.conditions import Flag
from proxy.config.document import Brought
from proxy.config.note import VALUE, Wrong
from proxy.config.part import OneOrSeveral, Part, Typed, as_text, pattern
from proxy.config.scalars import read_duration
from proxy.config.tokens import CookieName
from proxy.config.trust import read_bytes, read_path
from proxy.policy.settings import Secret
from proxy.policy.subject import HomeCookie

_SMALLEST, _LARGEST = 32, 1024  # bytes; as in proxy.identity.home_cookie, which a test holds to this
_MONTH = 30 * 86400.0


def _key(value: object, info: ValidationInfo) -> Path | Secret:
    """What comes from the environment is the key itself, anything else the name of a file that holds it."""
    text = as_text(value)
    if isinstance(value, Brought):
        _judge(text.encode())
        return Secret(text)
    assert info.context is not None
    path = read_path(text, info.context)
    _judge(read_bytes(path).rstrip(b"\r\n"))
    return path


def _judge(key: bytes) -> None:
    if len(key) < _SMALLEST:
        raise Wrong("the key is too short", f"make one of {_SMALLEST} bytes or more: openssl rand -base64 {_SMALLEST}")
    if len(key) > _LARGEST:
        raise Wrong("the key is too long", f"a key has {_SMALLEST} to {_LARGEST} bytes")
    if len(set(key)) < 8:
        raise Wrong("the key can be guessed", f"make a random one: openssl rand -base64 {_SMALLEST}")


def _read_life(text: str) -> float:
    seconds = read_duration(text)
    if not 60 <= seconds <= 400 * 86400:  # RFC 6265bis section 5.5: no cookie outlives 400 days
        raise Wrong(f"{VALUE} is no life of a cookie", "write 1m to 400d")
    return seconds


KeyText = Annotated[
    Any,
    BeforeValidator(_key),
    WithJsonSchema({"type": "string", "minLength": 1, "description": "A file, or the key itself as ${NAME}"}),
]
Life = Annotated[float, Typed(_read_life, pattern("[0-9]{1,9}(\\.[0-9]{1,3})?(ms|s|m|h|d)"))]


class HomeCookiePart(Part):
    """A signed cookie that remembers, for a device, the home that a stronger source gave."""

    name: CookieName = Field(default="__Host-home", description="The cookie's name")
    keys: OneOrSeveral[KeyText] = Field(description="Files, or ${NAME}: the first signs, all verify; 32 bytes or more")
    max_age: Life = Field(
        default=_MONTH, json_schema_extra={"default": "30d"}, description="How long a home is remembered, at most 400d"
    )
    forward: Flag = Field(default=False, description="Whether the provider sees the cookie")

    def value(self) -> HomeCookie:
        return HomeCookie(self.name, tuple(self.keys), self.max_age, self.forward)
