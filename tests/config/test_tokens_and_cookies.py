"""Key sets by URL, where tokens are, and the home cookie: what they become, and each mistake at its place."""

import pickle
from pathlib import Path

import pytest

from proxy.config import PolicyRefused
from proxy.identity.home_cookie import open_home_cookie
from proxy.policy.settings import Secret
from proxy.policy.subject import HomeCookie, Jwt, KeySetUrl, TokenPlace
from tests.config.marked import assert_marked, loaded, refused

KEY = "0123456789abcdefghijklmnopqrstuv"
DAY = 86400.0


def jwt(jwks: str, more: str = "") -> str:
    return f"subject:\n  sources: [{{jwt: {{jwks: {jwks}, issuer: i, audience: a, home_claim: h{more}}}}}]"


def sources(*each: str) -> str:
    return "subject:\n  sources:\n" + "".join(f"    - {{{one}}}\n" for one in each)


JWT = 'jwt: {jwks: "https://id.example/jwks", issuer: i, audience: a, home_claim: h}'
LOCATION = "location: {accounts: false}"


def cookie(body: str = "") -> str:
    return f'home_cookie: {{keys: "${{KEY}}"{body}}}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text(KEY + "\n")
    (tmp_path / "short").write_text("short")
    (tmp_path / "dull").write_text("k" * 32)
    (tmp_path / "long").write_text(KEY * 40)
    return tmp_path


KEY_SETS: list[tuple[str, KeySetUrl]] = [
    ("'https://id.example/jwks'", KeySetUrl("https://id.example/jwks")),
    ("'HTTPS://ID.Example'", KeySetUrl("https://id.example/")),
    ("'https://id.example:8443/a/b?x=%20&y'", KeySetUrl("https://id.example:8443/a/b?x=%20&y")),
    ("'http://127.0.0.1:8080/jwks'", KeySetUrl("http://127.0.0.1:8080/jwks")),
    ("'http://[::1]/jwks'", KeySetUrl("http://[::1]/jwks")),
    ("'http://localhost/jwks'", KeySetUrl("http://localhost/jwks")),
    ("'https://bücher.example/'", KeySetUrl("https://xn--bcher-kva.example/")),
    ("{url: 'https://id.example/'}", KeySetUrl("https://id.example/")),
    (
        "{url: 'https://id.example/', max_age: 1h, keep: 7d, timeout: 500ms}",
        KeySetUrl("https://id.example/", None, 3600.0, 7 * DAY, 0.5),
    ),
]


@pytest.mark.parametrize(("text", "value"), KEY_SETS, ids=range(len(KEY_SETS)))
def test_key_sets_by_url(folder: Path, text: str, value: KeySetUrl) -> None:
    (source,) = loaded(folder, jwt(text)).policy.subject.sources
    assert isinstance(source, Jwt)
    assert source.jwks == value
    assert source.token is None


@pytest.mark.parametrize(
    ("text", "place"),
    [("{header: X-Token}", TokenPlace("header", "x-token")), ("{cookie: Session}", TokenPlace("cookie", "Session"))],
)
def test_places_of_tokens(folder: Path, text: str, place: TokenPlace) -> None:
    (source,) = loaded(folder, jwt("'https://id.example/'", f", token: {text}")).policy.subject.sources
    assert isinstance(source, Jwt)
    assert source.token == place


def test_home_cookies(folder: Path) -> None:
    text = sources(JWT, 'home_cookie: {name: where, keys: [key, "${KEY}"], max_age: 8h, forward: true}', LOCATION)
    policy = loaded(folder, text, KEY=KEY).policy
    made = policy.subject.sources[1]
    assert made == HomeCookie("where", (folder / "key", Secret(KEY)), 8 * 3600.0, True)
    assert isinstance(made, HomeCookie)
    assert KEY not in repr(policy)
    vars(policy).pop("decider", None)
    assert pickle.loads(pickle.dumps(policy)).subject == policy.subject, "a reload reads it in another process"
    open_home_cookie(made)
    least = loaded(folder, sources(JWT, cookie()), KEY=KEY).policy.subject.sources[1]
    assert least == HomeCookie("__Host-home", (Secret(KEY),), 30 * DAY, False)


MISTAKES: list[tuple[str, str]] = [
    (jwt("▲'http://id.example/'"), "is not encrypted, use https://"),
    (jwt("▲'http://192.0.2.1/'"), "is not encrypted"),
    (jwt("▲'ftp://id.example/'"), "has an unknown scheme"),
    (jwt("▲'https://user:secret@id.example/'"), "may not hold a user or password"),
    (jwt("▲'https://id.example/#x'"), "leave out any fragment"),
    (jwt("▲'https://id.example/a b'"), "percent-encode it"),
    (jwt("▲'https:///jwks'"), "the host is missing"),
    (jwt("▲'https://id.example:0/'"), "has no valid port"),
    (jwt("▲'https://id..example/'"), "is no host"),
    (jwt("▲[a, b]"), "expected a single value"),
    (jwt("▲{ca: policy.yaml}").replace("ca: policy.yaml", "max_age: 1m"), "`url` is missing"),
    (jwt("{url: ▲jwks.json}"), "is no URL"),
    (jwt("{url: 'https://id.example/', ca: ▲key}"), "holds no PEM certificates"),
    (jwt("{url: 'https://id.example/', ▲max-age: 1m}"), "did you mean `max_age`?"),
    (jwt("▲{url: 'https://id.example/', max_age: 2d}"), "`keep` is shorter than `max_age`"),
    (jwt("▲{url: 'https://id.example/', max_age: 5s}"), "`timeout` is not shorter"),
    (jwt("'https://id.example/'", ", token: ▲X-Token"), "its keys are header, cookie"),
    (jwt("'https://id.example/'", ", token: ▲{}"), "a token is in one place"),
    (jwt("'https://id.example/'", ", token: ▲{header: X-Token, cookie: a}"), "a token is in one place"),
    (jwt("'https://id.example/'", ", token: {header: ▲Authorization}"), "leave `token` out"),
    (jwt("'https://id.example/'", ", token: {header: ▲Cookie}"), "write {cookie: NAME}"),
    (jwt("'https://id.example/'", ", token: {header: ▲Host}"), "is about one connection"),
    (jwt("'https://id.example/'", ", token: {header: ▲X-Forwarded-Token}"), "the proxy vouches for itself"),
    (jwt("'https://id.example/'", ", token: {header: ▲'a b'}"), "is no header name"),
    (jwt("'https://id.example/'", ", token: {cookie: ▲'a=b'}"), "is no cookie name"),
    (sources(JWT, "home_cookie: ▲{}"), "`keys` is missing"),
    (sources(JWT, "home_cookie: {keys: ▲[]}"), "the list is empty"),
    (sources(JWT, "home_cookie: {keys: [key, ▲absent]}"), "cannot be read"),
    (sources(JWT, "home_cookie: {keys: ▲short}"), "the key is too short, make one"),
    (sources(JWT, "home_cookie: {keys: ▲long}"), "the key is too long"),
    (sources(JWT, "home_cookie: {keys: ▲dull}"), "the key can be guessed"),
    (sources(JWT, 'home_cookie: {keys: ▲"${SHORT}"}'), "the key is too short"),
    (sources(JWT, f"home_cookie: {{keys: ▲{KEY}}}"), "cannot be read"),
    (sources(JWT, cookie(", max_age: ▲401d")), "write 1m to 400d"),
    (sources(JWT, cookie(", max_age: ▲59s")), "write 1m to 400d"),
    (sources(JWT, cookie(", name: ▲'a;b'")), "is no cookie name"),
    (sources(JWT, cookie(", ▲domain: example")), "unknown key `domain`"),
    (sources("▲" + cookie(), JWT), "`home_cookie` comes before `jwt`, it never outranks"),
    (sources(JWT, "▲" + cookie(), "directory: {sqlite: directory.db, key: token}"), "comes before `directory`"),
    (sources(JWT, LOCATION, "▲" + cookie()), "`home_cookie` comes behind `location`"),
    (sources(JWT, cookie(), "▲" + cookie()), "a second `home_cookie`"),
    (sources("▲" + cookie(), LOCATION), "`home_cookie` without a stronger source"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[said[:40] for _, said in MISTAKES])
def test_each_mistake_is_said_at_its_place(folder: Path, text: str, said: str) -> None:
    if "directory" in text:
        notes = refused(folder, text, KEY=KEY)
        assert any(said in note.what for note in notes)
        return
    assert_marked(folder, text, said, KEY=KEY, SHORT="abcdefgh")


def test_no_message_shows_a_key(folder: Path) -> None:
    for key in ("abcdefghi", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"):
        with pytest.raises(PolicyRefused) as refusal:
            loaded(folder, sources(JWT, cookie()), KEY=key)
        assert key not in str(refusal.value)
