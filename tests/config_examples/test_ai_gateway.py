"""config/ai-gateway over real sockets: whose prompt was answered where, with whose key, and how it streamed."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from tests.authority import Authority, make_authority
from tests.config_examples.asking import Door, Providers, Said
from tests.config_examples.moved import AMERICA, ANY_PORT, LOOPBACK_PROXIES, MAINLAND, Issuer, moved
from tests.config_examples.recipients import recipient
from tests.peers.process import free_port
from tests.running import Running, start

ENDPOINTS = {
    "eu-lumen": "https://api.eu.lumen.example",
    "us-lumen": "https://api.us.lumen.example",
    "eu-own": "https://models.eu.example.com",
    "us-own": "https://models.us.example.com",
    "cn-yangtze": "https://api.yangtze.example",
}
KEYS = {
    "EU_LUMEN_KEY": "key-of-eu-lumen",
    "US_LUMEN_KEY": "key-of-us-lumen",
    "EU_OWN_KEY": "key-of-eu-own",
    "US_OWN_KEY": "key-of-us-own",
    "CN_YANGTZE_KEY": "key-of-cn-yangtze",
}
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
PROMPT = b'{"messages":[{"role":"user","content":"..."}]}'


@dataclass(frozen=True)
class Papers:
    """What the operator brings beside the policy. public: stands for the system's authorities."""

    issuer: Issuer
    public: Authority

    def files(self) -> dict[str, str | bytes]:
        return {"jwks.json": self.issuer.key_set}

    def environ(self) -> dict[str, str]:
        return {**KEYS, "SSL_CERT_FILE": str(self.public.certificate)}


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(Issuer("ai-gateway"), make_authority(tmp_path_factory.mktemp("papers"), "public"))


@pytest.fixture(scope="module")
def providers(papers: Papers) -> Iterator[Providers]:
    certificate = papers.public.issue(ips=["127.0.0.1"])
    with contextlib.ExitStack() as stack:
        yield Providers([stack.enter_context(recipient(name, certificate)) for name in ENDPOINTS])


def here(providers: Providers, **elsewhere: str) -> str:
    """The example with its endpoints on loopback. elsewhere: other origins for some, by name."""
    origins = {written: elsewhere.get(name, providers[name].origin) for name, written in ENDPOINTS.items()}
    return moved("ai-gateway", {**LOOPBACK_PROXIES, **origins, "127.0.0.1:8080": ANY_PORT})


@pytest.fixture(scope="module")
def proxy(papers: Papers, providers: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("gateway")
    with start(here(providers), folder, papers.files(), environ=papers.environ()) as running:
        tenants = Tenants(running, papers)
        for residency, path, answers in (
            ("FR", CHAT, b"eu-lumen"),
            ("FR", EMBEDDINGS, b"eu-own"),
            ("US", CHAT, b"us-lumen"),
            ("US", EMBEDDINGS, b"us-own"),
            ("CN", CHAT, b"cn-yangtze"),
        ):
            assert tenants.ask(residency, path).body == answers
        providers.all_were_reached()
        yield running


class Tenants:
    """Tenants that send prompts, by where they are at home."""

    def __init__(self, running: Running, papers: Papers) -> None:
        self.door = Door(running.port("gateway"), "ai.example.com")
        self._issuer = papers.issuer

    def token(self, residency: str) -> str:
        return self._issuer.token(f"tenant-{residency}", residency=residency)

    def ask(self, residency: str, path: str, *, host: str | None = None, from_: str | None = None) -> Said:
        return self.door.ask(path, from_=from_, token=self.token(residency), method="POST", host=host, body=PROMPT)


@pytest.fixture
def tenants(proxy: Running, papers: Papers) -> Tenants:
    return Tenants(proxy, papers)


@pytest.mark.parametrize(
    ("residency", "path", "host", "provider"),
    [
        ("FR", CHAT, None, "eu-lumen"),
        ("IS", CHAT, None, "eu-lumen"),
        ("CN", CHAT, None, "cn-yangtze"),
        ("HK", CHAT, None, "us-lumen"),
        ("CH", CHAT, None, "us-lumen"),
        ("FR", EMBEDDINGS, None, "eu-own"),
        ("US", EMBEDDINGS, None, "us-own"),
        ("CN", EMBEDDINGS, None, "cn-yangtze"),
        ("FR", CHAT, "batch.ai.example.com", "eu-own"),
        ("US", CHAT, "batch.ai.example.com", "us-own"),
        ("CN", CHAT, "batch.ai.example.com", "cn-yangtze"),
        ("FR", CHAT, "health.ai.example.com", "eu-own"),
        ("US", CHAT, "health.ai.example.com", "us-own"),
    ],
)
def test_a_prompt_is_answered_at_home(
    tenants: Tenants, providers: Providers, residency: str, path: str, host: str | None, provider: str
) -> None:
    for caller in (AMERICA, MAINLAND, None):
        with providers.only(provider) as heard:
            assert tenants.ask(residency, path, host=host, from_=caller).status == 200
        assert (heard[0].target, heard[0].body) == (path, PROMPT)


def test_an_endpoint_is_shown_our_key_for_it_and_no_tenants_token(tenants: Tenants, providers: Providers) -> None:
    for residency, name, field, value in (
        ("FR", "eu-lumen", "authorization", "Bearer key-of-eu-lumen"),
        ("US", "us-lumen", "authorization", "Bearer key-of-us-lumen"),
        ("CN", "cn-yangtze", "x-api-key", "key-of-cn-yangtze"),
    ):
        with providers.only(name) as heard:
            tenants.ask(residency, CHAT)
        headers = heard[0].headers
        assert headers[field] == value
        assert headers["host"] == providers[name].origin.removeprefix("https://")
        assert "authorization" not in headers or field == "authorization"
        assert not any(tenants.token(residency) in each for each in headers.values())


def test_without_a_tenant_there_is_no_answer(tenants: Tenants, providers: Providers) -> None:
    with providers.only(None):
        nobody = tenants.door.ask(CHAT, method="POST", body=PROMPT, from_=AMERICA)
        forged = Issuer("ai-gateway").token("tenant-FR", residency="FR")
        forger = tenants.door.ask(CHAT, method="POST", body=PROMPT, token=forged)
    assert (nobody.status, nobody.reason) == (451, "home-unknown")
    assert forger.status == 401


def test_only_answers_are_asked_for(tenants: Tenants, providers: Providers) -> None:
    with providers.only(None):
        for path in ("/v1/files", "/v1/fine_tuning/jobs", "/v1/chat/completions/", "/"):
            said = tenants.ask("FR", path)
            assert (said.status, said.reason) == (451, "forbidden"), path
        assert tenants.ask("FR", "/v1/files/%2e%2e/chat/completions").status == 400


def test_a_prompt_that_is_too_large_is_refused_before_anybody_hears_of_it(
    tenants: Tenants, providers: Providers
) -> None:
    token = {"Authorization": f"Bearer {tenants.token('FR')}"}
    with (
        providers.only(None),
        tenants.door.asked("POST", CHAT, {**token, "Content-Length": str((20 << 20) + 1)}) as response,
    ):
        assert response.status == 413
    with providers.only("eu-lumen") as heard:
        said = tenants.door.ask(CHAT, token=tenants.token("FR"), method="POST", body=bytes(5 << 20))
    assert said.status == 200
    assert len(heard[0].body) == 5 << 20


def test_an_answer_streams_event_by_event(tenants: Tenants, providers: Providers) -> None:
    read_by_client = threading.Event()

    async def tokens(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(3):
            await response.write(b'data: {"token":%d}\n\n' % number)
            # The next event is written only once the client has this one: a proxy that waits for more never gets it.
            assert await asyncio.to_thread(read_by_client.wait, 30)
            read_by_client.clear()
        await response.write_eof()
        return response

    provider = providers["eu-lumen"]
    usual, provider.answer = provider.answer, tokens
    headers = {"Authorization": f"Bearer {tenants.token('FR')}", "Accept": "text/event-stream"}
    try:
        with tenants.door.asked("POST", CHAT, headers, PROMPT) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            for number in range(3):
                assert response.readline() == b'data: {"token":%d}\n' % number
                assert response.readline() == b"\n"
                read_by_client.set()
            assert response.read() == b""
    finally:
        provider.answer = usual


def test_what_is_down_in_europe_is_answered_in_europe_or_not_at_all(
    papers: Papers, providers: Providers, proxy: Running, tmp_path: Path
) -> None:
    def nowhere() -> str:
        return f"https://127.0.0.1:{free_port()}"

    one_down = here(providers, **{"eu-lumen": nowhere()})
    with start(one_down, tmp_path, papers.files(), environ=papers.environ()) as running:
        tenants = Tenants(running, papers)
        with providers.only("eu-own"):
            assert tenants.ask("FR", CHAT).body == b"eu-own"
        assert running.reload(here(providers, **{"eu-lumen": nowhere(), "eu-own": nowhere()}))
        with providers.only(None):
            assert [tenants.ask("FR", CHAT).status for _ in range(2)] == [502, 503]
        with providers.only("us-lumen"):
            assert tenants.ask("US", CHAT).status == 200


def test_no_key_and_no_tenant_is_in_the_log(papers: Papers, providers: Providers, tmp_path: Path) -> None:
    log = tmp_path / "stdout"
    with log.open("wb") as out:
        policy = here(providers) + "\nlog: {path: stdout}\n"
        with start(policy, tmp_path, papers.files(), environ=papers.environ(), stdout=out.fileno()) as running:
            tenants = Tenants(running, papers)
            tenant = tenants.token("FR")
            assert tenants.ask("FR", CHAT, from_=AMERICA).status == 200
            assert tenants.ask("CN", EMBEDDINGS, from_=MAINLAND).status == 200
            metrics = running.get("/metrics")[1].decode() + running.get("/status")[1].decode()
        said = "\n".join(running.said)
    assert [json.loads(line)["provider"] for line in log.read_text().splitlines()] == ["eu-lumen", "cn-yangtze"]
    for never in (*KEYS.values(), tenant, tenant.split(".")[2], "tenant-FR", AMERICA, CHAT, "..."):
        assert never not in log.read_text() + said + metrics
