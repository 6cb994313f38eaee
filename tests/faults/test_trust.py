"""Providers that cannot show who they are, and one whose TLS is cut: for requests, and for what is wrapped."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.authority import Issued, make_authority
from tests.faults.link import At, Fault, Link
from tests.faults.site import Site
from tests.faults.staging import CONNECT, Stage, scene, serving, telecom, within

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "storage.example"

UNTRUSTED = (502, "provider-tls", "tls")
BAD = {
    "expired": UNTRUSTED,
    "early": UNTRUSTED,
    "other-name": UNTRUSTED,
    "other-authority": UNTRUSTED,
    "other-pin": UNTRUSTED,
    "silent": (504, "provider-connect-timeout", "timeout"),
}
"""What becomes of a request. `silent` waits for one that is not in TLS; where it echoes, it sends the greeting back."""


@dataclass
class Trusting:
    """One process with a provider of each kind, each for a client of its own. `good` is behind a link."""

    stage: Stage
    sites: dict[str, Site]
    link: Link

    def client(self, kind: str) -> str:
        return _client(list(self.sites).index(kind))


def _client(number: int) -> str:
    return f"1.2.4.{100 + number}"


def _context(issued: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trusting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trusting]:
    folder = tmp_path_factory.mktemp("trust")
    ours, other = make_authority(folder), make_authority(folder, "other")
    issued = {
        "good": ours.issue(names=[NAME]),
        "expired": ours.issue(names=[NAME], expired=True),
        "early": ours.issue(names=[NAME], early=True),
        "other-name": ours.issue(names=["other.example"]),
        "other-authority": other.issue(names=[NAME]),
        "other-pin": ours.issue(names=[NAME]),
    }
    contexts: dict[str, ssl.SSLContext | None] = {kind: _context(each) for kind, each in issued.items()}
    sites = {kind: Site(kind) for kind in [*contexts, "silent"]}
    pin = 'pins: ["sha256/' + "A" * 43 + '="]'
    providers, routes = [], []
    async with scene(folder) as stage, AsyncExitStack() as running:
        for number, (kind, site) in enumerate(sites.items()):
            await running.enter_async_context(site.running(contexts.get(kind)))
            ports = site.port, site.raw_port
            if kind == "good":
                link = await running.enter_async_context(Link(site.port).running())
                ports = link.port, site.raw_port
            more = pin if kind == "other-pin" else 'min_version: "1.2"'
            tls = f", tls: {{ca: {ours.certificate}, server_name: {NAME}, {more}}}"
            providers.append(telecom(kind, f"https://127.0.0.1:{ports[0]}", tls))
            providers.append(telecom(f"{kind}-raw", f"tls://127.0.0.1:{ports[1]}", tls))
            routes.append(f"  - {{when: {{client: {_client(number)}}}, only: {{providers: [{kind}, {kind}-raw]}}}}\n")
        policy = stage.policy(providers="\n".join(providers), routes="".join(routes))
        async with serving(stage, policy):
            yield Trusting(stage, sites, link)


async def test_who_shows_a_good_certificate_is_served_and_its_expiry_is_known_ahead(trusting: Trusting) -> None:
    stage, site = trusting.stage, trusting.sites["good"]
    assert (await stage.ask(xff=trusting.client("good"))).body == b"good"
    connection = await stage.connection(trusting.client("good"))
    await connection.send(b"hello")
    assert await connection.exactly(5) == b"hello"
    connection.reset()
    assert site.requests == ["GET /"]
    await stage.told(None, "client-left")
    expiries = await stage.total(
        "domicile_certificate_expiry_timestamp_seconds", name=f"good 127.0.0.1:{trusting.link.port}"
    )
    assert expiries > time.time()


@pytest.mark.parametrize("kind", BAD)
async def test_who_does_not_is_sent_nothing_and_nobody_else_is_asked(kind: str, trusting: Trusting) -> None:
    stage, site = trusting.stage, trusting.sites[kind]
    client = trusting.client(kind)
    before = await stage.total("domicile_requests_total", listener="edge", status="5xx")
    with within(CONNECT):
        response, (data, _) = await asyncio.gather(stage.ask(xff=client, body=b"data"), stage.echoed(xff=client))
    status, reason, result = BAD[kind]
    assert (response.status, response.reason) == (status, reason)
    assert data == b""
    assert not any(b"GET" in each or b"hello" in each for each in site.heard)
    records = await stage.told(reason, "unreachable")
    assert {each["provider"] for each in records} <= {kind, f"{kind}-raw"}
    assert await stage.total("domicile_requests_total", listener="edge", status="5xx") == before + 1
    assert await stage.total("domicile_attempts_total", provider=kind, result=result) == 1
    assert await stage.total("domicile_attempts_total", provider=f"{kind}-raw", result="tls") == 1


async def test_an_answer_whose_tls_ends_without_a_word_is_not_whole(trusting: Trusting) -> None:
    stage, link, client = trusting.stage, trusting.link, trusting.client("good")
    link.script.append(Fault())
    link.end()
    assert (await stage.ask("/end/3000", xff=client)).body == b"x" * 3000, "it ended in order"
    link.script.append(Fault(at=At("to_client", link.passed["to_client"] - 10, "end")))
    with within(CONNECT), pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await stage.ask("/end/3000", xff=client)
    await stage.told(None, "provider-closed")
