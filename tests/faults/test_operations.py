"""What an operator does while requests and connections are under way: a broken policy, and the end."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.staging import FIRST_BYTE, Stage, staged, until, within
from tests.http1.staging import request
from tests.running import ROOT


class Load:
    """Requests on kept connections, and connections that are passed on, one after another. ends: that were told so."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.over = False
        self.answers = 0
        self.echoes = 0
        self.ends = 0

    async def requests(self) -> None:
        client = await self._stage.client()
        while not self.over:
            with within(FIRST_BYTE):
                try:
                    await client.send(request())
                    response = await client.response()
                except (asyncio.IncompleteReadError, ConnectionError):
                    # It ended while it was idle, and this came too late: there is no record of it, as is shown below.
                    self.ends += 1
                    return
            self._stage.asked += 1
            assert response.body == b"first"
            self.answers += 1
            if response.header("connection") == "close":
                self.ends += 1
                return
            await asyncio.sleep(0.005)

    async def connections(self) -> None:
        while not self.over:
            with within(FIRST_BYTE):
                assert await self._stage.echoed() == (b"hello", True)
            self.echoes += 1
            await asyncio.sleep(0.005)

    @asynccontextmanager
    async def running(self, clients: int, connections: int) -> AsyncIterator[None]:
        works = [self.requests() for _ in range(clients)] + [self.connections() for _ in range(connections)]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            await until(lambda: self.answers > 20 and (self.echoes > 20 or not connections))
            yield
        finally:
            self.over = True
            await asyncio.gather(*tasks)


async def test_a_broken_policy_is_refused_in_words_and_in_figures_and_the_old_one_serves(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        load = Load(stage)
        async with load.running(4, 4):
            said, before = len(stage.proxy.said), load.answers
            broken = stage.policy().replace("zone: cn-mainland", "zone: cn-mainlnd", 1)
            with within(5.0):
                assert not await stage.aside(stage.proxy.reload, broken)
            assert any("cn-mainlnd" in line for line in stage.proxy.said[said:]), stage.proxy.said
            await until(lambda: load.answers > before + 20)
        assert await stage.total("domicile_policy_reloads_total", result="refused") == 1
        check = [sys.executable, "-m", "proxy.cli", "check", str(stage.proxy.policy)]
        checked = await stage.aside(lambda: subprocess.run(check, cwd=ROOT, capture_output=True, text=True))
        assert checked.returncode == 1
        assert "cn-mainlnd" in checked.stdout + checked.stderr
        await stage.told(*[None] * (load.answers + load.echoes))


async def test_sigterm_under_load_ends_everything_in_order(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        load, first = Load(stage), stage.sites["first"]
        waiting, passed = await stage.client(), await stage.connection()
        async with load.running(8, 0):
            stage.asked += 1
            await waiting.send(request("/wait", method="POST", body=b"under way"))
            await passed.send(b"before")
            assert await passed.exactly(6) == b"before"
            await until(lambda: any(b"under way" in each for each in first.heard))
            with within(FIRST_BYTE):
                stage.proxy.signal(signal.SIGTERM)
                await until(lambda: load.ends == 8)
                first.go.set()
                response = await waiting.response()
                assert (response.body, response.header("connection")) == (b"first", "close")
                await passed.send(b"after")
                assert await passed.exactly(5) == b"after"
                passed.writer.write_eof()
                assert await passed.rest() == (b"", True)
                assert await stage.aside(stage.proxy.wait) == 0
        records = stage.proxy.records()
        assert len(records) == stage.asked + stage.passed
        assert {each["reason"] for each in records} == {None}
        await stage.nothing_elsewhere()


async def test_a_worker_that_is_killed_costs_its_own_connections_and_no_others(tmp_path: Path) -> None:
    async with staged(tmp_path, accounted=False, more="workers: 2") as stage:
        victim, other = stage.proxy.workers()
        clients = [await stage.client() for _ in range(16)]
        for client in clients:
            await client.send(request())
            assert (await client.response()).body == b"first"
        lost = [client for client in clients if stage.served_by(victim, client)]
        kept = [client for client in clients if stage.served_by(other, client)]
        assert lost
        assert kept
        assert len(lost) + len(kept) == len(clients)
        for client in clients:
            await client.send(request("/wait", method="POST", body=b"under way"))
        await until(lambda: sum(each.count(b"POST /wait") for each in stage.sites["first"].heard) == len(clients))
        os.kill(victim, signal.SIGKILL)
        with within(FIRST_BYTE):
            for client in lost:
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await client.response()
            stage.sites["first"].go.set()
            for client in kept:
                assert (await client.response()).body == b"first"
        async with asyncio.timeout(30):
            while await stage.total("domicile_workers") != 2:
                await asyncio.sleep(0.05)
        assert await stage.total("domicile_worker_restarts_total") == 1
        for _ in range(20):
            assert (await stage.ask()).body == b"first"
        assert stage.sites["second"].heard == []
        assert [each["reason"] for each in await stage.records(2 + 32 - len(lost) + 20)] == [None] * (54 - len(lost))
