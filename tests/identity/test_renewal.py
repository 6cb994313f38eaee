"""Country databases whose files are replaced: what is taken in, what is refused, and who notices."""

import asyncio
import errno
import os
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from proxy.identity.country import Countries, open_countries
from proxy.identity.refused import SourceRefused
from proxy.identity.renewal import Renewed, renew
from proxy.policy.settings import GeoIP
from tests.identity.house import PROXY, House, house
from tests.identity.mmdb_files import mmdb
from tests.identity.test_countries import DAMAGED, NOW, country

ADDRESS = ip_address("114.114.114.114")


def saying(code: str, built: int = NOW, **more: Any) -> bytes:
    return mmdb({"114.0.0.0/8": country(code)}, built, **more)


def put(path: Path, content: bytes) -> None:
    """As an update program does: a whole file in the place of the other."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)


def write(path: Path, content: bytes) -> None:
    """In place."""
    path.write_bytes(content)


async def looks(countries: Countries, times: int = 2) -> list[Renewed]:
    """What came of looking at the files so often."""
    return [came for _ in range(times) for came in await renew(countries, NOW)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "country.mmdb"
    path.write_bytes(saying("DE"))
    return path


def counts(countries: Countries) -> list[tuple[str, int, int]]:
    return [(each.name, each.loaded, each.refused) for each in countries.reports()]


async def test_a_new_file_is_taken_in_once_it_stays(path: Path) -> None:
    countries = open_countries(GeoIP((path,)), NOW)
    assert countries.country(ADDRESS) == "DE"
    assert await looks(countries) == []
    put(path, saying("CN", NOW + 60))
    assert await looks(countries, 1) == [], "it may still be being written"
    assert countries.country(ADDRESS) == "DE"
    assert await looks(countries, 1) == [Renewed("country.mmdb", NOW + 60, None)]
    assert countries.country(ADDRESS) == "CN", "and what was remembered is not"
    assert await looks(countries) == []
    assert counts(countries) == [("country.mmdb", 1, 0)]


async def test_one_written_in_place_is_taken_in_when_it_is_whole(path: Path) -> None:
    countries = open_countries(GeoIP((path,)), NOW)
    content = saying("CN", NOW + 60)
    for end in range(0, len(content), len(content) // 8):
        write(path, content[:end])
        assert await looks(countries, 1) == []
        assert countries.country(ADDRESS) == "DE"
    write(path, content)
    assert await looks(countries) == [Renewed("country.mmdb", NOW + 60, None)]
    assert countries.country(ADDRESS) == "CN"
    assert counts(countries) == [("country.mmdb", 1, 0)]


@pytest.mark.parametrize("name", DAMAGED)
async def test_a_damaged_one_is_refused_once_and_the_old_one_stays(path: Path, name: str) -> None:
    countries = open_countries(GeoIP((path,)), NOW)
    put(path, DAMAGED[name])
    (came,) = await looks(countries, 4)
    assert came.name == "country.mmdb"
    assert came.built == NOW
    assert came.problem is not None
    assert came.problem.startswith(f"{path}: ")
    assert countries.country(ADDRESS) == "DE"
    assert counts(countries) == [("country.mmdb", 0, 1)]
    put(path, saying("CN"))
    assert await looks(countries) == [Renewed("country.mmdb", NOW, None)], "one of the same date is another opinion"
    assert countries.country(ADDRESS) == "CN"


async def test_an_older_one_is_refused(path: Path) -> None:
    countries = open_countries(GeoIP((path,)), NOW)
    put(path, saying("CN", NOW - 1))
    assert await looks(countries, 4) == [Renewed("country.mmdb", NOW, f"{path}: it is older than the database in use")]
    assert countries.country(ADDRESS) == "DE"


async def test_one_that_goes_is_told_and_missed_by_nobody(path: Path) -> None:
    countries = open_countries(GeoIP((path,)), NOW)
    os.unlink(path)
    (came,) = await looks(countries, 4)
    assert came.problem == f"{path}: cannot be read: No such file or directory"
    assert countries.country(ADDRESS) == "DE"
    put(path, saying("DE"))
    assert await looks(countries, 4) == [Renewed("country.mmdb", NOW, None)]


async def test_each_of_several_is_renewed_by_itself(tmp_path: Path) -> None:
    paths = tmp_path / "a" / "country.mmdb", tmp_path / "b" / "country.mmdb"
    for each in paths:
        each.parent.mkdir()
        each.write_bytes(saying("HK"))
    countries = open_countries(GeoIP((*paths, None)), NOW)
    assert countries.country(ADDRESS) == "unknown", "the registries say CN"
    put(paths[0], saying("CN", NOW + 1))
    assert await looks(countries) == [Renewed(str(paths[0]), NOW + 1, None)], "two of one name go by their paths"
    assert countries.country(ADDRESS) == "unknown"
    put(paths[1], saying("CN", NOW + 2))
    await looks(countries)
    assert countries.country(ADDRESS) == "CN"
    assert counts(countries) == [(str(paths[0]), 1, 0), (str(paths[1]), 1, 0)]


async def test_data_that_is_too_old_is_known_again_when_it_is_renewed(path: Path) -> None:
    clock = [float(NOW)]
    countries = open_countries(GeoIP((path,), 100.0), NOW, clock=lambda: clock[0])
    clock[0] += 100
    assert countries.country(ADDRESS) == "unknown"
    assert [report.age for report in countries.reports()] == [100]
    put(path, saying("CN", NOW + 90))
    await looks(countries)
    assert countries.country(ADDRESS) == "CN"
    assert [report.age for report in countries.reports()] == [10]
    assert countries.holds_until(clock[0]) == NOW + 190


async def test_a_reload_keeps_what_is_unchanged_and_never_goes_back(path: Path) -> None:
    first = open_countries(GeoIP((path,)), NOW)
    put(path, saying("CN", NOW + 60))
    await looks(first)
    second = open_countries(GeoIP((path, None), agree="majority"), NOW, old=first)
    assert second.slots[0].database is first.slots[0].database, "and not read again"
    put(path, saying("HK", NOW + 30))
    third = open_countries(GeoIP((path,)), NOW, old=second)
    assert third.country(ADDRESS) == "CN"
    (came,) = await looks(third, 4)
    assert came.problem == f"{path}: it is older than the database in use"
    put(path, saying("MO", NOW + 61))
    fourth = open_countries(GeoIP((path,)), NOW, old=third)
    assert fourth.country(ADDRESS) == "MO", "a reload looks for itself"
    assert counts(fourth) == [("country.mmdb", 1, 1)], "counts go on"
    assert await looks(fourth) == []
    put(path, b"")
    with pytest.raises(SourceRefused, match="not a readable MMDB file"):
        open_countries(GeoIP((path,)), NOW, old=fourth)


async def test_one_that_changes_while_it_is_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    countries = open_countries(GeoIP((path,)), NOW)
    original: Callable[[int], os.stat_result] = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        found = original(descriptor)
        with path.open("ab") as file:
            file.write(b"x")
        return found

    put(path, saying("CN", NOW + 60))
    await looks(countries, 1)
    monkeypatch.setattr("proxy.identity.database.os.fstat", fstat)
    (came,) = await looks(countries, 1)
    assert came.problem == f"{path}: it changed while it was read"
    assert countries.country(ADDRESS) == "DE"


async def test_out_of_descriptors_it_tries_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    countries = open_countries(GeoIP((path,)), NOW)
    put(path, saying("CN", NOW + 60))

    def none_left(name: str, flags: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr("proxy.identity.database.os.memfd_create", none_left)
        assert await looks(countries, 4) == []
        with pytest.raises(SourceRefused, match="Too many open files"):
            open_countries(GeoIP((path,)), NOW)
    assert await looks(countries, 1) == [Renewed("country.mmdb", NOW + 60, None)]


# In a whole proxy: who is where decides, and a file that is bad reaches no other provider.

MADE = 1_780_000_000
"""When the databases of these were made; it has to be before today."""

SOURCES = "  sources: [{location: {}}]\n"
GEOIP = "geoip: {database: country.mmdb, max_age: none}"
ASK = b"GET / HTTP/1.1\r\nHost: storage.example\r\nX-Forwarded-For: 114.114.114.114\r\n\r\n"


async def status_and_provider(home: House) -> tuple[int, bytes]:
    # The table of plans would remember for a minute: every request asks for something else.
    status_and_provider.asked = getattr(status_and_provider, "asked", 0) + 1  # type: ignore[attr-defined]
    path = b"/%d" % status_and_provider.asked  # type: ignore[attr-defined]
    answer = await home.ask(ASK.replace(b" / ", b" %b " % path), source=PROXY)
    return answer.status, answer.body


@pytest.mark.parametrize("name", DAMAGED)
async def test_no_bad_file_moves_anybody(tmp_path: Path, name: str) -> None:
    path = tmp_path / "country.mmdb"
    path.write_bytes(saying("CN", MADE))
    async with house(tmp_path, SOURCES, more=GEOIP) as home:
        assert await status_and_provider(home) == (200, b"cn")
        put(path, DAMAGED[name])
        await looks(home.plane.line.countries)
        assert await status_and_provider(home) == (200, b"cn")
        assert home.touched() == {"cn": 2}
        assert home.metric("domicile_geoip_replacements_total", database="country.mmdb", result="refused") == 1
        put(path, saying("DE", MADE))
        await looks(home.plane.line.countries)
        assert await status_and_provider(home) == (200, b"eu"), "a good one does"
        assert home.metric("domicile_geoip_replacements_total", database="country.mmdb", result="loaded") == 1


async def test_under_load_every_request_is_decided_by_one_database_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "country.mmdb"
    path.write_bytes(saying("CN", MADE))
    async with house(tmp_path, SOURCES, more=GEOIP) as home:
        seen: list[bytes] = []
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                status, provider = await status_and_provider(home)
                assert status == 200
                seen.append(provider)

        asking = [asyncio.create_task(ask()) for _ in range(8)]
        for turn in range(10):
            put(path, saying("DE" if turn % 2 == 0 else "CN", MADE + turn) if turn % 3 else DAMAGED["cut"])
            await looks(home.plane.line.countries)
            count = len(seen)
            while len(seen) < count + 20:
                await asyncio.sleep(0.005)
        done.set()
        await asyncio.gather(*asking)
        assert set(seen) == {b"cn", b"eu"}
        assert set(home.touched()) == {"cn", "eu"}
        assert home.metric("domicile_geoip_replacements_total", result="loaded") == 6
        assert home.metric("domicile_geoip_replacements_total", result="refused") == 4


async def test_disagreement_reaches_nobody_and_an_override_whom_it_says(tmp_path: Path) -> None:
    (tmp_path / "country.mmdb").write_bytes(saying("HK", MADE))
    agree = "geoip: {databases: [country.mmdb, registry], max_age: none%s}"
    async with house(tmp_path, SOURCES, more=agree % "") as home:
        assert (await status_and_provider(home))[0] == 451
        assert home.connected() == 0
        home.reload(SOURCES, more=agree % ", overrides: [{network: 114.0.0.0/8, country: CN}]")
        assert await status_and_provider(home) == (200, b"cn")
        home.reload(SOURCES, more=agree % ", overrides: [{network: 114.0.0.0/8, country: HK}]")
        assert await status_and_provider(home) == (200, b"rest"), "Hong Kong is not the mainland"


async def test_data_that_is_too_old_reaches_nobody(tmp_path: Path) -> None:
    (tmp_path / "country.mmdb").write_bytes(saying("CN", 1_700_000_000))
    async with house(tmp_path, SOURCES, more="geoip: {database: country.mmdb, max_age: 40d}") as home:
        assert (await status_and_provider(home))[0] == 451
        assert home.connected() == 0
        assert home.metric("domicile_geoip_age_seconds", database="country.mmdb") > 40 * 86400
        home.reload(SOURCES, more=GEOIP)
        assert await status_and_provider(home) == (200, b"cn")
