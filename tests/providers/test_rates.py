"""The limits of a policy at run time: whose bucket, reloads, and a store that answers, is out, is slow, or lies."""

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest
from redis import Redis

from proxy.policy.balance import RateLimit
from proxy.policy.rates import Rates
from proxy.policy.settings import Secret
from proxy.policy.subject import ValkeyStore
from proxy.providers import rate_store
from proxy.providers.rates import Exceeded, RateLimits, RatesRefused
from tests.identity.directory.servers import valkey

HERE, THERE = ip_address("192.0.2.1"), ip_address("198.51.100.7")
UPLOADS = RateLimit("uploads", 0.001, 2)
SECRET = Secret("s" * 32)


def opened(*limits, old=None, **settings):
    return RateLimits.open(Rates(limits, **settings), old)


def taken(limits, wanted, subject=None, client=HERE, now=100.0):
    """The name of the limit that is exceeded, None for none."""
    tokens = limits.tokens(wanted, subject, client)
    assert tokens is not None
    assert not tokens.shared
    found = tokens.take(now)
    return None if found is None else found.limit


def test_no_limit_costs_nothing():
    assert opened(UPLOADS).tokens((), "alice", HERE) is None


@pytest.mark.parametrize(
    ("by", "first", "second", "alike"),
    [
        ("subject", ("alice", HERE), ("alice", THERE), True),
        ("subject", ("alice", HERE), ("bob", HERE), False),
        ("subject", (None, HERE), (None, HERE), True),  # nobody was verified: the network counts
        ("subject", (None, HERE), (None, THERE), False),
        ("subject", (None, HERE), ("alice", HERE), False),
        ("network", ("alice", HERE), ("bob", HERE), True),
        ("network", ("alice", HERE), ("alice", THERE), False),
        ("network", (None, None), (None, None), True),  # on a Unix socket: all who have no address together
        ("network", (None, None), (None, HERE), False),
    ],
)
def test_whose_bucket(by, first, second, alike):
    limit = replace(UPLOADS, by=by, burst=1)
    limits = opened(limit)
    assert taken(limits, (limit,), *first) is None
    assert taken(limits, (limit,), *second) == ("uploads" if alike else None)


def test_a_token_of_each_limit_or_of_none():
    narrow = RateLimit("narrow", 1.0, 1)
    limits = opened(UPLOADS, narrow)
    assert taken(limits, (UPLOADS, narrow)) is None
    tokens = limits.tokens((UPLOADS, narrow), None, HERE)
    assert [tokens.take(100.0) for _ in range(5)] == [Exceeded("narrow", 1.0)] * 5
    assert taken(limits, (UPLOADS,)) is None  # its second, which the refusals left alone
    found = tokens.take(102.0)
    assert (found.limit, found.wait > 900) == ("uploads", True)


def test_a_reload_keeps_the_buckets_of_what_it_leaves_as_it_is():
    other = RateLimit("other", 0.001, 1)
    old = opened(UPLOADS, other)
    for limit in (UPLOADS, UPLOADS, other):
        assert taken(old, (limit,)) is None
    wider = replace(other, burst=2)
    new = opened(wider, UPLOADS, old=old)
    assert taken(new, (UPLOADS,)) == "uploads"
    assert taken(new, (wider,)) is None  # another rule, so it begins anew
    # Whoever was planned by the old one still takes from the same bucket.
    assert taken(old, (UPLOADS,)) == "uploads"
    gone = opened(old=new)
    assert taken(opened(UPLOADS, old=gone), (UPLOADS,)) is None


def test_a_secret_that_cannot_be_read(tmp_path):
    with pytest.raises(RatesRefused, match="nowhere: cannot be read"):
        opened(UPLOADS, secret=tmp_path / "nowhere")
    short = tmp_path / "short"
    short.write_bytes(b"short\n")
    with pytest.raises(RatesRefused, match="32 to 4096 bytes") as refused:
        opened(UPLOADS, secret=short)
    assert "short\n" not in str(refused.value)
    (tmp_path / "good").write_bytes(b"g" * 32 + b"\n")
    assert taken(opened(UPLOADS, secret=tmp_path / "good"), (UPLOADS,)) is None


def test_an_authority_that_cannot_be_used(tmp_path):
    with pytest.raises(RatesRefused, match="nowhere: cannot be used"):
        opened(UPLOADS, secret=SECRET, store=replace(a_store(1), tls=True, ca=tmp_path / "nowhere"))


# A store


def a_store(port):
    return ValkeyStore("127.0.0.1", port, 0, False, None, None, None, "rate:")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with valkey(tmp_path_factory.mktemp("valkey")) as port:
        client = Redis(port=port)
        client.ping()
        yield client
        client.close()


def port_of(server):
    return server.connection_pool.connection_kwargs["port"]


@asynccontextmanager
async def shared(port, *limits, **settings):
    found = opened(*limits, store=a_store(port), secret=SECRET, **settings)
    try:
        yield found
    finally:
        await found.close()


async def asked(limits, wanted, subject="alice", client=HERE):
    tokens = limits.tokens(wanted, subject, client)
    assert tokens.shared
    found = await tokens.ask(100.0)
    return None if found is None else found.limit


async def test_instances_share_their_buckets(server):
    server.flushall()
    async with shared(port_of(server), UPLOADS) as one, shared(port_of(server), UPLOADS) as other:
        assert await asked(one, (UPLOADS,)) is None
        assert await asked(other, (UPLOADS,)) is None
        assert [await asked(each, (UPLOADS,)) for each in (one, other)] == ["uploads"] * 2
        assert await asked(other, (UPLOADS,), "bob") is None
        (names := [name.decode() for name in server.keys("*")]).sort()
        assert len(names) == 2
        assert all(name.startswith("rate:") and "alice" not in name for name in names)


async def test_all_who_ask_at_once_are_answered_each_their_own(server):
    server.flushall()
    narrow = RateLimit("narrow", 0.001, 1)
    async with shared(port_of(server), UPLOADS, narrow) as limits:
        server.script_flush()
        found = await asyncio.gather(
            *(asked(limits, (UPLOADS, narrow) if one % 2 else (UPLOADS,), f"subject {one % 6}") for one in range(600))
        )
        # Odd subjects pass the narrow limit once, even ones the other twice.
        assert found.count(None) == 3 * 1 + 3 * 2
        assert found.count("narrow") == 297
        assert found.count("uploads") == 294
        assert len(server.client_list()) <= 3


async def test_who_leaves_takes_nobodys_answer(server):
    server.flushall()
    async with shared(port_of(server), UPLOADS) as limits:
        leaving = asyncio.ensure_future(asked(limits, (UPLOADS,), "bob"))
        staying = asyncio.ensure_future(asked(limits, (UPLOADS,)))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying is None
        assert await asked(limits, (UPLOADS,)) is None
        assert await asked(limits, (UPLOADS,)) == "uploads"


@asynccontextmanager
async def listening(script):
    """The port of a server that serves each connection so; all are closed at the end."""
    conversations = []

    async def serve(reader, writer):
        conversations.append((asyncio.current_task(), writer))
        await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    for task, writer in conversations:
        await task
        await writer.wait_closed()


async def nothing_to_say(reader, writer):
    await reader.read()


async def nonsense(reader, writer):
    while await reader.read(65536):
        writer.write(b"$3\r\n0 x\r\n")


async def an_error(reader, writer):
    while await reader.read(65536):
        writer.write(b"-OOM it quotes alice\r\n")


async def hung_up(reader, writer):
    pass


@pytest.mark.parametrize("script", [nothing_to_say, nonsense, an_error, hung_up])
async def test_a_store_that_is_out_leaves_each_process_its_own_share(script, caplog, monkeypatch):
    monkeypatch.setattr(rate_store, "MOMENT", 1000.0)
    caplog.set_level(logging.INFO, "domicile")
    whole = replace(UPLOADS, burst=8)
    async with listening(script) as port, shared(port, whole, alone=(UPLOADS,)) as limits:
        assert [await asked(limits, (whole,)) for _ in range(4)] == [None, None, "uploads", "uploads"]
        async with asyncio.timeout(5):
            while not caplog.messages:  # one that says nothing is known to be out a moment after who asked
                await asyncio.sleep(0.01)
        # It is left alone now: nobody waits.
        async with asyncio.timeout(rate_store.ASKING * 20):
            assert [await asked(limits, (whole,)) for _ in range(500)] == ["uploads"] * 500
    (told,) = caplog.messages
    assert told.startswith("the store of limits of rate cannot be asked")
    assert "alice" not in caplog.text


async def test_a_store_that_is_back_is_asked_again(server, caplog, monkeypatch):
    monkeypatch.setattr(rate_store, "MOMENT", 0.0)
    caplog.set_level(logging.INFO, "domicile")
    server.flushall()
    port, scripts = port_of(server), [hung_up]

    async def passed_on(reader, writer):
        if scripts:
            await scripts.pop()(reader, writer)
            return
        theirs, mine = await asyncio.open_connection("127.0.0.1", port)
        there = asyncio.ensure_future(copied(reader, mine))
        await copied(theirs, writer)
        await there
        await mine.wait_closed()

    async def copied(source, sink):
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    async with listening(passed_on) as through, shared(through, UPLOADS) as limits:
        found = [await asked(limits, (UPLOADS,)) for _ in range(5)]
        # One of this process's own tokens, then both of the store's.
        assert found == [None, None, None, "uploads", "uploads"]
    assert [message.split(" ")[-3:] for message in caplog.messages][-1] == ["rate", "answers", "again"]
    assert len(caplog.messages) == 2


async def test_a_reload_keeps_the_connection_of_the_same_store(server):
    server.flushall()
    async with shared(port_of(server), UPLOADS) as old:
        assert await asked(old, (UPLOADS,)) is None
        new = opened(UPLOADS, store=a_store(port_of(server)), secret=SECRET, old=old)
        await old.close(new)
        assert await asked(new, (UPLOADS,)) is None
        assert await asked(new, (UPLOADS,)) == "uploads"
        await new.close(opened(old=new))
        # Closed: each by itself.
        assert [await asked(new, (UPLOADS,)) for _ in range(3)] == [None, None, "uploads"]
