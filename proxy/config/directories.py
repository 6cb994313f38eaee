"""The `directory` source: which store, by what key, and how long an answer is kept."""

import re
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from proxy.config.addresses import is_loopback, read_host, read_path_pattern, read_port
from proxy.config.conditions import Flag
from proxy.config.figures import Count, Duration
from proxy.config.note import VALUE, Wrong
from proxy.config.part import VARIABLE, Json, Part, Typed, any_key, pattern, words
from proxy.config.places import FieldName, FieldValue
from proxy.config.scalars import is_token, one_of, read_text
from proxy.config.trust import AnyPath, AuthorityFile
from proxy.policy.settings import Secret
from proxy.policy.subject import (
    Directory,
    DirectoryCache,
    DirectoryKey,
    HttpStore,
    PostgresStore,
    SqliteStore,
    Store,
    ValkeyStore,
)

STORES = ("sqlite", "valkey", "postgres", "http")
KEY_WORDS = ("token", "certificate", "sni")
MOST_LOOKUPS = 1024
MOST_HOMES = 50_000_000
FEWEST_HOMES = 1000

_LONGEST_QUERY = 16384
_ADDRESS = re.compile(r"(?P<scheme>[a-z]+)://(?P<host>\[[^\]]*\]|[^:/?#\[\]]*)(?::(?P<port>[^/?#]*))?(?P<rest>.*)")
_PATH_OF_URL = re.compile(r"[!$&'()*+,./0-9:;=?@A-Z_a-z~%{}-]*")
# What no trusted proxy can vouch for as an account: framing, this hop, the other credentials, the address.
_NOT_KEYS = frozenset({"authorization", "cookie", "forwarded", "host", "via", "x-real-ip", "x-request-id"})


class Address:
    """Where a store is: what a URL says."""

    def __init__(self, scheme: str, host: str, port: int, rest: str) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.rest = rest


def read_address(text: str, ports: dict[str, int]) -> Address:
    """`SCHEME://HOST[:PORT]REST`, the scheme one of `ports`, which are what is left out."""
    if "@" in text.partition("://")[2].partition("/")[0]:
        # First of all, so that no other message shows it.
        raise Wrong("the address may not hold a user or password", "write `user` and `password` beside it")
    match = _ADDRESS.fullmatch(text)
    if match is None or match["scheme"] not in ports:
        raise Wrong(f"{VALUE} is no address of this store", f"write {next(iter(ports))}://HOST:PORT")
    port = ports[match["scheme"]] if match["port"] is None else read_port(match["port"], lowest=1)
    return Address(match["scheme"], read_host(match["host"]), port, match["rest"])


VALKEY_PORTS = {"rediss": 6379, "redis": 6379, "valkeys": 6379, "valkey": 6379}
POSTGRES_PORTS = {"postgresql": 5432, "postgres": 5432}
HTTP_PORTS = {"https": 443, "http": 80}


def read_valkey(text: str) -> Address:
    """`rediss://HOST[:PORT][/NUMBER]`."""
    address = read_address(text, VALKEY_PORTS)
    if not re.fullmatch(r"(?:/[0-9]{0,4})?", address.rest):
        raise Wrong(f"{VALUE} has something behind the host", "only the database's number may stand there, as in /0")
    return address


def read_postgres(text: str) -> Address:
    """`postgresql://HOST[:PORT]/DATABASE`."""
    address = read_address(text, POSTGRES_PORTS)
    if not re.fullmatch(r"/[A-Za-z0-9_-]{1,63}", address.rest):
        raise Wrong(f"{VALUE} names no database", "write postgresql://HOST:PORT/DATABASE and nothing behind it")
    return address


def read_http(text: str) -> str:
    """`https://HOST[:PORT]/PATH`, with one `{}` in path or query."""
    address = read_address(text, HTTP_PORTS)
    if address.rest.count("{}") != 1 or address.rest.replace("{}", "").count("{"):
        raise Wrong(
            f"{VALUE} has no place for the key", "write {} once, as in https://accounts.example/home?subject={}"
        )
    if not address.rest.startswith("/") or not _PATH_OF_URL.fullmatch(address.rest):
        raise Wrong(f"{VALUE} has no path that can be asked for", "percent-encode what URLs do not hold")
    return text


def _read_key_header(text: str) -> str:
    if not is_token(text):
        raise Wrong(f"{VALUE} is no header name", "letters, digits and hyphens (RFC 9110 section 5.1)")
    name = text.lower()
    if name in _NOT_KEYS or name.startswith("x-forwarded-"):
        raise Wrong(f"header {VALUE} names no account", "name the header that the trusted proxy sets for it")
    if "_" in name:
        raise Wrong(f"header {VALUE} has an underscore", "many servers drop or confuse such names: use hyphens")
    return name


def _read_key_path(text: str) -> str:
    _one_place(text)
    shown = read_path_pattern(text.replace("{}", _STAND_IN))
    if shown.count(_STAND_IN) != 1:
        raise Wrong(f"{VALUE} has no place for the key", "write {} in one of its segments, as in /t/{}/*")
    return shown.replace(_STAND_IN, "{}")


def _read_key_host(text: str) -> str:
    _one_place(text)
    if "*" in text:
        raise Wrong(f"{VALUE} has a star", "{} stands for the one label that is the key")
    shown = read_host(text.replace("{}", _STAND_IN))
    if shown.count(_STAND_IN) != 1:
        raise Wrong(f"{VALUE} has no place for the key", "write {} in one of its labels, as in {}.app.example")
    return shown.replace(_STAND_IN, "{}")


# Canonical as it is, in a host and in a path.
_STAND_IN = "k-e-y"


def _one_place(text: str) -> None:
    if text.count("{}") != 1 or "{" in text.replace("{}", "") or _STAND_IN in text:
        raise Wrong(f"{VALUE} has no place for the key", "write {} once, where the key stands")


def _read_password(text: str) -> Secret:
    if not text or "\0" in text:
        raise Wrong("the password is empty", "set the variable, or leave the key out")
    return Secret(text)


def _read_prefix(text: str) -> str:
    if len(text) > 128 or not text.isprintable():
        raise Wrong(f"{VALUE} is no prefix", "write up to 128 printable characters, such as home:")
    return text


def _read_query(text: str) -> str:
    query = text.strip()
    if ";" in query:
        raise Wrong("the query has a semicolon", "write one SELECT and leave the semicolon out")
    if not re.search(r"\$1(?![0-9])", query):
        raise Wrong("the query does not ask for the key", "the key is $1, the time (seconds since the epoch) $2")
    if re.search(r"\$(?!1(?![0-9])|2(?![0-9]))[0-9]", query):
        raise Wrong("the query has a parameter that nobody fills", "the key is $1, the time $2, and there is no other")
    if not 0 < len(query) <= _LONGEST_QUERY or "\0" in query:
        raise Wrong("the query is too long", "keep it to 16 KiB")
    return query


def _read_lookups(text: str) -> int:
    return _within(text, 1, MOST_LOOKUPS, "as many look-ups at once")


def _read_homes(text: str) -> int:
    return _within(text, FEWEST_HOMES, MOST_HOMES, "as many homes")


def _within(text: str, least: int, most: int, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise Wrong(f"{VALUE} is not {what} as can be had", f"write {least:,} to {most:,}, without commas")
    return int(text)


class _KeyText:
    """Annotation of a key that is a word, or a mapping."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        word = one_of(KEY_WORDS)

        def read(value: object, part: core_schema.ValidatorFunctionWrapHandler) -> object:
            if isinstance(value, str):
                return DirectoryKey(word(value))  # type: ignore[arg-type]
            return part(value)

        return core_schema.no_info_wrap_validator_function(read, handler.generate_schema(KeyPart))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {"anyOf": [*words(*KEY_WORDS)["anyOf"], handler(schema)]}


def _bounded(least: int) -> dict[str, Any]:
    return {"anyOf": [{"type": "integer", "minimum": least}, {"type": "string", "pattern": VARIABLE}]}


_TEXT: Json = {"type": "string", "minLength": 1}
KeyHeader = Annotated[str, Typed(_read_key_header, _TEXT)]
KeyPath = Annotated[str, Typed(_read_key_path, pattern(r"/.*\{\}.*"))]
KeyHost = Annotated[str, Typed(_read_key_host, pattern(r".*\{\}.*"))]
ValkeyUrl = Annotated[Address, Typed(read_valkey, pattern(r"(rediss?|valkeys?)://[^@]+"))]
PostgresUrl = Annotated[Address, Typed(read_postgres, pattern(r"postgres(ql)?://[^@]+/[^/]+"))]
HttpUrl = Annotated[str, Typed(read_http, pattern(r"https?://.+\{\}.*"))]
Text = Annotated[str, Typed(read_text, _TEXT)]
Password = Annotated[Secret, Typed(_read_password, {"type": "string", "pattern": VARIABLE})]
Prefix = Annotated[str, Typed(_read_prefix, {"type": "string"})]
Query = Annotated[str, Typed(_read_query, _TEXT)]
Lookups = Annotated[int, Typed(_read_lookups, _bounded(1))]
Homes = Annotated[int, Typed(_read_homes, _bounded(FEWEST_HOMES))]

_CA = "PEM file of the CAs that it is verified by; left out: the system's"
_SAID_OF_PASSWORD = "Its password, from the environment: ${NAME}"  # noqa: S105
_PLAINTEXT = "Permits a connection without TLS beyond loopback: anybody on the way can read it"


class KeyPart(Part):
    """What names the account: exactly one key."""

    model_config = any_key("header", "path", "host")

    header: KeyHeader | None = Field(default=None, description="A header, believed from trusted proxies only")
    path: KeyPath | None = Field(default=None, description="A path with {} for the key, such as /t/{}/*")
    host: KeyHost | None = Field(default=None, description="A host with {} for the key, such as {}.app.example")

    def value(self) -> DirectoryKey:
        if self.header is not None:
            return DirectoryKey("header", self.header)
        if self.path is not None:
            return DirectoryKey("path", self.path)
        assert self.host is not None  # `directory_mistakes` counts the keys
        return DirectoryKey("host", self.host)


class ValkeyPart(Part):
    """A Valkey or Redis server that holds a string for each subject."""

    url: ValkeyUrl = Field(description="rediss://HOST[:PORT][/NUMBER], or redis:// on loopback")
    user: Text | None = Field(default=None, description="Its user; left out: the default one")
    password: Password | None = Field(default=None, description=_SAID_OF_PASSWORD)
    prefix: Prefix = Field(default="home:", description="What stands before a subject in the store's keys")
    ca: AuthorityFile | None = Field(default=None, description=_CA)
    plaintext: Flag = Field(default=False, description=_PLAINTEXT)

    def value(self) -> ValkeyStore:
        return ValkeyStore(
            host=self.url.host,
            port=self.url.port,
            database=int(self.url.rest[1:] or 0),
            tls=self.url.scheme in ("rediss", "valkeys"),
            user=self.user,
            password=self.password,
            ca=self.ca,
            prefix=self.prefix,
        )


class PostgresPart(Part):
    """A PostgreSQL database with a row for each home."""

    url: PostgresUrl = Field(description="postgresql://HOST[:PORT]/DATABASE; with TLS, but on loopback without `ca`")
    user: Text = Field(description="Its user, who needs no more than to read")
    password: Password | None = Field(default=None, description=_SAID_OF_PASSWORD)
    query: Query | None = Field(
        default=None, description="SELECT home [, until] for subject $1 at time $2; left out: from domicile_homes"
    )
    connections: Count = Field(default=8, description="Connections at once")
    ca: AuthorityFile | None = Field(default=None, description=_CA)
    plaintext: Flag = Field(default=False, description=_PLAINTEXT)

    def value(self) -> PostgresStore:
        return PostgresStore(
            host=self.url.host,
            port=self.url.port,
            database=self.url.rest[1:],
            tls=self.ca is not None or not (self.plaintext or is_loopback(self.url.host)),
            user=self.user,
            password=self.password,
            ca=self.ca,
            query=self.query,
            connections=self.connections,
        )


class HttpPart(Part):
    """An HTTP service that is asked for each subject."""

    url: HttpUrl = Field(description="https://HOST[:PORT]/PATH with {} for the key, or http:// on loopback")
    headers: dict[FieldName, FieldValue] | None = Field(default=None, description="Fixed request headers, never logged")
    ca: AuthorityFile | None = Field(default=None, description=_CA)
    plaintext: Flag = Field(default=False, description=_PLAINTEXT)

    def value(self) -> HttpStore:
        return HttpStore(self.url, tuple((self.headers or {}).items()), self.ca)


class CachePart(Part):
    """What is kept of the store's answers."""

    size: Homes = Field(default=100_000, description="Homes kept, and a quarter as many unknown subjects")
    max_age: Duration = Field(
        default=300.0,
        json_schema_extra={"default": "5m"},
        description="Age that no answer is used beyond, not in an outage either",
    )
    refresh: Duration = Field(
        default=60.0, json_schema_extra={"default": "1m"}, description="Age at which a home in use is asked for again"
    )
    unknown: Duration = Field(
        default=30.0, json_schema_extra={"default": "30s"}, description="As max_age, for subjects that nobody knows"
    )

    def value(self) -> DirectoryCache:
        return DirectoryCache(self.size, self.max_age, self.refresh, self.unknown)


class DirectoryPart(Part):
    """Who lives where, by the word of a store: exactly one of sqlite, valkey, postgres and http."""

    model_config = any_key(*STORES)

    sqlite: AnyPath | None = Field(default=None, description="File that `domicile directory` makes")
    valkey: ValkeyPart | None = Field(default=None, description="A Valkey or Redis server")
    postgres: PostgresPart | None = Field(default=None, description="A PostgreSQL database")
    http: HttpPart | None = Field(default=None, description="An HTTP service")
    key: Annotated[KeyPart | DirectoryKey, _KeyText()] = Field(
        description="What names the account: {header: NAME}, token, certificate, sni, {path: /t/{}/*}, {host: {}.app}"
    )
    cache: CachePart = Field(default=CachePart(), description="What is kept of its answers")
    timeout: Duration = Field(
        default=1.0, json_schema_extra={"default": "1s"}, description="How long a look-up may take, waiting included"
    )
    lookups: Lookups = Field(default=64, description="Look-ups at once")
    forward: Flag = Field(default=True, description="Whether the provider sees a trusted proxy's key header")

    def value(self) -> Directory:
        store: Store
        if self.sqlite is not None:
            store = SqliteStore(self.sqlite)
        else:
            part = self.valkey or self.postgres or self.http
            assert part is not None  # `directory_mistakes` counts the keys
            store = part.value()
        return Directory(
            store=store,
            key=self.key if isinstance(self.key, DirectoryKey) else self.key.value(),
            cache=self.cache.value(),
            timeout=self.timeout,
            lookups=self.lookups,
            forward=self.forward,
        )
