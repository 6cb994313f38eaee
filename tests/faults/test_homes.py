"""Where homes come from fails: a directory, a key service, a country database. Nobody gets a default home."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.clock import Clock
from tests.faults.link import SOUND, Fault, Link
from tests.faults.staging import TIMEOUTS, Stage, scene, serving, staged, within
from tests.http1.staging import BRITAIN, Response
from tests.identity.bad_inputs.tokens import made
from tests.identity.directory.servers import Service, service
from tests.identity.key_server import KeyServer, key_server
from tests.identity.mmdb_files import mmdb
from tests.identity.test_countries import DAMAGED, country

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOOK_UP = 0.5
"""The policy's, in seconds."""

AGE = 2.0
"""How long an answer may be used, in seconds."""

SOURCES = """
    - jwt:
        jwks: {url: "http://127.0.0.1:KEYS/jwks.json", timeout: 500ms, max_age: 1s, keep: 2s}
        issuer: https://id.example
        audience: storage
        home_claim: residency
    - directory:
        http: {url: "http://127.0.0.1:HOMES/home?subject={}"}
        key: {header: X-Account}
        timeout: 500ms
        cache: {max_age: 2s, refresh: 1s, unknown: 200ms}
    - location: {accounts: true}"""


@dataclass
class Home:
    """Two services behind links: `directory` knows `acct` of the mainland, and `keys` signs its tokens."""

    stage: Stage
    directory: Link
    keys: Link
    homes: Service
    issuer: KeyServer
    _asked: int = 0

    async def ask(self, credential: str) -> Response:
        """For somebody whose address is in Britain, and whose credential says that their home is the mainland."""
        self._asked += 1
        # What was planned for the same request a moment ago would be done again.
        return await self.stage.ask(f"/?{self._asked}", xff=BRITAIN, headers=credential)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    folder = tmp_path_factory.mktemp("homes")
    async with (
        scene(folder) as stage,
        service() as homes,
        key_server(folder, tls=False) as issuer,
        Link(homes.port).running() as directory,
        Link(issuer.port).running() as keys,
    ):
        homes.homes["acct"] = {"home": "cn-mainland"}
        sources = SOURCES.replace("HOMES", str(directory.port)).replace("KEYS", str(keys.port))
        async with serving(stage, stage.policy(sources=sources)):
            yield Home(stage, directory, keys, homes, issuer)


def _silent(link: Link) -> None:
    link.fault = Fault(rate=0)


@pytest.mark.parametrize("breaks", [Link.refuse, _silent], ids=["refused", "slow"])
@pytest.mark.parametrize("which", ["directory", "keys"])
async def test_a_verified_answer_serves_within_its_age_and_then_nobody_is_served(
    which: str, breaks: Callable[[Link], None], home: Home
) -> None:
    stage = home.stage
    link = home.directory if which == "directory" else home.keys
    credential = "X-Account: acct" if which == "directory" else f"Authorization: Bearer {made()}"
    async with asyncio.timeout(30):
        while (await home.ask(credential)).status != 200:
            await asyncio.sleep(0.1)
    assert (await home.ask(credential)).body == b"first"
    await stage.settle()
    breaks(link)
    link.reset()
    began, served = time.monotonic(), 0
    while True:
        with within(LOOK_UP):
            response = await home.ask(credential)
        if response.status != 200:
            break
        assert response.body == b"first"
        assert time.monotonic() - began < AGE + LOOK_UP + 5.0
        served += 1
        await asyncio.sleep(0.05)
    assert (response.status, response.reason) == (503, "source-unavailable")
    assert served > 1
    assert time.monotonic() - began > 0.5, "an outage is bridged"
    records = await stage.told(*[None] * served, "source-unavailable")
    assert records[-1]["provider"] is None
    source = "directory" if which == "directory" else "jwt"
    assert await stage.grown("domicile_source_answers_total", source=source, answer="unavailable") == 1
    assert (await stage.ask()).body == b"first", "who has no account is served by where they are"
    link.fault = SOUND
    link.listen()


MADE = int(time.time()) - 86_400
GEOIP = "geoip: {database: country.mmdb, max_age: 40d}"


@pytest.mark.debian
async def test_a_country_database_that_is_missing_corrupt_or_stale(tmp_path: Path) -> None:
    path, clock = tmp_path / "country.mmdb", Clock(tmp_path)
    path.write_bytes(mmdb({"1.2.4.0/24": country("CN"), "81.2.69.0/24": country("GB")}, MADE))
    async with staged(tmp_path, options={"environ": clock.environ}, more=f"{GEOIP}\n{TIMEOUTS}") as stage:

        async def served() -> bytes:
            """A request that asks for what nobody asked for yet."""
            return (await stage.ask(f"/?{stage.asked}")).body

        for breaks in (lambda: path.write_bytes(DAMAGED["cut"]), path.unlink):
            breaks()
            assert not await stage.aside(stage.proxy.reload, stage.policy(more=f"{GEOIP}\n{TIMEOUTS}\n# anew"))
            assert any("country.mmdb" in line for line in stage.proxy.said), stage.proxy.said
            assert (await served(), (await stage.echoed())[0]) == (b"first", b"hello"), "the old data"
        assert await stage.total("domicile_policy_reloads_total", result="refused") == 2
        clock.jump(41 * 86_400)
        response = await stage.ask(f"/?{stage.asked}")
        assert (response.status, response.reason) == (451, "home-unknown")
        assert (await stage.echoed())[0] == b"", "nobody is dialled for a home that is not known"
        assert await stage.total("domicile_denials_total", reason="home-unknown") == 2
        await stage.told(None, None, None, None, "home-unknown", "home-unknown")
