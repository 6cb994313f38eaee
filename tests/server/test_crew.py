"""The master's view of its workers: real processes, and what is done when one of them does not do its part."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config import load
from proxy.policy.policy import Policy
from proxy.server import crew as crews
from proxy.server.crew import Crew
from proxy.server.listening import Sockets
from proxy.server.load import LoadRefused
from proxy.server.member import Member
from proxy.server.orders import Reported

POLICY = """
version: 1
zones: {{here: {{countries: ["*"]}}}}
providers: {{own: {{operator: Example Inc, zone: here, endpoints: ["http://127.0.0.1:1"]}}}}
rules: [{{name: all, allow: [here], when: {{home: [here, unknown]}}}}]
listeners: [{{name: edge, bind: "127.0.0.1:0"}}{more}]
# {remark}
"""

PATIENCE = 40.0


class Begun:
    """A crew of two, and what it told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sockets = Sockets(2)
        self.reports: dict[int, Reported] = {}
        self.gone: list[int] = []
        self.crew = Crew(2, [], os.close, self.reports.__setitem__, self.gone.append)

    def policy(self, remark: str, more: str = "") -> Policy:
        path = self.folder / "policy.yaml"
        path.write_text(POLICY.format(remark=remark, more=more))
        return load(path, os.environ, 0.0).policy

    async def begin(self) -> None:
        policy = self.policy("first")
        prepared = self.sockets.prepare(policy.listeners)
        await self.crew.begin(policy, prepared.plan)
        self.sockets.commit(prepared)

    async def change(self, policy: Policy) -> None:
        """As the master reloads. Raises LoadRefused."""
        prepared = self.sockets.prepare(policy.listeners)
        async with self.crew.quiet():
            try:
                await self.crew.prepare(policy, prepared.plan)
            except LoadRefused:
                prepared.abandon()
                raise
            self.sockets.commit(prepared)
            await self.crew.commit(prepared.plan)

    def members(self) -> list[Member]:
        return [self.crew._members[seat] for seat in sorted(self.crew._members)]


@contextlib.asynccontextmanager
async def begun(folder: Path) -> AsyncIterator[Begun]:
    found = Begun(folder)
    await found.begin()
    try:
        yield found
    finally:
        found.sockets.close()
        await found.crew.drain(1.0)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_silent_worker_is_killed_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "SILENCE", 3.0)
    async with begun(tmp_path) as found:
        assert found.crew.look()
        silent, other = found.members()
        os.kill(silent.pid, signal.SIGSTOP)
        await until(lambda: not found.crew.look())
        await until(lambda: found.crew.restarted == 1)
        assert silent.serial in found.gone
        assert other.serial not in found.gone
        assert found.crew.living == 2
        await until(found.crew.look)


async def test_one_worker_that_does_not_answer_leaves_all_with_the_old_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with begun(tmp_path) as found:
        silent, other = found.members()
        os.kill(silent.pid, signal.SIGSTOP)
        monkeypatch.setattr(crews, "PATIENCE", 0.5)
        with pytest.raises(LoadRefused, match=f"worker {silent.pid} did not open the policy within"):
            await found.change(found.policy("second", ', {name: other, bind: "127.0.0.1:0"}'))
        os.kill(silent.pid, signal.SIGCONT)
        monkeypatch.setattr(crews, "PATIENCE", PATIENCE)
        assert set(found.sockets.addresses()) == {"edge"}
        await found.change(found.policy("third", ', {name: third, bind: "127.0.0.1:0"}'))
        assert [silent.keys, other.keys] == [set(found.sockets.all())] * 2
        port = int(found.sockets.addresses()["third"][0].rpartition(":")[2])
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)):
                pass


async def test_one_that_dies_while_it_opens_a_policy_leaves_all_with_the_old(tmp_path: Path) -> None:
    async with begun(tmp_path) as found:
        dying, _ = found.members()
        os.kill(dying.pid, signal.SIGSTOP)
        changing = asyncio.ensure_future(found.change(found.policy("second")))
        await asyncio.sleep(0)
        os.kill(dying.pid, signal.SIGKILL)
        with pytest.raises(LoadRefused, match=f"worker {dying.pid} ended while it opened the policy"):
            await changing
        await until(lambda: found.crew.restarted == 1)
        await found.change(found.policy("third"))


async def test_one_that_dies_before_it_swaps_begins_with_the_new_policy(tmp_path: Path) -> None:
    async with begun(tmp_path) as found:
        policy = found.policy("second", ', {name: other, bind: "127.0.0.1:0"}')
        prepared = found.sockets.prepare(policy.listeners)
        dying, _ = found.members()
        async with found.crew.quiet():
            await found.crew.prepare(policy, prepared.plan)
            os.kill(dying.pid, signal.SIGKILL)
            found.sockets.commit(prepared)
            await found.crew.commit(prepared.plan)
            assert found.crew.restarted == 0, "nobody is replaced while a policy changes"
        await until(lambda: found.crew.restarted == 1)
        assert all(member.keys == set(prepared.plan) for member in found.members())


async def test_a_crew_that_cannot_begin_leaves_nobody(tmp_path: Path) -> None:
    found = Begun(tmp_path)
    policy = replace(found.policy("first"), listeners=())
    prepared = found.sockets.prepare(policy.listeners)
    with pytest.raises(LoadRefused, match="no listeners"):
        await found.crew.begin(policy, prepared.plan)
    prepared.abandon()
    await until(lambda: not found.crew._alive)
    assert len(found.gone) == 2


async def test_a_drain_that_is_not_kept_ends_in_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "OVERTIME", 0.2)
    found = Begun(tmp_path)
    await found.begin()
    stuck, _ = found.members()
    os.kill(stuck.pid, signal.SIGSTOP)
    found.sockets.close()
    await found.crew.drain(0.2)
    assert len(found.gone) == 2
