"""How connections are ended by us: limits, withdrawal, drain; and how it goes where descriptors or pipes run out."""

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.providers.descriptors import kept_free
from proxy.tcp import way
from proxy.tcp.vessels import BUFFER, LARGE, Vessels
from tests.tcp.staging import (
    GERMANY,
    PROMISE,
    Conversation,
    Peer,
    Stage,
    client_hello,
    echo,
    eventually,
    not_before,
    staged,
    swallow,
    wait,
)


async def talking(stage: Stage, listener: str = "raw", source: str | None = None) -> Peer:
    """A client that is connected through to its provider, which echoes."""
    client = await stage.client(listener, source=source)
    hello = client_hello()
    await client.send(hello)
    await client.exactly(len(hello))
    return client


def reasons(records: list[dict[str, object]]) -> list[object]:
    return sorted(str(record["reason"]) for record in records)


# Limits


async def test_without_a_byte_either_way_it_ends() -> None:
    async with staged({"own": echo}, provider=", timeouts: {idle: 600ms}") as stage:
        client = await talking(stage)
        for _ in range(4):  # each byte renews it
            await asyncio.sleep(0.3)
            await client.send(b".")
            await client.exactly(1)
        with not_before(0.5):
            assert await client.was_reset()
        conversation = await stage.conversation("own")
        await conversation.over.wait()
        assert reasons(await stage.records(1)) == ["idle"]
        assert stage.counted("domicile_passed_connections_total", outcome="idle", provider="own") == 1
        await stage.nothing_left()


async def test_bytes_one_way_are_enough_to_live() -> None:
    async def ticking(conversation: Conversation) -> None:
        for _ in range(8):
            await conversation.send(b".")
            await asyncio.sleep(0.2)
        conversation.end()
        await conversation.rest()

    async with staged({"own": ticking}, provider=", timeouts: {idle: 600ms}") as stage:
        client = await stage.client()
        assert await client.rest() == b"." * 8


async def test_a_life_has_an_end_however_busy() -> None:
    async with staged({"own": echo}, more="timeouts: {lifetime: 1s}") as stage:
        client = await talking(stage)

        async def talk_on() -> None:
            while True:
                await client.send(b".")
                await client.exactly(1)

        with not_before(0.9), pytest.raises(ConnectionError):
            await talk_on()
        assert reasons(await stage.records(1)) == ["lifetime"]
        await stage.nothing_left()


async def test_bytes_of_living_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.tcp.passage.COUNTED", 0.1)
    async with staged({"own": echo}) as stage:
        client = await talking(stage)
        sent = len(client.received)
        await eventually(lambda: stage.counted("domicile_bytes_total", provider="own") == 2 * sent)


# Withdrawal


FORBIDDEN = "rules:\n  - {name: nobody, when: {home: elsewhere}, forbid: any}\n"


@pytest.mark.parametrize("listener", ["raw", "pass"])
async def test_a_reload_that_withdraws_a_permit_ends_what_ran_on_it(listener: str) -> None:
    async with staged({"own": echo, "eu": echo}) as stage:
        withdrawn, kept = await talking(stage, listener), await talking(stage, listener, GERMANY)
        text = (stage.folder / "policy.yaml").read_text()
        stage.swap(text.replace("rules:\n", FORBIDDEN))
        async with asyncio.timeout(PROMISE):
            assert await withdrawn.was_reset()
        conversation = await stage.conversation("own")
        await conversation.over.wait()
        await kept.send(b"still here")
        assert await kept.exactly(10) == b"still here"
        assert stage.counted("domicile_withdrawn_total", provider="own", listener=listener) == 1
        assert stage.counted("domicile_withdrawn_total", provider="eu") == 0
        assert reasons(await stage.records(1)) == ["withdrawn"]


async def test_a_reload_that_changes_nothing_leaves_all_alone() -> None:
    async with staged({"own": echo}) as stage:
        client = await talking(stage)
        for _ in range(3):
            stage.swap((stage.folder / "policy.yaml").read_text())
        await client.send(b"hello")
        assert await client.exactly(5) == b"hello"
        client.end()
        await client.rest()
        await stage.nothing_left()


async def test_many_are_withdrawn_a_share_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.tcp.plane.DECIDED_AT_ONCE", 7)
    async with staged({"own": echo}) as stage:
        clients = [await talking(stage) for _ in range(60)]
        text = (stage.folder / "policy.yaml").read_text()
        stage.swap(text.replace("rules:\n", FORBIDDEN))
        assert stage.plane.open_connections > 40
        async with asyncio.timeout(PROMISE):
            for client in clients:
                assert await client.was_reset()
        assert stage.counted("domicile_withdrawn_total") == 60
        await stage.nothing_left()


async def test_who_is_being_connected_goes_on_by_what_is_decided_now() -> None:
    """The dial of an endpoint that a reload takes away ends, and nothing of the client goes there."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with staged({"own": echo}, provider=", timeouts: {connect: 30s}") as stage:
            good = (stage.folder / "policy.yaml").read_text()
            port = stage.providers["own"].port
            stage.swap(good.replace(f":{port}", f":{full.getsockname()[1]}"))
            client = await stage.client()
            await client.send(b"hello")
            await eventually(lambda: stage.open_at("own") == 1)
            stage.swap(good)
            assert await client.exactly(5) == b"hello"
            client.end()
            await client.rest()
            (record,) = await stage.records(1)
            assert (record["reason"], record["attempts"]) == (None, 2)
            await stage.nothing_left()


async def test_who_is_being_connected_and_is_permitted_nothing_now_is_turned_away() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with staged({"own": echo}, provider=", timeouts: {connect: 30s}") as stage:
            good = (stage.folder / "policy.yaml").read_text()
            slow = good.replace(f":{stage.providers['own'].port}", f":{full.getsockname()[1]}")
            stage.swap(slow)
            client = await stage.client("pass")
            await client.send(client_hello())
            await eventually(lambda: stage.open_at("own") == 1)
            stage.swap(slow.replace("rules:\n", FORBIDDEN))
            assert (await client.rest())[:1] == b"\x15"
            assert reasons(await stage.records(1)) == ["withdrawn"]
            client.end()
            await stage.nothing_left()


# Drain


async def test_drain_lets_what_is_under_way_finish() -> None:
    async with staged({"own": echo}) as stage:
        client = await talking(stage)
        stage.stage.stop()
        draining = asyncio.create_task(stage.plane.drain(10.0))
        await asyncio.sleep(0.1)
        await client.send(b"more")
        assert await client.exactly(4) == b"more"
        assert not draining.done()
        client.end()
        await client.rest()
        await draining
        assert reasons(await stage.records(1)) == ["None"]


async def test_drain_cuts_what_does_not() -> None:
    async with staged({"own": echo}) as stage:
        client = await talking(stage)
        stage.stage.stop()
        with not_before(0.3):
            await stage.plane.drain(0.3)
        assert await client.was_reset()
        assert reasons(await stage.records(1)) == ["drained"]
        assert stage.plane.open_connections == 0


# Descriptors and pipes


@contextmanager
def few_descriptors(left: int) -> Iterator[int]:
    """Only so many descriptors more than are open now, those kept free among them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + left, hard))
    try:
        yield used + left
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_dial_leaves_what_is_kept_free() -> None:
    async with staged({"own": echo}) as stage:
        await talking(stage)
        with few_descriptors(60) as limit:
            held = []
            while (number := os.dup(0)) < limit - kept_free(limit) // 2 - 2:
                held.append(number)
            os.close(number)
            # Accepting pauses at this one, which is let in.
            client = await stage.client("pass")
            await client.send(client_hello())
            said = await client.rest()
            for number in held:
                os.close(number)
        assert said == b"\x15\x03\x03\x00\x02\x02\x50"
        (record,) = await stage.records(1)
        assert (record["reason"], record["attempts"]) == ("unavailable", 1)
        assert stage.counted("domicile_attempts_total", result="local") == 1
        # Not the provider's fault: it is not marked down.
        await talking(stage)


async def test_without_descriptors_for_pipes_everything_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "none left")

    async with staged({"own": echo}) as stage:
        client = await stage.client()
        monkeypatch.setattr(os, "pipe2", none_left)
        sent = os.urandom(1_000_000)
        sending = asyncio.create_task(client.send(sent))
        assert await client.exactly(len(sent)) == sent
        await sending


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS])
async def test_where_the_kernel_does_not_splice_everything_is_copied(
    monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def cannot(*given: object, **more: object) -> int:
        raise OSError(error, "cannot")

    monkeypatch.setattr(way.os, "splice", cannot)
    async with staged({"own": echo}) as stage:
        client = await stage.client()
        sent = os.urandom(1_000_000)
        sending = asyncio.create_task(client.send(sent))
        assert await client.exactly(len(sent)) == sent
        await sending
        assert not stage.plane.vessels.splices


async def test_what_is_in_a_pipe_that_leads_nowhere_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the second half of the way cannot be spliced, as into some files."""
    splice = os.splice

    async with staged({"own": echo}) as stage:
        client = await stage.client()
        into: list[int] = []

        def one_way(source: int, sink: int, count: int, **more: int) -> int:
            if source in into:
                raise OSError(errno.EINVAL, "cannot")
            into.append(sink - 1)
            return splice(source, sink, count, **more)

        monkeypatch.setattr(way.os, "splice", one_way)
        sent = os.urandom(1_000_000)
        sending = asyncio.create_task(client.send(sent))
        assert await client.exactly(len(sent)) == sent
        await sending
        assert into


def test_pipes_are_as_large_as_they_may_be_and_few_are_kept() -> None:
    vessels = Vessels()
    taken = [vessels.take() for _ in range(40)]
    assert all(pipe is not None and pipe.size >= 65536 for pipe in taken)
    assert taken[0] is not None
    assert taken[0].size == LARGE
    before = len(os.listdir("/proc/self/fd"))
    for pipe in taken:
        assert pipe is not None
        vessels.give(pipe)
    assert before - len(os.listdir("/proc/self/fd")) == 2 * (40 - 32)
    vessels.close()


def test_small_pipes_are_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user gets past the first thousand."""

    def small(number: int, command: int, size: int = 0) -> int:
        if size:
            raise PermissionError
        return 8192

    monkeypatch.setattr("proxy.tcp.vessels.fcntl", small)
    before = len(os.listdir("/proc/self/fd"))
    assert Vessels().take() is None
    assert len(os.listdir("/proc/self/fd")) == before


async def test_nothing_is_left_in_the_shared_buffer() -> None:
    """Two slow receivers at once: what one did not take is not the other's."""
    async with staged({"own": wait, "eu": swallow}, splices=False, receive=65536) as stage:
        slow, other = await stage.client(), await stage.client(source=GERMANY)
        pieces = os.urandom(64 * BUFFER)
        loop = asyncio.get_running_loop()

        async def fill() -> None:
            while True:
                await loop.sock_sendall(slow.sock, pieces)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fill(), 0.5)
        await other.send(bytes(4 * BUFFER))
        conversation = await stage.conversation("own")
        received = b""
        while len(received) < len(pieces):
            received += await conversation.some()
        assert received[: len(pieces)] == pieces
