"""The resolver with a name service and a clock of its own."""

import asyncio
import socket
from ipaddress import ip_address

import pytest

from proxy.providers import resolve
from proxy.providers.names import Answer
from proxy.providers.resolve import LONGEST, RETRY, SHORTEST, STALE, NameUnresolved, Resolver

ONE, TWO = [ip_address("203.0.113.1")], [ip_address("203.0.113.2"), ip_address("2001:db8::2")]

FRESH = 30.0


class NameService:
    """Answers what it is told to; `hold` makes it wait until released."""

    def __init__(self, answer=ONE):
        self.answer = answer
        self.ttl = FRESH
        self.asked = []
        self.released = asyncio.Event()
        self.released.set()
        self.reached = asyncio.Event()

    async def __call__(self, name):
        self.asked.append(name)
        self.reached.set()
        await self.released.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return Answer(self.answer, self.ttl)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def made(answer=ONE):
    service, clock = NameService(answer), Clock()
    return Resolver(service, clock), service, clock


FAILURES = [
    socket.gaierror(socket.EAI_AGAIN, "try again"),
    socket.gaierror(socket.EAI_NONAME, "no such name"),
    OSError("broken"),
    UnicodeError("label too long"),
    [],
]


@pytest.mark.parametrize("host", ["203.0.113.1", "2001:db8::1", "localhost"])
async def test_literals_are_not_asked_for(host):
    resolver, service, _ = made()
    answer = await resolver.resolve(host)
    assert service.asked == []
    expected = ["127.0.0.1", "::1"] if host == "localhost" else [host]
    assert [str(address) for address in answer] == expected


async def test_an_answer_serves_while_it_is_fresh():
    resolver, service, clock = made(TWO)
    assert await resolver.resolve("storage.example") == tuple(TWO)
    service.answer = ONE
    clock.now += FRESH - 0.001
    assert await resolver.resolve("storage.example") == tuple(TWO)
    assert len(service.asked) == 1
    clock.now += 0.001
    assert await resolver.resolve("storage.example") == tuple(ONE)
    assert len(service.asked) == 2


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
async def test_the_last_good_answer_stands_in_until_it_is_stale(failure):
    resolver, service, clock = made()
    await resolver.resolve("storage.example")
    answered = clock.now
    service.answer = failure
    clock.now = answered + FRESH
    assert await resolver.resolve("storage.example") == tuple(ONE)
    assert not resolver.fresh("storage.example")
    clock.now = answered + FRESH + STALE - 0.001
    assert await resolver.resolve("storage.example") == tuple(ONE)
    clock.now = answered + FRESH + STALE
    with pytest.raises(NameUnresolved, match=r"^storage\.example$"):
        await resolver.resolve("storage.example")
    service.answer = TWO
    assert await resolver.resolve("storage.example") == tuple(TWO)


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
async def test_no_answer_at_all(failure):
    resolver, service, _ = made(failure)
    for asked in (1, 2):  # a failure is not remembered: the mark on the endpoint spaces the attempts
        with pytest.raises(NameUnresolved):
            await resolver.resolve("storage.example")
        assert len(service.asked) == asked


async def test_a_failing_name_service_is_left_alone_for_a_while():
    resolver, service, clock = made()
    await resolver.resolve("storage.example")
    service.answer = OSError("down")
    clock.now += FRESH
    for _ in range(3):
        await resolver.resolve("storage.example")
    assert len(service.asked) == 2
    clock.now += RETRY
    await resolver.resolve("storage.example")
    assert len(service.asked) == 3


async def test_concurrent_askers_share_one_question():
    resolver, service, _ = made()
    service.released.clear()
    askers = [asyncio.create_task(resolver.resolve("storage.example")) for _ in range(10)]
    other = asyncio.create_task(resolver.resolve("other.example"))
    await service.reached.wait()
    await asyncio.sleep(0)
    service.released.set()
    assert await asyncio.gather(*askers) == [tuple(ONE)] * 10
    await other
    assert sorted(service.asked) == ["other.example", "storage.example"]


async def test_an_asker_that_gives_up_does_not_take_the_answer_from_the_others():
    resolver, service, _ = made()
    service.released.clear()
    first, second = (asyncio.create_task(resolver.resolve("storage.example")) for _ in range(2))
    await service.reached.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    service.released.set()
    assert await second == tuple(ONE)
    assert len(service.asked) == 1


async def test_a_slow_name_service_is_waited_for_briefly_when_an_old_answer_is_there(monkeypatch):
    monkeypatch.setattr(resolve, "PATIENCE", 0.01)
    resolver, service, clock = made()
    await resolver.resolve("storage.example")
    clock.now += FRESH
    service.answer = TWO
    service.released.clear()
    assert await resolver.resolve("storage.example") == tuple(ONE)
    service.released.set()
    while (answer := await resolver.resolve("storage.example")) != tuple(TWO):
        assert answer == tuple(ONE)
    assert len(service.asked) == 2


async def test_only_what_can_still_answer_is_kept():
    resolver, service, clock = made()
    for number in range(100):
        await resolver.resolve(f"old-{number}.example")
    clock.now += FRESH + STALE
    await resolver.resolve("new.example")
    assert list(resolver._entries) == ["new.example"]
    service.answer = OSError("down")
    for number in range(100):
        with pytest.raises(NameUnresolved):
            await resolver.resolve(f"none-{number}.example")
    assert len(resolver._entries) == 2


async def test_close_gives_up():
    resolver, service, _ = made()
    service.released.clear()
    asker = asyncio.create_task(resolver.resolve("storage.example"))
    await service.reached.wait()
    await resolver.close()
    with pytest.raises(NameUnresolved):
        await asker


async def test_the_same_address_twice_is_one():
    resolver, _, _ = made(ONE + ONE + TWO)
    assert await resolver.resolve("storage.example") == tuple(ONE + TWO)


@pytest.mark.parametrize(("ttl", "kept"), [(0.0, SHORTEST), (6.0, 6.0), (86_400.0, LONGEST)])
async def test_an_answer_is_kept_for_its_time_within_bounds(ttl, kept):
    resolver, service, clock = made()
    service.ttl = ttl
    await resolver.resolve("storage.example")
    clock.now += kept - 0.001
    assert resolver.known("storage.example") == tuple(ONE)
    assert resolver.fresh("storage.example")
    clock.now += 0.001
    assert resolver.known("storage.example") is None
    assert not resolver.fresh("storage.example")
