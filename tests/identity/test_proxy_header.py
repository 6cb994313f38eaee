"""The source `proxy_header`, over every protocol; and which sources are silent where there is no HTTP."""

import json
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http1.arrival import Arrival
from proxy.http1.plan import Planner
from proxy.identity.answers import Home, Invalid, Pending, Silent
from proxy.identity.country import Countries
from proxy.identity.directory.keys import find_key
from proxy.identity.directory.reader import Entry
from proxy.identity.evidence import Evidence
from proxy.identity.identify import Identity, Sources, open_sources
from proxy.identity.places import Places
from proxy.identity.proxy_header import ProxyHeaderSource
from proxy.policy.facts import SUBJECT, UNKNOWN
from proxy.policy.protocols import SOURCE_KINDS, SOURCES
from proxy.policy.settings import Protocol, Secret, Zone
from proxy.policy.subject import (
    CertificatePlace,
    ClientCertificate,
    Directory,
    DirectoryCache,
    DirectoryKey,
    HomeCookie,
    Jwt,
    Location,
    SqliteStore,
    Subject,
)
from proxy.policy.subject import ProxyHeaderSource as Definition
from proxy.policy.subject import Source as AnyDefinition
from proxy.wire.proxy_header import AUTHORITY, CRC32C, UNIQUE_ID, Fields, proxy_header
from tests.http1.staging import Response, request
from tests.identity import tokens
from tests.identity.bad_inputs.proxy import CLIENT, EDGE
from tests.identity.directory.stores import asked
from tests.identity.house import PROXY, STRANGER, House, house

NOW = 1_800_000_000.0
ZONES = (Zone("cn-mainland", frozenset({"CN"})), Zone("eu", frozenset({"DE", "FR"})))
COUNTRIES = Countries(())
ALL = Definition(0xE0, 0xE1, 0xE2)
HOME_ONLY = Definition(0xE0, None, None)
SUBJECT_ONLY = Definition(None, UNIQUE_ID, None)
NOBODY = Silent()


def answer(definition: Definition, *tlvs: tuple[int, bytes]) -> object:
    source = ProxyHeaderSource(definition, frozenset({"support"}))
    return source.answer(Evidence((), tlvs=tlvs), NOBODY, NOW)


ANSWERS: dict[str, tuple[Definition, Fields, object]] = {
    "no header": (ALL, (), NOBODY),
    "other fields": (ALL, ((AUTHORITY, b"a"), (CRC32C, b"1234"), (0xE3, b"eu")), NOBODY),
    "home and subject": (ALL, ((0xE1, b"acct"), (0xE0, b"eu")), Home("eu", "acct", SUBJECT, None)),
    "a subject alone": (ALL, ((0xE1, b"acct"),), Silent("acct", SUBJECT)),
    "a home of nobody": (ALL, ((0xE0, b"eu"),), NOBODY),
    "a home where nobody is asked for": (HOME_ONLY, ((0xE0, b"eu"),), Home("eu", None, UNKNOWN, None)),
    "no home": (HOME_ONLY, ((0xE1, b"acct"),), NOBODY),
    "staff": (ALL, ((0xE0, b"eu"), (0xE1, b"acct"), (0xE2, b"support")), Silent("acct", "support")),
    "staff of another kind": (ALL, ((0xE1, b"acct"), (0xE2, b"root")), Invalid("proxy_header", "actor")),
    "the subject's word for itself": (ALL, ((0xE1, b"a"), (0xE2, b"subject")), Invalid("proxy_header", "actor")),
    "staff for nobody": (ALL, ((0xE2, b"support"),), NOBODY),
    "the unique id": (SUBJECT_ONLY, ((UNIQUE_ID, b"id-1"), (0xE0, b"eu")), Silent("id-1", SUBJECT)),
    "the authority": (Definition(None, AUTHORITY, None), ((AUTHORITY, b"a.example"),), Silent("a.example", SUBJECT)),
    "empty fields": (ALL, ((0xE0, b""), (0xE1, b""), (0xE2, b"")), NOBODY),
    "an empty field beside one": (HOME_ONLY, ((0xE0, b""), (0xE0, b"eu")), Home("eu", None, UNKNOWN, None)),
    "a home twice": (HOME_ONLY, ((0xE0, b"eu"), (0xE0, b"eu")), Invalid("proxy_header", "repeated")),
    "a subject twice": (ALL, ((0xE1, b"a"), (0xE1, b"b"), (0xE0, b"eu")), Invalid("proxy_header", "repeated")),
    "another's field twice": (HOME_ONLY, ((0xE0, b"eu"), (0xE1, b"a"), (0xE1, b"b")), Home("eu", None, UNKNOWN, None)),
    "not UTF-8": (ALL, ((0xE1, b"\xff"), (0xE0, b"eu")), Invalid("proxy_header", "malformed")),
    "a home that is not UTF-8": (ALL, ((0xE1, b"a"), (0xE0, b"\xc3")), Invalid("proxy_header", "malformed")),
    "a broken home of nobody": (ALL, ((0xE0, b"\xc3"),), Invalid("proxy_header", "malformed")),
    "unprintable": (ALL, ((0xE1, b"a\nb"),), Invalid("proxy_header", "malformed")),
    "an end of text": (ALL, ((0xE1, b"a\0"),), Invalid("proxy_header", "malformed")),
    "turned round": (ALL, ((0xE1, "a\u202eb".encode()),), Invalid("proxy_header", "malformed")),
    "too long": (ALL, ((0xE1, b"a" * 256),), Invalid("proxy_header", "oversize")),
    "as long as may be": (ALL, ((0xE1, b"a" * 255),), Silent("a" * 255, SUBJECT)),
    "another script": (ALL, ((0xE1, "京".encode()), (0xE0, b"CN")), Home("CN", "京", SUBJECT, None)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str) -> None:
    definition, tlvs, said = ANSWERS[name]
    assert answer(definition, *tlvs) == said


@given(st.lists(st.tuples(st.sampled_from([2, 5, 0xE0, 0xE1, 0xE2, 0xE3]), st.binary(max_size=6)), max_size=5))
def test_whatever_is_sent_it_is_a_home_silence_or_invalid(tlvs: list[tuple[int, bytes]]) -> None:
    for definition in (ALL, HOME_ONLY, SUBJECT_ONLY):
        said = answer(definition, *tlvs)
        assert isinstance(said, Home | Silent | Invalid)


def test_no_subject_is_ever_shown() -> None:
    shown = Evidence((), tlvs=((0xE1, b"acct-1"), (0xE0, b"eu")))
    said = ProxyHeaderSource(ALL, frozenset()).answer(shown, NOBODY, NOW)
    assert "acct-1" not in repr((shown, said))


@pytest.mark.parametrize(
    ("home", "found"),
    [
        (b"eu", "eu"),
        (b"DE", "eu"),
        (b"cn", "cn-mainland"),
        (b"US", "US"),
        (b"EU", None),
        (b"unknown", None),
        (b"mars", None),
        (b" eu", None),
    ],
)
def test_a_home_is_a_zone_or_a_code(home: bytes, found: str | None) -> None:
    sources = open_sources(Subject((), (HOME_ONLY,), (), frozenset()), ZONES, COUNTRIES)
    said = sources.ask(Evidence((), tlvs=((0xE0, home),)), NOW).found
    assert said == (Invalid("proxy_header", "home") if found is None else Identity(found, "proxy_header"))


def test_a_home_that_is_none_ends_the_search() -> None:
    sources = open_sources(Subject((), (HOME_ONLY, Location(True)), (), frozenset()), ZONES, COUNTRIES)
    assert sources.ask(Evidence((), country="DE", tlvs=((0xE0, b"mars"),)), NOW).found == Invalid(
        "proxy_header", "home"
    )
    assert sources.ask(Evidence((), country="DE"), NOW).found == Identity("eu", "location")
    assert sources.tlv_types == {0xE0}


# -- what is silent where there is no HTTP

KEYS = ("header", "token", "certificate", "sni", "path", "host")
TEXTS = {"header": "x-account", "path": "/t/{}/*", "host": "{}.app.example"}
# What a plane that reads no requests shows, at its most.
EVIDENCE: dict[Protocol, Evidence] = {
    "tls": Evidence((), None, "DE", sni="acme.app.example", trusted=True, tlvs=((0xE0, b"eu"),)),
    "tcp": Evidence((), None, "DE", trusted=True, tlvs=((0xE0, b"eu"),)),
}


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[AnyDefinition]]:
    """Of each kind of source, one that would speak if it were shown what it reads."""
    folder = tmp_path_factory.mktemp("sources")
    jwks = tokens.written(folder, tokens.all_keys())
    store = SqliteStore(folder / "absent.db")
    return {
        "jwt": [Jwt(jwks, tokens.ISSUER, tokens.AUDIENCE, "sub", "residency", None, 30.0, True)],
        "client_certificate": [
            ClientCertificate(None, CertificatePlace("field", "CN"), None, from_header, None, False)
            for from_header in (False, True)
        ],
        "directory": [
            Directory(store, DirectoryKey(kind, TEXTS.get(kind, "")), DirectoryCache(), 1.0, 1, True)  # type: ignore[arg-type]
            for kind in KEYS
        ],
        "home_cookie": [HomeCookie("home", (Secret("k" * 32),), 3600.0, False)],
        "proxy_header": [HOME_ONLY],
        "location": [Location(False)],
    }


@pytest.mark.parametrize("protocol", ["tls", "tcp"])
@pytest.mark.parametrize("kind", [kind for kind in SOURCE_KINDS if kind != "directory"])
def test_who_speaks_of_what_is_passed_on(
    kind: str, protocol: Protocol, definitions: dict[str, list[AnyDefinition]]
) -> None:
    for definition in definitions[kind]:
        sources = open_sources(Subject((), (definition,), (), frozenset()), ZONES, COUNTRIES)
        found = sources.ask(EVIDENCE[protocol], NOW).found
        if kind in SOURCES[protocol]:
            assert found == Identity("eu", kind)
        else:
            assert isinstance(found, Identity)
            assert (found.home, found.source, found.subject) == (UNKNOWN, "none", None)


@pytest.mark.parametrize("protocol", ["tls", "tcp"])
@pytest.mark.parametrize("kind", KEYS)
def test_which_keys_of_a_directory_there_are(
    kind: Literal["header", "token", "certificate", "sni", "path", "host"], protocol: Protocol
) -> None:
    found = find_key(DirectoryKey(kind, TEXTS.get(kind, "")))(EVIDENCE[protocol], NOBODY)
    assert found == ("acme.app.example" if (kind, protocol) == ("sni", "tls") else None)
    # So on tcp no directory gives a home, as the proofs take it to be.
    assert ("directory" in SOURCES[protocol]) == (protocol == "tls")


async def test_a_directory_is_asked_about_the_name_of_a_hello() -> None:
    store = asked({"acme.app.example": Entry("FR")}, key=DirectoryKey("sni"))
    sources = Sources([store.source], Places(ZONES))
    waiting = sources.ask(EVIDENCE["tls"], store.clocks.wall).found
    assert isinstance(waiting, Pending)
    await waiting.ready
    found = sources.ask(EVIDENCE["tls"], store.clocks.wall).found
    assert isinstance(found, Identity)
    assert (found.home, found.source, found.subject) == ("eu", "directory", "acme.app.example")
    assert sources.ask(EVIDENCE["tcp"], store.clocks.wall).found == Identity(), "there is nothing to look up"
    await sources.close()


# -- over http

SOURCE = """\
  sources:
    - proxy_header: {home_from: 0xE0, subject_from: 0xE1, actor_from: 0xE2}
    - location: {}
"""
BEHIND = '  - {name: behind, bind: "127.0.0.1:0", proxy_protocol: required}\n'
REQUEST = request("/", xff=None)


async def told(home: House, *tlvs: tuple[int, bytes]) -> Response:
    return await home.ask(proxy_header(CLIENT, EDGE, tlvs) + REQUEST, "behind", PROXY)


async def test_requests_behind_a_proxy_that_says_whose_they_are(tmp_path: Path) -> None:
    async with house(tmp_path, SOURCE, more=BEHIND) as home:
        # By its address it would be mainland China.
        assert (await told(home)).body == b"cn"
        assert (await told(home, (0xE1, b"acct-1"), (0xE0, b"eu"))).body == b"eu"
        # The very same request is decided anew for another subject's home, and for what cannot be read.
        assert (await told(home, (0xE1, b"acct-1"), (0xE0, b"elsewhere"))).body == b"rest"
        assert (await told(home, (0xE1, b"acct-1"), (0xE0, b"\xff"))).status == 401
        assert (await told(home, (0xE1, b"acct-1"))).reason == "home-unknown", "an address speaks for no account"
        assert (await told(home)).body == b"cn"
        assert home.touched() == {"cn": 2, "eu": 1, "rest": 1}
        records = await home.records(6)
        assert [record["source"] for record in records] == [
            "location",
            "proxy_header",
            "proxy_header",
            "proxy_header",  # which did not verify
            "none",
            "location",
        ]
        assert "acct-1" not in json.dumps(records)
        assert home.metric("domicile_source_answers_total", source="proxy_header", answer="home") == 2


async def test_what_no_source_reads_keeps_no_requests_apart(tmp_path: Path) -> None:
    def arrived(home: House, *tlvs: tuple[int, bytes]) -> Arrival:
        return Arrival(home.plane.line.policy.listeners[-1], CLIENT[0], tlvs=tlvs)

    async with house(tmp_path, SOURCE, more=BEHIND) as home:
        planner = Planner(home.plane.line, home.metrics)
        account = (0xE1, b"acct-1"), (0xE0, b"eu")
        planner.plan(arrived(home, *account, (UNIQUE_ID, b"id-0")), REQUEST, NOW)  # what came once is not kept
        plan = planner.plan(arrived(home, *account, (UNIQUE_ID, b"id-1")), REQUEST, NOW)
        assert planner.plan(arrived(home, *account, (UNIQUE_ID, b"id-2")), REQUEST, NOW) is plan
        assert planner.plan(arrived(home, (0xE1, b"acct-2"), (0xE0, b"eu")), REQUEST, NOW) is not plan
        assert planner.plan(arrived(home), REQUEST, NOW) is not plan
        home.reload("  sources: [{location: {}}]\n", more=BEHIND)
        planner = Planner(home.plane.line, home.metrics)
        planner.plan(arrived(home, *account), REQUEST, NOW)
        plan = planner.plan(arrived(home, *account), REQUEST, NOW)
        assert planner.plan(arrived(home), REQUEST, NOW) is plan, "nobody looks at them"


async def test_nobody_else_says_whose_a_request_is(tmp_path: Path) -> None:
    async with house(tmp_path, SOURCE, more=BEHIND) as home:
        header = proxy_header(CLIENT, EDGE, ((0xE1, b"acct-1"), (0xE0, b"eu")))
        client = await home.client("behind", STRANGER)
        await client.send(header + REQUEST)
        assert await client.closed()
        assert (await home.ask(header + REQUEST, "edge", PROXY)).status == 400
        local = proxy_header(CLIENT, EDGE, ((0xE1, b"acct-1"), (0xE0, b"eu")), local=True)
        assert (await home.ask(local + REQUEST, "behind", PROXY)).reason == "home-unknown", "a proxy for itself"
        assert home.touched() == {}
