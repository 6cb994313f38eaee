"""config/mainland-china over real sockets: who received what, and that the other provider heard nothing."""

import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.authority import Authority, Issued, make_authority
from tests.config_examples.asking import Door, Providers
from tests.config_examples.moved import (
    ANY_PORT,
    HONG_KONG,
    LOOPBACK_PROXIES,
    MAINLAND,
    NETHERLANDS,
    PRIVATE,
    Issuer,
    moved,
)
from tests.config_examples.recipients import recipient
from tests.peers.process import free_port
from tests.running import Running, start

KEY = "the-telecoms-api-key"
SUPPORT = {"act": {"role": "support"}}


@dataclass(frozen=True)
class Papers:
    """What the operator brings beside the policy. public: stands for the system's authorities."""

    issuer: Issuer
    telecom: Authority
    public: Authority
    edge: Issued

    def files(self) -> dict[str, str | bytes]:
        return {"jwks.json": self.issuer.key_set, "telecom-ca.pem": self.telecom.certificate.read_bytes()}

    def environ(self) -> dict[str, str]:
        return {
            "CT_API_KEY": KEY,
            "EDGE_CERTIFICATE": str(self.edge.certificate),
            "EDGE_KEY": str(self.edge.key),
            "SSL_CERT_FILE": str(self.public.certificate),
        }


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("papers")
    public = make_authority(folder, "public")
    edge = public.issue(["storage.example.com"])
    return Papers(Issuer("storage"), make_authority(folder, "telecom"), public, edge)


@pytest.fixture(scope="module")
def providers(papers: Papers) -> Iterator[Providers]:
    theirs = papers.telecom.issue(["storage.ct.example"])
    ours = papers.public.issue(ips=["127.0.0.1"])
    with recipient("china-telecom", theirs) as telecom, recipient("own-cloud", ours) as own:
        yield Providers([telecom, own])


SINGAPORE, BEIJING = "location: {lat: 1.3, lon: 103.8}", "location: {lat: 39.9, lon: 116.4}"


def here(telecom: str, own_cloud: str, at: str = BEIJING) -> str:
    """The example with its endpoints on loopback, and the proxy beside the telecom: none from afar answers so soon."""
    return moved(
        "mainland-china",
        {
            **LOOPBACK_PROXIES,
            "https://storage.ct.example:443": telecom,
            "203.0.113.0/24": "127.0.0.0/8",
            "https://storage.example.com:443": own_cloud,
            "0.0.0.0:8443": ANY_PORT,
            "127.0.0.1:8444": ANY_PORT,
            SINGAPORE: at,
        },
    )


@pytest.fixture(scope="module")
def proxy(papers: Papers, providers: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    policy = here(providers["china-telecom"].origin, providers["own-cloud"].origin)
    with start(policy, tmp_path_factory.mktemp("mainland"), papers.files(), environ=papers.environ()) as running:
        door = edge_of(running, papers)
        assert door.ask("/", from_=MAINLAND).body == b"china-telecom"
        assert door.ask("/", from_=HONG_KONG).body == b"own-cloud"
        providers.all_were_reached()
        yield running


def edge_of(running: Running, papers: Papers) -> Door:
    tls = ssl.create_default_context(cafile=papers.public.certificate)
    return Door(running.port("edge"), "storage.example.com", tls)


@pytest.fixture
def edge(proxy: Running, papers: Papers) -> Door:
    return edge_of(proxy, papers)


@pytest.fixture
def desk(proxy: Running) -> Door:
    return Door(proxy.port("mainland-desk"), "desk.example.com")


@pytest.mark.parametrize("client", [MAINLAND, NETHERLANDS, HONG_KONG, PRIVATE, None])
@pytest.mark.parametrize(("residency", "provider"), [("CN", "china-telecom"), ("DE", "own-cloud"), ("HK", "own-cloud")])
def test_an_account_goes_home_from_wherever_it_is(
    edge: Door, papers: Papers, providers: Providers, client: str | None, residency: str, provider: str
) -> None:
    token = papers.issuer.token("acct-1", residency=residency)
    with providers.only(provider) as heard:
        assert edge.ask("/photos/1", from_=client, token=token, method="PUT", body=b"a photo").status == 200
    assert (heard[0].method, heard[0].target, heard[0].body) == ("PUT", "/photos/1", b"a photo")


@pytest.mark.parametrize(
    ("client", "provider"), [(MAINLAND, "china-telecom"), (HONG_KONG, "own-cloud"), (NETHERLANDS, "own-cloud")]
)
def test_a_visitor_is_taken_by_the_country(edge: Door, providers: Providers, client: str, provider: str) -> None:
    with providers.only(provider):
        assert edge.ask("/", from_=client).status == 200


def test_the_telecom_is_shown_our_key_and_its_own_name(edge: Door, providers: Providers) -> None:
    with providers.only("china-telecom") as heard:
        edge.ask("/", from_=MAINLAND)
    assert heard[0].headers["x-api-key"] == KEY
    assert heard[0].headers["host"] == providers["china-telecom"].origin.removeprefix("https://")
    assert heard[0].headers["x-forwarded-host"] == "storage.example.com"
    with providers.only("own-cloud") as heard:
        edge.ask("/", from_=HONG_KONG)
    assert "x-api-key" not in heard[0].headers
    assert heard[0].headers["host"] == "storage.example.com"


@pytest.mark.parametrize("client", [PRIVATE, None])
def test_who_cannot_be_placed_reaches_nothing(edge: Door, providers: Providers, client: str | None) -> None:
    with providers.only(None):
        said = edge.ask("/", from_=client)
    assert (said.status, said.reason) == (451, "home-unknown")


def test_an_account_without_a_home_is_not_guessed_at(edge: Door, papers: Papers, providers: Providers) -> None:
    with providers.only(None):
        said = edge.ask("/", from_=MAINLAND, token=papers.issuer.token("acct-2"))
    assert (said.status, said.reason) == (451, "home-unknown")


def test_a_forged_token_is_not_an_anonymous_request(edge: Door, providers: Providers) -> None:
    forged = Issuer("storage").token("acct-1", residency="DE")
    with providers.only(None):
        said = edge.ask("/", from_=HONG_KONG, token=forged)
    assert said.status == 401
    assert said.headers["www-authenticate"].startswith("Bearer")


def test_support_reads_abroad_and_nothing_else(edge: Door, papers: Papers, providers: Providers) -> None:
    token = papers.issuer.token("staff-1", residency="CN", **SUPPORT)
    with providers.only("own-cloud"):
        assert edge.ask("/photos/1", from_=NETHERLANDS, token=token).status == 200
    with providers.only(None):
        written = edge.ask("/photos/1", from_=NETHERLANDS, token=token, method="DELETE")
        paid = edge.ask("/invoices/7", from_=NETHERLANDS, token=token)
    assert (written.status, written.reason) == (451, "home-unknown")
    assert (paid.status, paid.reason) == (451, "forbidden")


def test_the_mainland_desk_reads_in_the_mainland(desk: Door, papers: Papers, providers: Providers) -> None:
    token = papers.issuer.token("staff-2", **SUPPORT)
    with providers.only("china-telecom"):
        assert desk.ask("/photos/1", from_=MAINLAND, token=token).status == 200
    with providers.only(None):
        refused = [
            desk.ask("/photos/1", from_=MAINLAND, token=token, method="PUT", body=b"x"),
            desk.ask("/payments/1", from_=MAINLAND, token=token),
            desk.ask("/photos/1", from_=NETHERLANDS, token=token),
            desk.ask("/photos/1", token=token),
        ]
    assert [(said.status, said.reason) for said in refused] == [(451, "forbidden")] * 4


@pytest.mark.parametrize("residency", ["CN", "DE", None])
def test_nobody_but_support_comes_in_by_the_desk(
    desk: Door, papers: Papers, providers: Providers, residency: str | None
) -> None:
    token = None if residency is None else papers.issuer.token("acct-3", residency=residency)
    with providers.only(None):
        said = desk.ask("/photos/1", from_=MAINLAND, token=token)
    assert (said.status, said.reason) == (451, "forbidden")


def test_without_the_telecom_the_mainland_waits(
    papers: Papers, providers: Providers, tmp_path: Path, proxy: Running
) -> None:
    policy = here(f"https://127.0.0.1:{free_port()}", providers["own-cloud"].origin)
    with start(policy, tmp_path, papers.files(), environ=papers.environ()) as running:
        door = edge_of(running, papers)
        with providers.only("own-cloud"):
            assert door.ask("/", from_=HONG_KONG).status == 200
        with providers.only(None):
            # Not reached; or left alone already, since a check found that nobody is there.
            assert door.ask("/", from_=MAINLAND).status in (502, 503)
            assert door.ask("/", from_=MAINLAND).status == 503


def test_a_telecom_that_is_nearer_than_beijing_gets_nothing(
    papers: Papers, providers: Providers, tmp_path: Path, proxy: Running
) -> None:
    policy = here(providers["china-telecom"].origin, providers["own-cloud"].origin, at=SINGAPORE)
    with start(policy, tmp_path, papers.files(), environ=papers.environ()) as running:
        door = edge_of(running, papers)
        until = time.monotonic() + 20
        while door.ask("/", from_=MAINLAND).status == 200 and time.monotonic() < until:
            pass
        with providers.only("own-cloud"):
            assert door.ask("/", from_=MAINLAND).status == 503
            assert door.ask("/", from_=HONG_KONG).status == 200


def test_a_certificate_of_a_public_authority_does_not_pass_for_the_telecom(
    papers: Papers, proxy: Running, tmp_path: Path
) -> None:
    impostors = papers.public.issue(["storage.ct.example"], ips=["127.0.0.1"])
    ours = papers.public.issue(ips=["127.0.0.1"])
    with recipient("china-telecom", impostors) as impostor, recipient("own-cloud", ours) as own:
        policy = here(impostor.origin, own.origin)
        with start(policy, tmp_path, papers.files(), environ=papers.environ()) as running:
            door = edge_of(running, papers)
            assert door.ask("/", from_=HONG_KONG).status == 200
            assert door.ask("/", from_=MAINLAND).status in (502, 503)
        assert impostor.connections
        assert not impostor.requests


def test_no_secret_and_no_person_is_in_the_log(papers: Papers, providers: Providers, tmp_path: Path) -> None:
    token = papers.issuer.token("acct-4", residency="CN")
    policy = here(providers["china-telecom"].origin, providers["own-cloud"].origin)
    log = tmp_path / "stdout"
    with log.open("wb") as out:
        with start(policy, tmp_path, papers.files(), environ=papers.environ(), stdout=out.fileno()) as running:
            door = edge_of(running, papers)
            assert door.ask("/album/our-wedding?key=1", from_=NETHERLANDS, token=token).status == 200
            assert door.ask("/album/our-wedding?key=1", from_=NETHERLANDS, token=token[:-8]).status == 401
        said = "\n".join(running.said)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(each["status"], each["provider"], each["home"]) for each in records] == [
        (200, "china-telecom", "cn-mainland"),
        (401, None, "unknown"),
    ]
    assert {each["client"] for each in records} == {"193.0.6.0/24"}
    for never in (KEY, token, token.split(".")[2], "acct-4", NETHERLANDS, "our-wedding"):
        assert never not in log.read_text() + said
