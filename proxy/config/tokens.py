"""The `jwt` source: where tokens are, and the keys that verify them."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from proxy.config.addresses import read_http_url
from proxy.config.conditions import Flag
from proxy.config.figures import Duration, Leeway
from proxy.config.key_sets import KeySetFile, read_key_set_file
from proxy.config.law import Prose
from proxy.config.note import VALUE, Wrong
from proxy.config.part import Part, Typed, any_key, as_text, pattern
from proxy.config.places import read_field_name
from proxy.config.scalars import is_token, read_claim
from proxy.config.trust import AuthorityFile
from proxy.policy.subject import Jwt, KeySetUrl, TokenPlace

_SCHEME = "://"


def _read_token_header(text: str) -> str:
    name = read_field_name(text).lower()
    if name == "authorization":
        raise Wrong("bearer tokens in Authorization are read without `token`", "leave `token` out")
    if name == "cookie":
        raise Wrong("a token in a cookie is named by the cookie", "write {cookie: NAME}")
    return name


def read_cookie_name(text: str) -> str:
    """A cookie's name; case counts."""
    if not is_token(text):
        raise Wrong(f"{VALUE} is no cookie name", "letters, digits, hyphens and underscores (RFC 6265 section 4.1.1)")
    if len(text) > 64:
        raise Wrong(f"{VALUE} is too long", "keep it to 64 characters")
    return text


Claim = Annotated[str, Typed(read_claim, {"type": "string", "minLength": 1})]
TokenHeader = Annotated[str, Typed(_read_token_header, {"type": "string"})]
CookieName = Annotated[str, Typed(read_cookie_name, {"type": "string", "minLength": 1})]
Url = Annotated[str, Typed(read_http_url, pattern("https?://[^#@]+"))]


class KeySetPart(Part):
    """A key set that its issuer publishes."""

    url: Url = Field(description="https://HOST/PATH; http:// on this machine alone")
    ca: AuthorityFile | None = Field(
        default=None, description="PEM file of the CAs that its server is verified by; left out: the system's"
    )
    max_age: Duration = Field(
        default=600.0, json_schema_extra={"default": "10m"}, description="How old keys may become; fetched again before"
    )
    keep: Duration = Field(
        default=86400.0,
        json_schema_extra={"default": "24h"},
        description="How long keys serve while the issuer cannot be reached",
    )
    timeout: Duration = Field(default=5.0, json_schema_extra={"default": "5s"}, description="Bound of one fetch")

    @model_validator(mode="after")
    def _lasts(self) -> "KeySetPart":
        if self.keep < self.max_age:
            raise Wrong("`keep` is shorter than `max_age`", "keys would end before they are fetched again")
        if self.timeout >= self.max_age:
            raise Wrong("`timeout` is not shorter than `max_age`", "a fetch could take longer than keys last")
        return self

    def value(self) -> KeySetUrl:
        return KeySetUrl(self.url, self.ca, self.max_age, self.keep, self.timeout)


class _LocalPart(KeySetPart):
    """Written as a path: a file."""

    path: Any = None


def _key_set(value: object, info: ValidationInfo) -> object:
    if isinstance(value, dict):
        return value
    if _SCHEME in (text := as_text(value)):
        return {"url": text}
    assert info.context is not None
    return _LocalPart.model_construct(path=read_key_set_file(text, info.context))


KeySet = Annotated[KeySetPart, BeforeValidator(_key_set, json_schema_input_type=KeySetFile | Url | KeySetPart)]


class TokenPart(Part):
    """Where the token is, if not in Authorization: exactly one key."""

    model_config = any_key("header", "cookie")

    header: TokenHeader | None = Field(default=None, description="A header that holds the token and nothing else")
    cookie: CookieName | None = Field(default=None, description="A cookie that holds the token and nothing else")

    @model_validator(mode="after")
    def _one(self) -> "TokenPart":
        if (self.header is None) == (self.cookie is None):
            raise Wrong("a token is in one place", "write {header: NAME} or {cookie: NAME}")
        return self

    def value(self) -> TokenPlace:
        if self.header is not None:
            return TokenPlace("header", self.header)
        return TokenPlace("cookie", self.cookie or "")


class JwtPart(Part):
    """Signed tokens: RS256, ES256 and EdDSA."""

    jwks: KeySet = Field(description="The issuer's public keys: a JSON Web Key Set file, or its URL")
    issuer: Prose = Field(description="The iss that tokens must have")
    audience: Prose = Field(description="The aud that tokens must have")
    token: TokenPart | None = Field(default=None, description="Where the token is; left out: a bearer in Authorization")
    subject_claim: Claim = Field(default="sub", description="The claim that names the subject; dots go down")
    home_claim: Claim = Field(description="The claim that holds the home: a zone's name or an ISO code")
    actor_claim: Claim | None = Field(default=None, description="The claim that names who acts, if not the subject")
    leeway: Leeway = Field(
        default=30.0, json_schema_extra={"default": "30s"}, description="How far clocks may be apart, at most 5m"
    )
    forward: Flag = Field(default=True, description="Whether the provider sees the token")

    def value(self) -> Jwt:
        return Jwt(
            jwks=self.jwks.path if isinstance(self.jwks, _LocalPart) else self.jwks.value(),
            issuer=self.issuer,
            audience=self.audience,
            subject_claim=self.subject_claim,
            home_claim=self.home_claim,
            actor_claim=self.actor_claim,
            leeway=self.leeway,
            forward=self.forward,
            token=None if self.token is None else self.token.value(),
        )
