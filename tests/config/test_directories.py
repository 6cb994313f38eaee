"""What a policy file may say of directories, and each mistake at its place."""

from pathlib import Path
from typing import Any

import pytest

from proxy.config.schema import policy_schema
from proxy.policy.settings import Secret
from proxy.policy.subject import (
    Directory,
    DirectoryCache,
    DirectoryKey,
    HttpStore,
    PostgresStore,
    SqliteStore,
    ValkeyStore,
)
from tests.authority import make_authority
from tests.config.marked import assert_marked, loaded
from tests.config.test_schema import validate

SQLITE = "sqlite: d.db"
KEY = "key: sni"
SECRETS = {"PASSWORD": "p@ss:w/rd #1", "TOKEN": "s3cret"}


def directory(body: str) -> str:
    return f"subject:\n  sources: [{{directory: {{{body}}}}}]"


def valkey(body: str) -> str:
    return directory(f"valkey: {{{body}}}, {KEY}")


def postgres(body: str) -> str:
    return directory(f"postgres: {{{body}}}, {KEY}")


def http(body: str) -> str:
    return directory(f"http: {{{body}}}, {KEY}")


def read(folder: Path, text: str) -> Directory:
    (source,) = loaded(folder, text, **SECRETS).policy.subject.sources
    assert isinstance(source, Directory)
    return source


def test_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, directory(f"{SQLITE}, {KEY}")) == Directory(
        store=SqliteStore(tmp_path / "d.db"),
        key=DirectoryKey("sni"),
        cache=DirectoryCache(100_000, 300.0, 60.0, 30.0),
        timeout=1.0,
        lookups=64,
        forward=True,
    )


def test_everything(tmp_path: Path) -> None:
    body = f"{SQLITE}, {KEY}, cache: {{size: 5000, max_age: 1h, refresh: 10m, unknown: 5s}}"
    found = read(tmp_path, directory(f"{body}, timeout: 250ms, lookups: 8, forward: false"))
    assert (found.cache, found.timeout, found.lookups, found.forward) == (
        DirectoryCache(5000, 3600.0, 600.0, 5.0),
        0.25,
        8,
        False,
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("{header: X-Account}", DirectoryKey("header", "x-account")),
        ("sni", DirectoryKey("sni")),
        ('{path: "/t/{}/*"}', DirectoryKey("path", "/t/{}/*")),
        ('{path: "/t/{}"}', DirectoryKey("path", "/t/{}")),
        ('{path: "/京/{}"}', DirectoryKey("path", "/%E4%BA%AC/{}")),
        ('{path: "/u-{}/x/*"}', DirectoryKey("path", "/u-{}/x/*")),
        ('{host: "{}.App.example"}', DirectoryKey("host", "{}.app.example")),
        ('{host: "t-{}.app.example."}', DirectoryKey("host", "t-{}.app.example")),
    ],
)
def test_keys(tmp_path: Path, key: str, value: DirectoryKey) -> None:
    text = f"subject:\n  trusted_proxies: [10.0.0.0/8]\n  sources: [{{directory: {{{SQLITE}, key: {key}}}}}]"
    assert read(tmp_path, text).key == value


def test_a_valkey(tmp_path: Path) -> None:
    make_authority(tmp_path, "ca").certificate.rename(tmp_path / "ca.pem")
    plain = read(tmp_path, valkey('url: "redis://127.0.0.1"')).store
    assert plain == ValkeyStore("127.0.0.1", 6379, 0, False, None, None, None, "home:")
    body = 'url: "rediss://Cache.example:6380/3", user: u, password: "${PASSWORD}", prefix: "", ca: ca.pem'
    whole = read(tmp_path, valkey(body)).store
    ca = tmp_path / "ca.pem"
    assert whole == ValkeyStore("cache.example", 6380, 3, True, "u", Secret(SECRETS["PASSWORD"]), ca, "")
    assert SECRETS["PASSWORD"] not in repr(whole)


def test_a_postgres(tmp_path: Path) -> None:
    make_authority(tmp_path, "ca").certificate.rename(tmp_path / "ca.pem")
    query = "SELECT home FROM people WHERE id = $1"
    body = f'url: "postgresql://db.example/accounts", user: u, password: "${{PASSWORD}}", query: "{query}", ca: ca.pem'
    whole = read(tmp_path, postgres(body + ", connections: 3")).store
    ca = tmp_path / "ca.pem"
    assert whole == PostgresStore("db.example", 5432, "accounts", True, "u", Secret(SECRETS["PASSWORD"]), ca, query, 3)
    for url, more, tls in (
        ("postgresql://db.example/a", "", True),
        ("postgresql://db.example/a", ", plaintext: true", False),
        ("postgresql://127.0.0.1:5433/a", "", False),
        ("postgresql://127.0.0.1:5433/a", ", ca: ca.pem", True),
    ):
        store = read(tmp_path, postgres(f'url: "{url}", user: u{more}')).store
        assert isinstance(store, PostgresStore)
        assert store.tls is tls, (url, more)


def test_an_http_service(tmp_path: Path) -> None:
    body = 'url: "https://accounts.example/home?subject={}", headers: {Authorization: "${TOKEN}"}'
    whole = read(tmp_path, http(body)).store
    url = "https://accounts.example/home?subject={}"
    assert whole == HttpStore(url, (("Authorization", Secret("s3cret")),), None)
    assert "s3cret" not in repr(whole)


MISTAKES: dict[str, tuple[str, tuple[str, ...]]] = {
    "no store": ("subject:\n  sources: [{directory: ▲{key: sni}}]", ("the directory has no store",)),
    "two stores": (
        'subject:\n  sources: [{directory: ▲{sqlite: d.db, http: {url: "https://a.example/{}"}, key: sni}}]',
        ("a directory has one store",),
    ),
    "no key": ("subject:\n  sources: [{directory: ▲{sqlite: d.db}}]", ("`key` is missing",)),
    "another word": (directory(f"{SQLITE}, key: ▲account"), ("is not among the choices",)),
    "an empty key": (directory(f"{SQLITE}, key: ▲{{}}"), ("the key is empty",)),
    "two keys": (directory(f'{SQLITE}, key: ▲{{path: "/{{}}", host: "{{}}.a"}}'), ("a directory has one key",)),
    "an unknown key": (directory(f"{SQLITE}, key: {{▲cookie: a}}"), ("unknown key `cookie`",)),
    "a header of strangers": (
        directory(f"{SQLITE}, key: {{header: ▲X-Account}}"),
        ("nobody is trusted with this header",),
    ),
    "no token before": (directory(f"{SQLITE}, key: ▲token"), ("no source before this one gives a token",)),
    "no certificate before": (directory(f"{SQLITE}, key: ▲certificate"), ("gives a certificate",)),
    "no place in a path": (directory(f"{SQLITE}, key: {{path: ▲/t/*}}"), ("has no place for the key",)),
    "two places in a path": (directory(f'{SQLITE}, key: {{path: ▲"/{{}}/{{}}"}}'), ("has no place for the key",)),
    "a path with two readings": (directory(f'{SQLITE}, key: {{path: ▲"/../{{}}"}}'), ("has two readings",)),
    "no place in a host": (directory(f"{SQLITE}, key: {{host: ▲a.example}}"), ("has no place for the key",)),
    "a star in a host": (directory(f'{SQLITE}, key: {{host: ▲"*.{{}}.a.example"}}'), ("has a star",)),
    "an unencrypted valkey": (valkey('url: ▲"redis://cache.example"'), ("is not encrypted, use rediss://",)),
    "plaintext beside TLS": (
        valkey('url: "rediss://cache.example", ▲plaintext: true'),
        ("`plaintext: true` beside TLS",),
    ),
    "a user in a valkey": (valkey('url: ▲"rediss://u:p@cache.example"'), ("may not hold a user or password",)),
    "another scheme": (valkey('url: ▲"https://cache.example"'), ("is no address of this store",)),
    "a path in a valkey": (valkey('url: ▲"rediss://cache.example/x"'), ("has something behind the host",)),
    "a password in the file": (
        valkey('url: "rediss://cache.example", password: ▲hunter2'),
        ("the password stands in the file, take it from the environment",),
    ),
    "a variable that is not set": (
        valkey('url: "rediss://cache.example", password: ▲"${ABSENT}"'),
        ("environment variable `ABSENT` is not set",),
    ),
    "a user without a password": (valkey('url: "rediss://cache.example", ▲user: u'), ("`user` without `password`",)),
    "no such authority": (valkey('url: "rediss://cache.example", ca: ▲absent.pem'), ("cannot be read",)),
    "no database": (postgres('url: ▲"postgresql://db.example", user: u'), ("names no database",)),
    "options of a database": (
        postgres('url: ▲"postgresql://db.example/a?sslmode=disable", user: u'),
        ("names no database",),
    ),
    "no user": (
        'subject:\n  sources: [{directory: {postgres: ▲{url: "postgresql://d.example/a"}, key: sni}}]',
        ("`user`",),
    ),
    "two statements": (
        postgres('url: "postgresql://d.example/a", user: u, query: ▲"SELECT 1 WHERE $1 = 1; DROP TABLE a"'),
        ("has a semicolon",),
    ),
    "a query without a key": (
        postgres('url: "postgresql://d.example/a", user: u, query: ▲"SELECT home FROM a"'),
        ("does not ask for the key",),
    ),
    "a query with more": (
        postgres('url: "postgresql://d.example/a", user: u, query: ▲"SELECT home FROM a WHERE b = $1 AND c = $3"'),
        ("a parameter that nobody fills",),
    ),
    "an unencrypted service": (http('url: ▲"http://accounts.example/{}"'), ("is not encrypted, use https://",)),
    "a service without a place": (http('url: ▲"https://accounts.example/home"'), ("has no place for the key",)),
    "a place in the host": (http('url: ▲"https://{}.example/home"'), ("is no host",)),
    "a user in a service": (http('url: ▲"https://u:p@accounts.example/{}"'), ("may not hold a user or password",)),
    "a fragment": (http('url: ▲"https://accounts.example/{}#a"'), ("has no path that can be asked for",)),
    "a hop's header": (http('url: "https://a.example/{}", headers: {▲Host: b}'), ("is about one connection",)),
    "too few homes": (directory(f"{SQLITE}, {KEY}, cache: {{size: ▲999}}"), ("is not as many homes",)),
    "too many look-ups": (directory(f"{SQLITE}, {KEY}, lookups: ▲5000"), ("is not as many look-ups",)),
    "no look-ups": (directory(f"{SQLITE}, {KEY}, lookups: ▲0"), ("is not as many look-ups",)),
    "a refresh beyond the age": (
        directory(f"{SQLITE}, {KEY}, cache: {{max_age: 1m, refresh: ▲2m}}"),
        ("`refresh` is more than `max_age`",),
    ),
    "an age below the refresh": (
        directory(f"{SQLITE}, {KEY}, cache: {{max_age: ▲50s}}"),
        ("`refresh` is more than `max_age`, it is 60s unless you say less",),
    ),
    "an unknown age beyond the age": (
        directory(f"{SQLITE}, {KEY}, cache: {{max_age: 1m, refresh: 1m, unknown: ▲61s}}"),
        ("`unknown` is more than `max_age`",),
    ),
    "no timeout": (directory(f"{SQLITE}, {KEY}, timeout: ▲none"), ("is no duration",)),
    "several at once": (
        directory(f"{SQLITE}, key: ▲token, cache: {{size: ▲1, max_age: ▲1s, refresh: 1s}}, lookups: ▲x"),
        ("no source before", "is not as many homes", "`unknown` is more than", "is not as many look-ups"),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_said_at_its_place(tmp_path: Path, name: str) -> None:
    text, said = MISTAKES[name]
    assert_marked(tmp_path, text, *said)


def test_a_token_before_or_behind(tmp_path: Path) -> None:
    token = "client_certificate: {home_from: C, subject_from: CN}"
    text = f"subject:\n  sources: [{{{token}}}, {{directory: {{{SQLITE}, key: certificate}}}}]"
    assert loaded(tmp_path, text).policy.subject.sources[1].key == DirectoryKey("certificate")  # type: ignore[union-attr]
    behind = f"subject:\n  sources: [{{directory: {{{SQLITE}, key: ▲certificate}}}}, {{{token}}}]"
    assert_marked(tmp_path, behind, "put a `client_certificate` source first")


def test_no_secret_is_told(tmp_path: Path) -> None:
    from proxy.config import PolicyRefused

    body = 'url: "${PASSWORD}", password: "${PASSWORD}", prefix: "${TOKEN}", wrong: "${TOKEN}"'
    with pytest.raises(PolicyRefused) as refused:
        loaded(tmp_path, valkey(body), **SECRETS)
    for secret in SECRETS.values():
        assert secret not in str(refused.value)


@pytest.mark.parametrize(
    "part",
    [
        {"sqlite": "d.db", "key": "sni"},
        {"sqlite": "d.db", "key": {"header": "X-Account"}, "lookups": 5, "timeout": "1s"},
        {"valkey": {"url": "redis://127.0.0.1", "password": "${P}"}, "key": {"path": "/t/{}/*"}},
        {"http": {"url": "https://a.example/{}", "headers": {"A": "b"}}, "key": "token"},
        {
            "postgres": {"url": "postgresql://a.example/b", "user": "u"},
            "key": {"host": "{}.a"},
            "cache": {"size": 5000},
        },
    ],
)
def test_the_schema_takes_it(part: dict[str, Any]) -> None:
    assert "DirectoryPart" in policy_schema()["$defs"]
    validate(
        {
            "version": 1,
            "zones": {"eu": {"countries": ["EEA"]}},
            "providers": {"a": {"operator": "A", "zone": "eu", "endpoints": "https://a.example"}},
            "rules": [{"name": "a", "allow": "any"}],
            "subject": {"sources": [{"directory": part}]},
        }
    )
