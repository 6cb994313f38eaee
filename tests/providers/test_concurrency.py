"""The adaptive limit, before a simulated server whose queue grows when more is let in than it can do."""

import heapq
import random
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.balance import Concurrency
from proxy.providers.concurrency import SAMPLES, TURNS, WINDOW, ConcurrencyLimit

RULES = Concurrency(least=8)


@dataclass
class Phase:
    """What became of one stretch of time. latencies: (when it ended, seconds), of the admitted."""

    arrived: int = 0
    shed: int = 0
    most_under_way: int = 0
    latencies: list[tuple[float, float]] = field(default_factory=list)

    def quantile(self, part, after=0.0):
        found = sorted(seconds for moment, seconds in self.latencies if moment >= after)
        return found[int(part * len(found))]


class Server:
    """workers, each busy with one request for `service()` seconds; the others wait in a queue without bound.

    delay: seconds that each request spends elsewhere first, in any number at once. slower: both take so much longer.
    """

    def __init__(self, workers, service, delay=0.0, rules=RULES, seed=1):
        self.chance = random.Random(seed)
        self.limit = ConcurrencyLimit(rules, 0.0)
        self.now = 0.0
        self.slower = 1.0
        self._free = workers
        self._service = service
        self._delay = delay
        self._queue = deque()
        self._events = []
        self._number = count()

    def run(self, seconds, rate):
        """So many requests a second arrive, at random."""
        phase, shed, end = Phase(), self.limit.shed, self.now + seconds
        arrival = self.now + self.chance.expovariate(rate)
        while True:
            if self._events and self._events[0][0] < min(arrival, end):
                self.now, _, what, began = heapq.heappop(self._events)
                self._ready(began) if what == "ready" else self._done(began, phase)
            elif arrival < end:
                self.now = arrival
                arrival += self.chance.expovariate(rate)
                self._arrive(phase)
            else:
                break
        self.now = end
        phase.shed = self.limit.shed - shed
        return phase

    def _arrive(self, phase):
        phase.arrived += 1
        if self.limit.begin():
            phase.most_under_way = max(phase.most_under_way, self.limit.under_way)
            if self._delay:
                self._later(self._delay * self.chance.uniform(0.8, 1.2), "ready", self.now)
            else:
                self._ready(self.now)

    def _ready(self, began):
        self._queue.append(began)
        self._work()

    def _done(self, began, phase):
        self._free += 1
        seconds = self.now - began
        self.limit.end()
        self.limit.observe(seconds, began, self.now)
        phase.latencies.append((self.now, seconds))
        self._work()

    def _work(self):
        while self._free and self._queue:
            self._free -= 1
            self._later(self._service(self.chance), "done", self._queue.popleft())

    def _later(self, seconds, what, began):
        heapq.heappush(self._events, (self.now + seconds * self.slower, next(self._number), what, began))


# name: (server's settings, its capacity in requests a second)
SERVERS = {
    "all alike": ({"workers": 10, "service": lambda chance: 0.01}, 1000),
    "exponential": ({"workers": 20, "service": lambda chance: chance.expovariate(100)}, 2000),
    "heavy tail": ({"workers": 20, "service": lambda chance: chance.lognormvariate(-5.0, 0.8)}, 2156),
    "one processor": ({"workers": 1, "service": lambda chance: 0.0004, "delay": 0.01}, 2500),
}


@pytest.mark.parametrize("name", SERVERS)
def test_three_times_capacity(name):
    settings, capacity = SERVERS[name]
    server = Server(**settings)
    unloaded = server.run(5, capacity * 0.4)
    assert unloaded.shed < unloaded.arrived * 0.001
    storm = server.run(15, capacity * 3)
    begun = server.now - 10  # five seconds to find the limit
    assert storm.quantile(0.99, begun) <= 2 * unloaded.quantile(0.99)
    # It is not bought by doing less: nearly all that could be done was done.
    assert sum(moment >= begun for moment, _ in storm.latencies) > 0.9 * capacity * 10
    after = server.run(5, capacity * 0.4)
    assert after.shed < after.arrived * 0.03
    assert after.quantile(0.99, server.now - 4) <= 1.2 * unloaded.quantile(0.99)


@pytest.mark.parametrize("name", SERVERS)
def test_started_into_a_storm(name):
    """Nothing unloaded was ever measured; it finds out."""
    settings, capacity = SERVERS[name]
    unloaded = Server(**settings).run(5, capacity * 0.4)
    server = Server(**settings)
    storm = server.run(30, capacity * 3)
    assert storm.quantile(0.99, server.now - 10) <= 2 * unloaded.quantile(0.99)


@pytest.mark.parametrize("name", SERVERS)
def test_slower_for_another_reason_is_no_reason_to_shed(name):
    """Everything takes three times as long from now on, and there is room for all of it."""
    settings, capacity = SERVERS[name]
    server = Server(**settings)
    server.run(5, capacity * 0.4)
    server.slower = 3.0
    slower = server.run(20, capacity * 0.2)
    assert slower.shed < slower.arrived * 0.07
    late = server.run(10, capacity * 0.2)
    assert late.shed < late.arrived * 0.03


def test_the_limit_grows_with_what_can_be_done():
    server = Server(10, lambda chance: 0.01)
    server.run(3, 400)
    server.run(10, 3000)
    narrow = server.limit.limit
    server._free += 90  # ten times as many workers
    server.run(20, 3000)
    wide = server.run(5, 9000)
    assert narrow < 25
    assert server.limit.limit > 60
    assert len(wide.latencies) > 0.8 * 9000 * 5


def test_what_is_under_way_never_exceeds_the_limit_of_the_policy():
    server = Server(1, lambda chance: 1.0, rules=Concurrency(most=50, least=8))
    storm = server.run(60, 100)
    assert storm.most_under_way <= 50


def test_memory_is_flat():
    settings, capacity = SERVERS["all alike"]
    server = Server(**settings)

    def size():
        limit = server.limit
        return sum(sys.getsizeof(getattr(limit, name)) for name in limit.__slots__ if isinstance(name, str))

    server.run(5, capacity * 3)
    most = size()
    storm = server.run(20, capacity * 3)
    assert size() <= most + 100
    assert storm.most_under_way < 30  # and what is let in is what costs memory


def test_not_adaptive_is_a_plain_cap():
    server = Server(1, lambda chance: 0.1, rules=Concurrency(adaptive=False, most=20))
    server.run(30, 100)
    assert server.limit.limit == 20
    assert server.limit.under_way == 20


def test_who_left_tells_nothing():
    limit = ConcurrencyLimit(RULES, 0.0)
    for _ in range(1000):
        assert limit.begin()
        limit.end()
    assert limit.unloaded is None
    assert limit.under_way == 0


def learnt(limit, latency, working, now, elsewhere=None, windows=1):
    """So many windows in which this was waited here and that many were let in; the time afterwards."""
    for _ in range(windows):
        for _ in range(working):
            limit.begin()
        for _ in range(working):
            limit.end(elsewhere)
        for _ in range(TURNS):
            limit.observe(latency, now, now + WINDOW, count=SAMPLES // TURNS + 1)
        now += WINDOW * 1.01
    return now


def test_clients_whose_connections_are_all_busy_are_shed_too():
    """They wait for their answers, and send no more meanwhile: the limit is never reached by itself."""
    limit = ConcurrencyLimit(RULES, 0.0)
    now = learnt(limit, 0.001, 10, 0.0)
    now = learnt(limit, 0.03, 300, now)
    assert limit.limit == 300 * 1.5 / 30  # so many would wait half of what is tolerated
    learnt(limit, 0.0012, 15, now)
    assert limit.limit > 15


def test_a_machine_that_stands_still_for_a_moment_makes_nobody_shed():
    limit = ConcurrencyLimit(RULES, 0.0)
    now = learnt(limit, 0.0002, 30, 0.0)
    for _ in range(20):
        for seconds in (0.3, 0.0002, 0.05, 0.0002, 0.0002):
            limit.observe(seconds, now, now + WINDOW, count=SAMPLES)
        now += WINDOW * 1.01
    assert limit.limit == RULES.most
    assert limit.unloaded == 0.0002


@pytest.mark.parametrize("elsewhere", [0.0, 0.05, 30.0])
def test_what_is_waited_elsewhere_is_no_queue_of_ours(elsewhere):
    """But the slower all others are, the less do a few milliseconds here matter, up to a bound."""
    limit = ConcurrencyLimit(RULES, 0.0)
    now = learnt(limit, 0.0002, 50, 0.0, 0.0002 + elsewhere)
    now = learnt(limit, 0.0002, 50, now, 30.0, windows=20)
    assert limit.limit == RULES.most
    now = learnt(limit, 0.0008, 50, now, 30.0, windows=20)
    assert limit.limit == RULES.most
    learnt(limit, 0.15, 50, now, 30.0)
    assert limit.limit < 50


def test_who_waits_for_others_for_long_takes_no_place():
    rules = Concurrency(least=12, most=20)
    limit = ConcurrencyLimit(replace(rules, adaptive=False), 0.0)
    limit.renew(rules)
    now = learnt(limit, 0.001, 8, 0.0)
    learnt(limit, 0.1, 20, now)
    assert limit.limit == 12
    assert all(limit.begin() for _ in range(12))
    assert not limit.begin()
    for _ in range(12):
        limit.park()
    assert [limit.begin() for _ in range(9)] == [True] * 8 + [False]  # `most` counts all of them
    for parked in [True] * 12 + [False] * 8:
        limit.end(parked=parked)
    assert (limit.under_way, limit.working) == (0, 0)


def test_a_turn_may_take_a_part_of_what_is_tolerated():
    """Two of it, before one is let in and when its answer has come, are what most may wait in a storm."""
    limit = ConcurrencyLimit(RULES, 0.0)
    assert limit.turn == inf
    learnt(limit, 0.002, 30, 0.0, 0.012)
    assert limit.elsewhere == pytest.approx(0.01)
    assert limit.turn == pytest.approx(((0.002 + 0.01) * 1.3 - 0.01) / 2)


def shedding(limit, latency, working, now, windows=1):
    """As `learnt`, and each time the turn was too long for one more."""
    for _ in range(windows):
        assert not limit.begin(late=True)
        now = learnt(limit, latency, working, now)
    return now


def test_what_few_wait_while_others_are_turned_away_is_not_unloaded():
    limit = ConcurrencyLimit(RULES, 0.0)
    now = learnt(limit, 0.002, 6, 0.0)
    now = shedding(limit, 0.01, 6, now, windows=20)
    assert limit.unloaded == 0.002
    now = shedding(limit, 0.001, 6, now)
    assert limit.unloaded < 0.002
    learnt(limit, 0.01, 6, now, windows=20)
    assert limit.unloaded > 0.009


def lowered():
    """A limit that a storm has made low, before providers that take 50 ms; and the time."""
    limit = ConcurrencyLimit(RULES, 0.0)
    return limit, learnt(limit, 0.5, 300, learnt(limit, 0.001, 10, 0.0, 0.051))


def test_far_too_low_a_limit_grows_by_doubling():
    limit, now = lowered()
    for _ in range(3):
        low = limit.limit
        now = learnt(limit, 0.0001, low, now)
        assert limit.limit in (2 * low, 2 * low + 1)


def test_no_experiment_is_made_of_a_limit_that_few_turns_notice():
    """What is waited is next to nothing: that half as many wait less would say nothing."""
    limit, now = lowered()
    for _ in range(60):
        before = limit.limit
        now = shedding(limit, 0.0001, min(before, 400), now)
        assert limit.limit >= before


def test_an_experiment_in_which_the_limit_was_not_reached_says_nothing_of_what_is_unloaded():
    limit = ConcurrencyLimit(Concurrency(least=8, most=100), 0.0)
    now = learnt(limit, 0.001, 10, 0.0, 0.011)
    now = learnt(limit, 0.2, 100, now)  # too long, at the limit: half of it is tried
    assert limit.limit == 50
    now = max(now, 1.0)
    learnt(limit, 0.2, 20, now)
    assert limit.limit == 100
    assert limit.unloaded == 0.001


def test_other_rules_from_now_on():
    limit = ConcurrencyLimit(RULES, 0.0)
    limit.renew(replace(RULES, most=50))
    assert limit.limit == 50
    limit.renew(replace(RULES, most=500))
    assert limit.limit == 500
    now = learnt(limit, 0.001, 10, 0.0)
    learnt(limit, 0.003, 40, now)
    assert limit.limit == 20
    limit.renew(replace(RULES, most=400))
    assert limit.limit == 20  # it was learnt
    limit.renew(replace(RULES, most=10))
    assert limit.limit == 10
    limit.renew(replace(RULES, most=30, adaptive=False))
    assert limit.limit == 30


@given(
    st.integers(1, 20),
    st.integers(0, 50),
    st.floats(1.1, 5.0),
    st.lists(
        st.tuples(st.integers(0, 80), st.integers(0, 80), st.floats(0, 100) | st.none(), st.floats(0, 10)), max_size=60
    ),
)
def test_whatever_happens_the_limit_stays_within_its_bounds(least, more, tolerance, steps):
    rules = Concurrency(least=least, most=least + more, tolerance=tolerance)
    limit = ConcurrencyLimit(rules, 0.0)
    now, under_way = 0.0, 0
    for begins, ends, latency, passes in steps:
        for _ in range(begins):
            may = under_way < limit.limit
            assert limit.begin() is may
            under_way += may
        now += passes
        for _ in range(min(ends, under_way)):
            limit.end(latency)
            limit.observe(latency or 0.0, now - (latency or 0.0), now)
            under_way -= 1
        assert limit.under_way == under_way <= rules.most
        assert rules.least <= limit.limit <= rules.most
