"""What this machine runs out of, and what a reader of the log does: descriptors, disk, a pipe, time."""

import asyncio
import os
import resource
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.clock import Clock
from tests.faults.staging import FIRST_BYTE, Stage, processor, scene, serving, staged, until, within
from tests.http1.staging import Client, request
from tests.running import Running


async def _ask_often(stage: Stage, count: int, clients: int = 8) -> None:
    """So many requests on kept connections, each answered in time whatever becomes of its record."""

    async def some(client: Client) -> None:
        for _ in range(count // clients):
            stage.asked += 1
            with within(FIRST_BYTE):
                await client.send(request())
                assert (await client.response()).body == b"first"

    await asyncio.gather(*[some(await stage.client()) for _ in range(clients)])


# Descriptors


async def test_out_of_descriptors_accepting_pauses_nothing_spins_and_the_admin_endpoints_answer(tmp_path: Path) -> None:
    async with staged(tmp_path, options={"descriptors": 96}) as stage:
        kept = await stage.client()
        stage.asked += 1
        await kept.send(request())
        assert (await kept.response()).body == b"first"
        (worker,) = stage.proxy.workers()
        port = stage.proxy.port("edge")
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(150)]
        assert "file descriptors" in await stage.aside(stage.proxy.await_line, "accepting pauses")
        began, busy = time.monotonic(), processor(worker)
        for _ in range(10):
            assert (await stage.aside(stage.proxy.get, "/readyz"))[0] == 200
            stage.asked += 1
            await kept.send(request(method="POST", body=b"x"))
            assert (await kept.response()).body == b"first", "who was let in is served"
            stage.links["first"].end()
            await until(lambda: stage.links["first"].living == 0)
        await asyncio.sleep(1.0)
        assert processor(worker) - busy < (time.monotonic() - began) / 2, "it spins"
        assert await stage.aside(stage.proxy.reload, stage.policy(more="# short of descriptors"))
        for _, writer in crowd:
            writer.close()
        assert (await stage.ask()).body == b"first"
        assert await stage.echoed() == (b"hello", True)
        await stage.told(*[None] * 13)


# Disk


TINY = 64 << 10


class Disk:
    """A tmpfs that the process alone sees; where nobody may mount one, a limit on the size of its files.

    options: what the process has to be started with. log: the access log, as the process knows it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tiny"
        self._folder.mkdir()
        self.log = self._folder / "access.log"
        mounting = f'mount -t tmpfs -o size={TINY} none {self._folder} && exec "$@"'
        under = ["unshare", "--mount", "--", "sh", "-c", mounting, "sh"]
        self._mounts = subprocess.run([*under, "true"], capture_output=True).returncode == 0
        self.options = {"under": under} if self._mounts else {}

    def fill(self, proxy: Running) -> None:
        """From now on it is no larger than TINY. What the process writes is found at `proxy.log`."""
        if self._mounts:
            proxy.log = Path(f"/proc/{proxy.process.pid}/root{self.log}")
        else:
            proxy.log = self.log
            self._limit(proxy, TINY)

    def grow(self, proxy: Running) -> None:
        """From now on it holds what comes."""
        if self._mounts:
            namespace = ["nsenter", "--mount", "--target", str(proxy.process.pid)]
            subprocess.run([*namespace, "mount", "-o", "remount,size=1g", str(self._folder)], check=True)
        else:
            self._limit(proxy, resource.RLIM_INFINITY)

    def _limit(self, proxy: Running, size: int) -> None:
        resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def test_a_full_disk_holds_up_no_request_and_costs_no_record_that_may_wait(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    async with scene(tmp_path) as stage:
        policy = stage.policy(more=f"log: {{path: {disk.log}}}")
        async with serving(stage, policy, **disk.options):
            disk.fill(stage.proxy)
            await _ask_often(stage, 3000)
            said = await stage.aside(stage.proxy.await_line, "access log")
            assert "No space left" in said or "File too large" in said
            assert await stage.total("domicile_requests_total") == stage.asked
            assert stage.proxy.log.stat().st_size == TINY
            assert (await stage.aside(stage.proxy.get, "/readyz"))[0] == 200
            disk.grow(stage.proxy)
            await stage.records(stage.asked + stage.passed)
            assert await stage.total("domicile_log_dropped_total") == 0


async def test_a_reader_of_the_log_that_stops_holds_up_no_request_and_misses_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        async with scene(tmp_path) as stage:
            policy = stage.policy(more="log: {path: stdout}")
            async with serving(stage, policy, accounted=False, stdout=writing):
                os.close(writing)
                await _ask_often(stage, 3000)
                assert await stage.total("domicile_requests_total") == stage.asked
                lines = 0
                while lines < stage.asked + stage.passed:
                    lines += (await stage.aside(os.read, reading, 1 << 20)).count(b"\n")
                assert lines == stage.asked + stage.passed
                assert await stage.total("domicile_log_dropped_total") == 0
    finally:
        os.close(reading)


# Time


@pytest.mark.debian
@pytest.mark.parametrize("jump", [86400, -86400], ids=["a day on", "a day back"])
async def test_a_clock_that_is_set_ends_nothing_and_delays_nothing(jump: int, tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    more = "timeouts: {connect: 5s, first_byte: 1500ms, idle: 60s, keep_alive: 60s}"
    async with staged(tmp_path, options={"environ": clock.environ}, more=more) as stage:
        kept, waiting = await stage.client(), await stage.client()
        passed = await stage.connection()
        await passed.send(b"before")
        assert await passed.exactly(6) == b"before"
        stage.asked += 3
        await kept.send(request())
        assert (await kept.response()).body == b"first"
        began = time.monotonic()
        await waiting.send(request("/wait"))
        await until(lambda: any(b"/wait" in each for each in stage.sites["first"].heard))
        clock.jump(jump)
        await kept.send(request())
        assert (await kept.response()).body == b"first"
        await passed.send(b"after")
        assert await passed.exactly(5) == b"after"
        with within(1.5):
            response = await waiting.response()
        assert response.status == 504
        assert time.monotonic() - began >= 1.4, "not before it was due"
        passed.writer.write_eof()
        assert await passed.rest() == (b"", True)
        assert (await stage.ask()).body == b"first"
        records = await stage.told(None, None, "provider-too-slow", None, None)
        days = sorted({each["time"][:10] for each in records})
        assert len(days) == 2, "the process did see another time"
        assert all(0 <= each["duration"] < 60 for each in records)
