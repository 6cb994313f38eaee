"""Waiting for a provider at its cap: who has a turn, with what, and what survives somebody's mistake."""

import asyncio
import random
import time

import pytest

from proxy.policy.balance import Queue
from proxy.policy.settings import Endpoint
from proxy.providers.failure import DialMisuse
from proxy.providers.fleet import Fleet
from tests.providers.peers import (
    Caller,
    a_law,
    a_place,
    hang_up,
    listening,
    names,
    permit_for,
    refusing_port,
    take_out,
)
from tests.providers.test_pool import Connection


class Waiter:
    """Writes down what it is told; raises then, if it is to."""

    def __init__(self, passing=False, raising=None, then=lambda: None):
        self.passing = passing
        self.told = []
        self.raising = raising
        self.then = then

    def served(self, place, connection):
        self._hear((place.label, connection))

    def late(self):
        self._hear("late")

    def _hear(self, word):
        self.told.append(word)
        self.then()
        if self.raising is not None:
            raise self.raising


def open_state(cap=1, longest=5.0, ports=(1,), **changes):
    endpoints = tuple(Endpoint("http", "127.0.0.1", port) for port in ports)
    place = a_place("127.0.0.1", 1, connections=cap, queue=Queue(8, longest), endpoints=endpoints, **changes)
    state = Fleet.open(a_law(place), names()).states["storage"]
    return state, permit_for(place)


def full_state(**changes):
    state, permit = open_state(**changes)
    state.open = state.definition.connections
    return state, permit


def join(state, permit, *waiters, at=None):
    now = time.monotonic() if at is None else at
    assert [state.endpoints[0].wait(permit, waiter, now) for waiter in waiters] == [True] * len(waiters)


async def steps(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def mistakes():
    """What the loop's handler of mistakes is told."""
    heard = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context["exception"]))
    yield heard
    loop.set_exception_handler(None)


async def test_a_connection_given_back_goes_to_the_first_and_not_within_the_exchange_that_gave_it():
    state, permit = full_state()
    (place,), first, second = state.endpoints, Waiter(), Waiter()
    join(state, permit, first, second)
    connection = Connection()
    assert place.give(connection, time.monotonic()) == ()
    assert first.told == []
    assert place.take(permit, time.monotonic()) == (None, ())  # nobody comes before those who wait
    await steps()
    assert (first.told, second.told) == ([("127.0.0.1:1", connection)], [])
    assert state.open == 1
    assert state.waiting.ended == {"served": 1, "late": 0, "left": 0, "refused": 0}
    place.leave(second)


async def test_a_connection_whose_waiter_left_meanwhile_goes_to_the_next_or_to_the_pool():
    state, permit = full_state()
    (place,), first, second = state.endpoints, Waiter(), Waiter()
    join(state, permit, first, second)
    connection = Connection()
    place.give(connection, time.monotonic())
    assert place.leave(first)
    await steps()
    assert (first.told, second.told) == ([], [("127.0.0.1:1", connection)])
    join(state, permit, first)
    place.give(connection, time.monotonic())
    assert place.leave(first)
    await steps()
    assert first.told == []
    assert place.take(permit, time.monotonic()) == (connection, ())


async def test_a_connection_that_breaks_meanwhile_is_given_to_nobody():
    state, permit = full_state()
    (place,), waiter = state.endpoints, Waiter()
    join(state, permit, waiter)
    place.give(connection := Connection(), time.monotonic())
    assert place.discard(connection)
    state.closed()
    await steps()
    assert waiter.told == [("127.0.0.1:1", None)]
    assert state.open == 1


async def test_one_closed_gives_its_place_to_the_first():
    state, permit = full_state(cap=2)
    first, second, third = Waiter(), Waiter(passing=True), Waiter()
    join(state, permit, first, second, third)
    state.closed()
    state.closed()
    assert first.told == []
    await steps()
    assert (first.told, second.told, third.told) == ([("127.0.0.1:1", None)], [("127.0.0.1:1", None)], [])
    assert state.open == 2
    state.endpoints[0].leave(third)


@pytest.mark.parametrize("passing", [False, True])
async def test_who_raises_loses_neither_place_nor_connection(mistakes, passing):
    state, permit = full_state()
    (place,), broken, second = state.endpoints, Waiter(passing, raising=OSError("oops")), Waiter()
    join(state, permit, broken, second)
    state.closed()
    await steps()
    assert len(broken.told) == 1
    assert second.told == [("127.0.0.1:1", None)]
    assert (state.open, [str(each) for each in mistakes]) == (1, ["oops"])
    if not passing:
        join(state, permit, Waiter(raising=OSError("again")))
        place.give(connection := Connection(), time.monotonic())
        await steps()
        assert connection.closed
        assert (state.open, len(mistakes)) == (1, 2)  # until it is gone, and the plane says so


async def test_one_that_raises_keeps_nobody_from_hearing_that_they_are_late(mistakes):
    state, permit = full_state(longest=0.01)
    (place,) = state.endpoints
    last, heard = Waiter(), asyncio.Event()
    last.then = heard.set
    gone = Waiter()
    broken = Waiter(raising=OSError("oops"), then=lambda: place.leave(gone))
    join(state, permit, broken, gone, last)
    await heard.wait()
    assert (broken.told, gone.told, last.told) == (["late"], [], ["late"])
    assert [str(each) for each in mistakes] == ["oops"]
    assert state.waiting.ended == {"served": 0, "late": 2, "left": 1, "refused": 0}
    assert not state.full or state.open == 1


async def test_who_is_late_is_not_served_and_the_connection_goes_on():
    state, permit = full_state(longest=1.0)
    (place,), late, second = state.endpoints, Waiter(), Waiter()
    join(state, permit, late, at=time.monotonic() - 2)
    join(state, permit, second)
    place.give(connection := Connection(), time.monotonic())
    assert late.told == []
    await steps()
    assert (late.told, second.told) == (["late"], [("127.0.0.1:1", connection)])


async def test_who_joins_has_what_only_idles_at_another_endpoint():
    state, permit = full_state(ports=(1, 2))
    waiter = Waiter()
    state.endpoints[1].give(connection := Connection(), time.monotonic())
    join(state, permit, waiter)
    assert waiter.told == []
    await steps()
    assert waiter.told == [("127.0.0.1:2", connection)]
    assert not connection.closed


@pytest.mark.parametrize("why", ["passing", "out of service", "unusable"])
async def test_what_idles_and_does_not_suit_is_closed_to_make_room(why):
    state, permit = full_state(ports=(1, 2))
    waiter = Waiter(passing=why == "passing")
    state.endpoints[1].give(connection := Connection(), time.monotonic())
    connection.good = why != "unusable"
    if why == "out of service":
        take_out(state.endpoints[1], time.monotonic(), time.monotonic() + 5)
    join(state, permit, waiter)
    await steps()
    assert connection.closed
    assert waiter.told == []
    state.closed()
    await steps()
    assert waiter.told == [("127.0.0.1:1", None)]
    assert state.open == 1


async def test_who_waits_has_a_permit_and_a_place_in_the_queue():
    state, permit = full_state()
    other = a_place("127.0.0.1", 1, name="other")
    with pytest.raises(DialMisuse, match="no permit"):
        state.endpoints[0].wait(permit_for(other), Waiter(), time.monotonic())
    join(state, permit, *(waiters := [Waiter() for _ in range(8)]))
    assert not state.endpoints[0].wait(permit, Waiter(), time.monotonic())
    assert state.waiting.ended["refused"] == 1
    for waiter in waiters:
        assert state.endpoints[0].leave(waiter)
        assert not state.endpoints[0].leave(waiter)
    await steps()
    assert state.waiting.ended["left"] == 8


async def test_a_turn_is_used_once_whatever_comes_of_it():
    async with listening() as provider:
        with refusing_port() as refusing:
            state, permit = full_state(ports=(provider.port, refusing))
            good, bad = state.endpoints
            join(state, permit, Waiter())
            state.closed()
            await steps()
            assert state.open == 1
            connection = await good.connect(permit, Caller, its_turn=True)
            assert state.open == 1
            await hang_up(*connection)
            state.closed()
            state.open += 1  # as it is for the next whose turn it is
            with pytest.raises(Exception, match="connection refused"):
                await bad.connect(permit, Caller, its_turn=True)
            assert state.open == 0


class House:
    """A provider's connections, whoever has them: those in use, and those that idle."""

    def __init__(self, chance):
        self.chance = chance
        self.state, self.permit = open_state(cap=3, ports=(1, 2), longest=3600.0)
        self.used, self.idle, self.waiters = [], [], []

    def connection(self, place):
        made = Connection()
        made.place = place
        made.close = lambda: (self.idle.remove(made), self.state.closed())
        return made

    def arrive(self):
        place, now = self.chance.choice(self.state.endpoints), time.monotonic()
        idle, closings = place.take(self.permit, now)
        assert not closings
        if idle is not None:
            self.idle.remove(idle)
            self.used.append(idle)
        elif not self.state.full:
            self.state.open += 1
            self.used.append(self.connection(place))
        else:
            guest = Guest(self, passing=self.chance.random() < 0.3)
            if place.wait(self.permit, guest, now):
                self.waiters.append(guest)

    def give(self):
        if self.used:
            connection = self.used.pop(self.chance.randrange(len(self.used)))
            self.idle.append(connection)
            assert connection.place.give(connection, time.monotonic()) == ()

    def close(self):
        if self.used:
            self.used.pop(self.chance.randrange(len(self.used)))
            self.state.closed()

    def leave(self):
        if self.waiters:
            guest = self.waiters.pop(self.chance.randrange(len(self.waiters)))
            assert self.state.endpoints[0].leave(guest)

    def lose(self):
        if self.idle:
            connection = self.idle.pop(self.chance.randrange(len(self.idle)))
            assert connection.place.discard(connection)
            self.state.closed()


class Guest(Waiter):
    def __init__(self, house, passing):
        super().__init__(passing)
        self.house = house

    def served(self, place, connection):
        house = self.house
        assert house.waiters.pop(0) is self  # in their order
        if connection is not None:
            assert not self.passing
            house.idle.remove(connection)
        elif house.chance.random() < 0.2:
            place.state.closed()  # not wanted any more
            return
        house.used.append(connection or house.connection(place))


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_none_is_lost_and_nobody_waits_for_what_is_free(seed):
    chance = random.Random(seed)
    house = House(chance)
    for _ in range(400):
        action = chance.choice(("arrive", "arrive", "arrive", "give", "give", "close", "leave", "lose"))
        getattr(house, action)()
        if chance.random() < 0.5:
            continue  # several things in one step of the loop
        await steps(8)
        assert house.state.open == len(house.used) + len(house.idle) <= 3
        assert len(house.state.pool) == len(house.idle)
        assert len(house.state.waiting) == len(house.waiters)
        assert not house.waiters or len(house.used) == 3
    assert min(house.state.waiting.ended[end] for end in ("served", "left")) > 0
