"""What each source of a home costs a request: processor time of the proxy's own process.

    python -m benchmarks.sources

`known` is a look-up that the source answers from its own table, as most are; `asked` is one that has to verify, or to
ask elsewhere (the store's own processor time is not in it). Stores are real ones on this machine, asked for distinct
subjects with as many look-ups at once as a policy allows by default. Requests carry nine header fields.
"""

import asyncio
import gc
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from statistics import median
from time import process_time, time

import uvloop

from proxy.identity.answers import Home, Pending, Silent
from proxy.identity.country import open_countries
from proxy.identity.counts import SourceCount
from proxy.identity.directory.opening import open_directory
from proxy.identity.directory.reader import Entry
from proxy.identity.directory.source import DirectorySource
from proxy.identity.directory.table import Table
from proxy.identity.evidence import Evidence
from proxy.identity.home_cookie import HomeCookies, HomeCookieSource
from proxy.identity.identify import Source
from proxy.identity.jwt import open_jwt
from proxy.identity.location import LocationSource
from proxy.policy.settings import GeoIP
from proxy.policy.subject import (
    Directory,
    DirectoryCache,
    DirectoryKey,
    HttpStore,
    Jwt,
    PostgresStore,
    SqliteStore,
    Store,
    ValkeyStore,
)
from tests.cli.directories import import_text, policy_with_directory
from tests.identity import tokens
from tests.identity.directory.servers import administrate, postgres, valkey
from tests.identity.directory.test_readers import TABLE
from tests.peers.nginx import nginx
from tests.peers.process import free_port

ROUNDS = 5
LOOKUPS = 64

_NOBODY = Silent()
_FIELDS = (
    (b"host", b"storage.example"),
    (b"x-forwarded-for", b"141.1.1.1"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"de,en-US;q=0.7,en;q=0.3"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"cookie", b"session=3b2f8c1de0a94b3f"),
    (b"cache-control", b"no-cache"),
)


@dataclass(frozen=True, slots=True)
class SourceCost:
    """Seconds of processor time a request, the medians of the rounds; None where there is no such case."""

    source: str
    known: float | None
    asked: float | None


def measure(requests: int = 20_000, subjects: int = 2_000) -> list[SourceCost]:
    """The cost of every source. subjects: how many a store is asked for in each round."""
    with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        folder = Path(name)
        costs = [_location(requests), _jwt(folder, requests), _home_cookie(requests)]
        costs += runner.run(_directories(folder, requests, subjects))
    return costs


def _evidence(name: bytes, value: bytes) -> Evidence:
    return Evidence((*_FIELDS, (name, value)), ip_address("141.1.1.1"), "DE", trusted=True)


def _known(source: Source, evidence: Evidence, requests: int) -> float:
    """The cost of an answer that is known already."""
    now, answer, times = time(), source.answer, []
    assert isinstance(answer(evidence, _NOBODY, now), Home)
    for _ in range(ROUNDS):
        start = process_time()
        for _ in range(requests):
            answer(evidence, _NOBODY, now)
        times.append((process_time() - start) / requests)
    return median(times)


def _location(requests: int) -> SourceCost:
    countries = open_countries(GeoIP(), time())
    known = _known(LocationSource(False, countries), _evidence(b"x-a", b"b"), requests)
    addresses = [ip_address(0x8D010000 + i * 37) for i in range(requests)]
    times = []
    for _ in range(ROUNDS):
        start = process_time()
        for address in addresses:
            countries.country(address)
        times.append((process_time() - start) / len(addresses))
    return SourceCost("location", known, median(times))


def _jwt(folder: Path, requests: int) -> SourceCost:
    keys = tokens.written(folder, tokens.all_keys())
    definition = Jwt(keys, tokens.ISSUER, tokens.AUDIENCE, "sub", "residency", "act.role", 30.0, True)
    now, shown = time(), [tokens.token(exp=time() + 3600, iat=time(), nbf=time(), sub=f"s{i}") for i in range(200)]
    many = [_evidence(b"authorization", b"Bearer " + token) for token in shown]
    times = []
    for _ in range(ROUNDS):
        source = open_jwt(definition, frozenset(), frozenset())
        start = process_time()
        for evidence in many:
            source.answer(evidence, _NOBODY, now)
        times.append((process_time() - start) / len(many))
    return SourceCost("jwt (EdDSA)", _known(source, many[0], requests), median(times))


def _home_cookie(requests: int) -> SourceCost:
    """It remembers nothing: each look verifies."""
    cookies = HomeCookies("__Host-home", (b"0123456789abcdefghijklmnopqrstuv",), 86400.0)
    cookie = cookies.line("DE", "storage.example", time()).removeprefix(b"Set-Cookie: ").partition(b";")[0]
    evidence = replace(_evidence(b"cookie", cookie), host="storage.example")
    return SourceCost("home_cookie", None, _known(HomeCookieSource(cookies, False), evidence, requests))


# Directories


def _definition(store: Store, *, size: int = 100_000) -> Directory:
    cache = DirectoryCache(size, 3600.0, 3600.0, 3600.0)
    return Directory(store, DirectoryKey("header", "x-account"), cache, 20.0, LOOKUPS, True)


async def _directories(folder: Path, requests: int, subjects: int) -> list[SourceCost]:
    names = [f"acct-{i:06d}" for i in range(subjects)]
    costs = []
    for kind, opened in (("sqlite", _sqlite), ("valkey", _valkey), ("postgres", _postgres), ("http", _http)):
        async with opened(folder, names) as store:
            costs.append(await _directory(f"directory ({kind})", _definition(store), names, requests))
    return costs


async def _directory(name: str, definition: Directory, names: Sequence[str], requests: int) -> SourceCost:
    many = [_evidence(b"x-account", subject.encode()) for subject in names]
    source = open_directory(definition, SourceCount())
    await _all_of(source, many[:LOOKUPS])  # connects
    known = _known(source, many[0], requests)
    await source.close()
    times = []
    for _ in range(ROUNDS):
        source = open_directory(definition, SourceCount())
        await _all_of(source, many[:LOOKUPS])
        start = process_time()
        await _all_of(source, many[LOOKUPS:])
        times.append((process_time() - start) / len(many[LOOKUPS:]))
        await source.close()
    return SourceCost(name, known, median(times))


async def _all_of(source: DirectorySource, many: Sequence[Evidence]) -> None:
    """Ask for all of them, as many at once as the policy lets."""
    rest = iter(many)

    async def ask() -> None:
        for evidence in rest:
            answer = source.answer(evidence, _NOBODY, 0.0)
            if isinstance(answer, Pending):
                await asyncio.shield(asyncio.ensure_future(answer.ready))
                answer = source.answer(evidence, _NOBODY, 0.0)
            assert isinstance(answer, Home), answer

    await asyncio.gather(*(ask() for _ in range(LOOKUPS)))


@asynccontextmanager
async def _sqlite(folder: Path, names: Sequence[str]) -> AsyncIterator[Store]:
    (folder / "sqlite").mkdir()
    policy = policy_with_directory(folder / "sqlite")
    import_text(policy, "subject,home\n" + "".join(f"{name},eu\n" for name in names))
    yield SqliteStore(folder / "sqlite" / "directory.db")


@asynccontextmanager
async def _valkey(folder: Path, names: Sequence[str]) -> AsyncIterator[Store]:
    with valkey(folder) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(b"SET home:%b eu\r\n" % name.encode() for name in names))
        await reader.readexactly(len(b"+OK\r\n") * len(names))
        writer.close()
        yield ValkeyStore("127.0.0.1", port, 0, False, None, None, None, "home:")


@asynccontextmanager
async def _postgres(folder: Path, names: Sequence[str]) -> AsyncIterator[Store]:
    with postgres() as port:
        rows = "INSERT INTO domicile_homes VALUES " + ", ".join(f"('{name}', 'eu')" for name in names)
        await administrate(port, TABLE, rows, "ANALYZE domicile_homes", "GRANT SELECT ON domicile_homes TO domicile")
        yield PostgresStore("127.0.0.1", port, "accounts", False, "domicile", None, None, None, 8)


@asynccontextmanager
async def _http(folder: Path, names: Sequence[str]) -> AsyncIterator[Store]:
    port = free_port()
    served = f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 \'{{"home": "eu"}}\'; }} }}'
    with nginx(served, [port], folder / "nginx"):
        yield HttpStore(f"http://127.0.0.1:{port}/home?subject={{}}", (), None)


def bytes_an_entry(entries: int = 100_000) -> float:
    """Bytes that one home takes in the table of a directory, with a key of 32 characters."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    table = Table(replace(_definition(SqliteStore(Path())).cache, size=entries))
    for i in range(entries):
        table.put(key := f"{i:032d}", key, Entry("eu"), 1000.0 + i, 1e9 + i)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / entries


def main() -> None:
    print("Microseconds of processor time a request")
    print(f"{'source':<22} {'known':>8} {'asked':>8}")
    for cost in measure():
        times = [f"{'':>8}" if each is None else f"{each * 1e6:>8.2f}" for each in (cost.known, cost.asked)]
        print(f"{cost.source:<22} " + " ".join(times))
    print(f"{bytes_an_entry():.0f} bytes a home in a directory's table, with a key of 32 characters")


if __name__ == "__main__":
    main()
