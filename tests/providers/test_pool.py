"""The pool, against a plain model: hypothesis decides what happens, the model what must come out."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.policy.settings import Endpoint
from proxy.providers.pool import Pool, PoolKey

IDLE = 10.0


class Connection:
    def __init__(self, name="c"):
        self.name = name
        self.good = True
        self.closed = False

    def usable(self):
        return self.good and not self.closed

    def close(self):
        self.closed = True

    def __repr__(self):
        return self.name


def a_key(provider="one", zone="eu", credential="us", server_name="one.example", host="one.example", port=443):
    return PoolKey(zone, provider, credential, server_name, Endpoint("https", host, port))


KEYS = [a_key(), a_key(port=444), a_key("two")]


def test_keys_are_equal_when_all_of_it_is():
    assert a_key() == a_key()
    assert hash(a_key()) == hash(a_key())
    assert a_key() != "key"


@pytest.mark.parametrize(
    "change",
    [{"provider": "two"}, {"zone": "cn"}, {"credential": "them"}, {"server_name": None}, {"host": "x"}, {"port": 1}],
    ids=str,
)
def test_a_connection_is_never_used_for_another_key(change):
    pool = Pool(IDLE, 4)
    pool.give(a_key(), Connection(), 0.0)
    assert pool.take(a_key(**change), 0.0) == (None, ())
    assert pool.take(a_key(), 0.0)[0] is not None


def test_the_newest_first():
    pool = Pool(IDLE, 4)
    first, second = Connection("first"), Connection("second")
    assert pool.give(KEYS[0], first, 0.0) == ()
    assert pool.give(KEYS[0], second, 1.0) == ()
    assert pool.take(KEYS[0], 2.0) == (second, ())
    assert pool.take(KEYS[0], 2.0) == (first, ())
    assert pool.take(KEYS[0], 2.0) == (None, ())


def test_a_broken_one_is_passed_over():
    pool = Pool(IDLE, 4)
    good, broken = Connection("good"), Connection("broken")
    pool.give(KEYS[0], good, 0.0)
    pool.give(KEYS[0], broken, 0.0)
    broken.good = False
    assert pool.take(KEYS[0], 0.0) == (good, [broken])


@pytest.mark.parametrize(("idled", "taken"), [(IDLE - 0.001, True), (IDLE, False), (IDLE + 1, False)])
def test_idle_too_long(idled, taken):
    pool = Pool(IDLE, 4)
    connection = Connection()
    pool.give(KEYS[0], connection, 5.0)
    assert pool.take(KEYS[0], 5.0 + idled) == ((connection, ()) if taken else (None, [connection]))
    assert len(pool) == 0


def test_full():
    pool = Pool(IDLE, 2)
    connections = [Connection(str(n)) for n in range(3)]
    closings = [pool.give(KEYS[0], connection, 0.0) for connection in connections]
    assert closings == [(), (), (connections[0],)]
    assert Pool(IDLE, 0).give(KEYS[0], connections[0], 0.0) == (connections[0],)


class Model(RuleBasedStateMachine):
    """Every connection is at each moment with the caller, in the pool, or returned for closing: never two of these."""

    @initialize(bound=st.integers(0, 4))
    def start(self, bound):
        self.bound = bound
        self.pool = Pool(IDLE, bound)
        self.now = 100.0
        self.idle = {key: [] for key in KEYS}  # oldest first: (since, connection)
        self.out = []
        self.closed = []
        self.number = 0

    def close(self, connections):
        for connection in connections:
            assert connection not in self.closed
            self.closed.append(connection)

    def fresh(self, entry):
        return self.now - entry[0] < IDLE and entry[1].good

    @rule(key=st.sampled_from(KEYS))
    def make(self, key):
        self.number += 1
        self.out.append((key, Connection(str(self.number))))

    @rule(data=st.data())
    def give(self, data):
        if not self.out:
            return
        key, connection = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        closings = self.pool.give(key, connection, self.now)
        self.close(closings)
        if self.bound == 0:
            assert list(closings) == [connection]
            return
        self.idle[key].append((self.now, connection))
        over = [self.idle[key].pop(0)[1]] if len(self.idle[key]) > self.bound else []
        assert list(closings) == over

    @rule(key=st.sampled_from(KEYS))
    def take(self, key):
        connection, closings = self.pool.take(key, self.now)
        expected, over = None, []
        while self.idle[key] and expected is None:
            entry = self.idle[key].pop()
            if self.fresh(entry):
                expected = entry[1]
            else:
                over.append(entry[1])
        assert connection is expected
        assert list(closings) == over
        self.close(closings)
        if connection is not None:
            assert connection.good
            self.out.append((key, connection))

    @rule(data=st.data())
    def breaks(self, data):
        everywhere = [c for _, c in self.out] + [c for shelf in self.idle.values() for _, c in shelf]
        if everywhere:
            data.draw(st.sampled_from(everywhere)).good = False

    @rule(seconds=st.floats(0, 12))
    def passes(self, seconds):
        self.now += seconds

    @rule()
    def expire(self):
        closings = self.pool.expire(self.now)
        over = [e[1] for shelf in self.idle.values() for e in shelf if not self.fresh(e)]
        self.idle = {key: [e for e in shelf if self.fresh(e)] for key, shelf in self.idle.items()}
        assert Counter(closings) == Counter(over)
        self.close(closings)

    @rule(data=st.data(), key=st.sampled_from(KEYS))
    def discard(self, data, key):
        strange = Connection("strange")
        inside = [c for _, c in self.idle[key]]
        connection = data.draw(st.sampled_from([strange, *inside]))
        assert self.pool.discard(key, connection) is (connection is not strange)
        self.idle[key] = [e for e in self.idle[key] if e[1] is not connection]

    @rule(provider=st.sampled_from(["one", "two", "three"]))
    def drop(self, provider):
        closings = self.pool.drop(provider)
        over = [c for key, shelf in self.idle.items() if key.provider == provider for _, c in shelf]
        self.idle = {key: [] if key.provider == provider else shelf for key, shelf in self.idle.items()}
        assert Counter(closings) == Counter(over)
        self.close(closings)

    @invariant()
    def bounded(self):
        if hasattr(self, "pool"):
            assert len(self.pool) == sum(map(len, self.idle.values()))
            assert all(len(shelf) <= self.bound for shelf in self.idle.values())


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
