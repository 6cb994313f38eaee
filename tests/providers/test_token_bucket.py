"""Limits of rate: the bucket, its keys, its bounds; and that a Valkey server counts as this process does."""

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import NoScriptError

from proxy.policy.balance import RateLimit
from proxy.providers.token_bucket import SCRIPT, SCRIPT_DIGEST, BucketKeys, TokenBuckets, arguments, wait_of
from tests.identity.directory.servers import valkey

KEY = b"k" * 16


def a_limit(rate=10.0, burst=3, **settings):
    return RateLimit("uploads", rate, burst, **settings)


def test_a_burst_then_the_rate():
    buckets = TokenBuckets(a_limit())
    assert [buckets.take(KEY, 100.0) for _ in range(3)] == [0.0] * 3
    assert buckets.take(KEY, 100.0) == pytest.approx(0.1)
    assert buckets.take(KEY, 100.05) == pytest.approx(0.05)
    assert buckets.take(KEY, 100.1 + 1e-9) == 0.0
    assert buckets.take(KEY, 100.1 + 1e-9) > 0.0
    assert [buckets.take(KEY, 200.0) for _ in range(3)] == [0.0] * 3
    assert buckets.take(KEY, 200.0) > 0.0


def test_a_refusal_costs_nothing():
    buckets = TokenBuckets(a_limit(burst=1))
    buckets.take(KEY, 0.0)
    waits = [buckets.take(KEY, 0.0) for _ in range(100)]
    assert waits == [pytest.approx(0.1)] * 100


def test_one_does_not_pay_for_another():
    buckets = TokenBuckets(a_limit(burst=1))
    assert buckets.take(b"one", 0.0) == 0.0
    assert buckets.take(b"two", 0.0) == 0.0


def test_no_more_buckets_than_the_policy_says():
    buckets = TokenBuckets(a_limit(burst=1, keys=2))
    for name in (b"a", b"b"):
        buckets.take(name, 0.0)
    assert buckets.take(b"a", 0.0) > 0.0  # used again, so b is now the one used longest ago
    buckets.take(b"c", 0.0)
    assert len(buckets) == 2
    assert buckets.take(b"a", 0.0) > 0.0
    assert buckets.take(b"b", 0.0) == 0.0


def test_a_clock_that_jumps_back_locks_nobody_out():
    buckets = TokenBuckets(a_limit())
    buckets.take(KEY, 1e6)
    assert buckets.take(KEY, 0.0) <= 0.1


@given(
    st.floats(0.1, 1000),
    st.integers(1, 20),
    st.lists(st.one_of(st.just(0.0), st.floats(0, 0.01), st.floats(0, 3)), max_size=150),
)
def test_never_more_than_burst_and_rate_in_any_window(rate, burst, passes):
    buckets = TokenBuckets(a_limit(rate, burst))
    now, taken = 1000.0, []
    for seconds in passes:
        now += seconds
        wait = buckets.take(KEY, now)
        if wait == 0.0:
            taken.append(now)
        else:
            assert 0.0 < wait <= 1 / rate + 1e-6
    for first, begun in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - begun) + 1e-6


@given(st.floats(0.1, 1000), st.integers(1, 20), st.integers(1, 40))
def test_who_waits_as_told_is_let_in(rate, burst, count):
    buckets = TokenBuckets(a_limit(rate, burst))
    now = 0.0
    for _ in range(count):
        wait = buckets.take(KEY, now)
        if wait > 0.0:
            now += wait + 1e-9
            assert buckets.take(KEY, now) == 0.0


# Keys


def test_a_key_tells_nobody():
    keys = BucketKeys(b"secret", a_limit())
    key = keys.of_subject("alice@example.com")
    assert len(key) == 16
    assert b"alice" not in key
    assert key == BucketKeys(b"secret", a_limit()).of_subject("alice@example.com")
    assert key != BucketKeys(b"other", a_limit()).of_subject("alice@example.com")
    assert key != BucketKeys(b"secret", RateLimit("others", 1.0, 1)).of_subject("alice@example.com")
    assert "alice" not in repr(keys)


@pytest.mark.parametrize(
    ("one", "other", "settings", "same"),
    [
        ("192.0.2.1", "192.0.2.1", {}, True),
        ("192.0.2.1", "192.0.2.2", {}, False),
        ("192.0.2.1", "::ffff:192.0.2.1", {}, True),
        ("192.0.2.1", "192.0.2.200", {"prefix4": 24}, True),
        ("192.0.2.1", "192.0.3.1", {"prefix4": 24}, False),
        ("192.0.2.1", "203.0.113.9", {"prefix4": 0}, True),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", {}, True),
        ("2001:db8::1", "2001:db8:0:1::1", {}, False),
        ("2001:db8::1", "2001:db8:0:1::1", {"prefix6": 48}, True),
        ("2001:db8::1", "2001:db8::2", {"prefix6": 128}, False),
        ("0.0.0.0", "::", {"prefix4": 0, "prefix6": 0}, False),
    ],
)
def test_networks(one, other, settings, same):
    keys = BucketKeys(b"secret", a_limit(**settings))
    assert (keys.of_network(ip_address(one)) == keys.of_network(ip_address(other))) is same


def test_a_subject_is_no_network():
    keys = BucketKeys(b"secret", a_limit())
    assert keys.of_subject("192.0.2.1") != keys.of_network(ip_address("192.0.2.1"))


# On a Valkey server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with valkey(tmp_path_factory.mktemp("valkey")) as port:
        client = Redis(port=port)
        client.ping()  # connected before a test begins: it is not a socket that the test left
        yield client
        client.close()


def taken(server, key, limit, now=None):
    which, wait = wait_of(server.eval(SCRIPT, *arguments("rate:", [(limit, key)], now)))
    assert which == 0
    return wait


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.01, 1e6),
    st.integers(1, 50),
    st.lists(st.one_of(st.just(0.0), st.floats(0, 0.01), st.floats(0, 3), st.floats(-50, 0)), max_size=30),
)
def test_both_forms_agree_to_the_last_bit(server, rate, burst, passes):
    limit = a_limit(rate, burst)
    buckets = TokenBuckets(limit)
    server.flushall()
    now = 1_900_000_000.0
    for seconds in passes:
        now += seconds
        told = buckets.wait(KEY, now)
        assert taken(server, KEY, limit, now) == buckets.take(KEY, now) == told


def test_a_token_of_each_limit_or_of_none(server):
    server.flushall()
    wide, narrow = a_limit(rate=10.0, burst=3), RateLimit("narrow", 1.0, 1)
    wanted = [(wide, b"w" * 16), (narrow, b"n" * 16)]

    def both(now):
        return wait_of(server.eval(SCRIPT, *arguments("rate:", wanted, now)))

    assert both(100.0) == (0, 0.0)
    assert [both(100.0) for _ in range(5)] == [(1, 1.0)] * 5
    # The refusals cost the wide one nothing: two of its three are left.
    assert [taken(server, b"w" * 16, wide, 100.0) for _ in range(2)] == [0.0] * 2
    which, wait = both(100.95)
    assert (which, wait) == (1, pytest.approx(0.05))
    assert [taken(server, b"w" * 16, wide, 101.0) for _ in range(3)] == [0.0] * 3
    which, wait = both(101.0)
    assert (which, wait) == (0, pytest.approx(0.1))


def test_the_script_is_known_by_its_digest(server):
    server.flushall()
    server.script_flush()
    limit = a_limit()
    with pytest.raises(NoScriptError):
        server.evalsha(SCRIPT_DIGEST, *arguments("rate:", [(limit, KEY)]))
    taken(server, KEY, limit)
    assert wait_of(server.evalsha(SCRIPT_DIGEST, *arguments("rate:", [(limit, KEY)]))) == (0, 0.0)


def test_on_the_servers_own_clock(server):
    server.flushall()
    limit = a_limit(rate=0.001, burst=2)
    assert [taken(server, KEY, limit) for _ in range(2)] == [0.0, 0.0]
    assert 999.0 < taken(server, KEY, limit) <= 1000.0


def test_no_key_is_kept_for_ever(server):
    server.flushall()
    taken(server, KEY, a_limit(rate=0.001, burst=2))
    (name,) = server.keys("*")
    assert name == b"rate:" + KEY.hex().encode()
    assert 1_000_000 < server.pttl(name) <= 1_060_000


NO_ANSWERS = [None, 0, 1.5, b"", b"0", b"0 soon", b"0 nan", b"0 inf", b"0 -1", "-1 0.5", b"\xff 1", [b"0 0"]]


@pytest.mark.parametrize("reply", NO_ANSWERS, ids=repr)
def test_an_answer_that_is_none(reply):
    with pytest.raises(ValueError):
        wait_of(reply)
