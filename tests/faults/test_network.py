"""A provider in a network of its own, whose cable is cut or thin: nothing is refused, nothing reset, nobody told."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.cable import Cable
from tests.faults.site import Site
from tests.faults.staging import (
    CONNECT,
    FIRST_BYTE,
    FORGIVING,
    IDLE,
    TURNED,
    Stage,
    scene,
    serving,
    telecom,
    until,
    within,
)
from tests.http1.staging import request

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.debian]

NEAR, FAR = "second, second-raw", "far, far-raw"


class Cabled:
    """`far` is behind the cable, `second` is here."""

    def __init__(self, stage: Stage, cable: Cable, site: Site) -> None:
        self.stage = stage
        self.cable = cable
        self.site = site

    async def mended(self) -> None:
        """The cable is whole, and `far` in service."""
        self.cable.mend()
        async with asyncio.timeout(30):
            while (await self.stage.ask()).body != b"far" or (await self.stage.echoed())[0] != b"hello":
                await asyncio.sleep(0.05)
        await self.stage.settle()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _cabled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cabled]:
    if os.geteuid() != 0:
        pytest.skip("only root lays cables; .ci/run is root")
    folder, site = tmp_path_factory.mktemp("network"), Site("far")
    with Cable() as cable:
        async with scene(folder) as stage, site.running(bound=cable.bound):
            places = {
                "far": (cable.address, site.port, site.raw_port),
                "second": ("127.0.0.1", stage.links["second"].port, stage.raw_links["second"].port),
            }
            health = f", health: {{{FORGIVING}}}"
            providers = []
            for name, (address, port, raw_port) in places.items():
                providers.append(telecom(name, f"http://{address}:{port}", f"{health}, plaintext: true"))
                providers.append(telecom(f"{name}-raw", f"tcp://{address}:{raw_port}", health))
            routes = [f"  - {{when: {{client: {TURNED}}}, prefer: [{NEAR}]}}", f"  - {{prefer: [{FAR}, {NEAR}]}}\n"]
            async with serving(stage, stage.policy(providers="\n".join(providers), routes="\n".join(routes))):
                yield Cabled(stage, cable, site)


@pytest_asyncio.fixture(loop_scope="module")
async def cabled(_cabled: Cabled) -> Cabled:
    await _cabled.mended()
    return _cabled


async def test_a_cable_that_is_cut_costs_what_was_under_way_and_nothing_else(cabled: Cabled) -> None:
    stage, site = cabled.stage, cabled.site
    waiting, passed = await stage.client(), await stage.connection()
    stage.asked += 1
    await waiting.send(request("/wait", method="POST", body=b"once"))
    await passed.send(b"before")
    assert await passed.exactly(6) == b"before"
    await until(lambda: any(b"once" in each for each in site.heard))
    cabled.cable.cut()
    await passed.send(b"after")
    with within(max(FIRST_BYTE, IDLE, CONNECT)):
        answer, (data, orderly), new, echo = await asyncio.gather(
            waiting.response(), passed.rest(), stage.ask(method="POST", body=b"new"), stage.echoed(b"new")
        )
    assert (answer.status, answer.reason) == (504, "provider-too-slow")
    assert (data, orderly) == (b"", False)
    assert (new.body, echo) == (b"second", (b"new", True))
    await stage.told("provider-too-slow", "idle", None, None)
    assert await stage.total("domicile_attempts_total", provider="far", result="timeout") >= 1
    assert not any(b"new" in each for each in site.heard)
    site.go.set()
    await cabled.mended()


async def test_a_thin_cable_is_slow_and_whole_and_holds_up_nobody_else(cabled: Cabled) -> None:
    stage = cabled.stage
    cabled.cable.thin("400kbit")
    began = time.monotonic()
    slow = asyncio.create_task(stage.ask("/bytes/60000"))
    for number in range(20):
        with within(0):
            response = await stage.ask(xff=TURNED)
        assert response.body == b"second"
        assert number or not slow.done()
    assert (await slow).body == b"x" * 60_000
    assert time.monotonic() - began > 0.5, "it was slow"
    await stage.told(*[None] * 21)
