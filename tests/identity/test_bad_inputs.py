"""Whatever is wrong with a credential gets the answer that is stated for it, and no provider hears of it.

The tables are the modules of bad_inputs/ (see `table`). Each is tried against a whole proxy: first what is good,
to show that providers can be reached; then every row; then what hypothesis makes of a good one.
"""

import asyncio
import importlib
from collections.abc import Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http1.staging import PATIENCE
from tests.identity.bad_inputs.table import Table
from tests.identity.house import House, house

FOLDER = Path(__file__).parent / "bad_inputs"
MODULES: list[ModuleType] = [
    importlib.import_module(f"tests.identity.bad_inputs.{path.stem}") for path in sorted(FOLDER.glob("*.py"))
]
TABLES: list[Table] = [table for module in MODULES for table in getattr(module, "TABLES", ())]
ROWS = [(table, name) for table in TABLES for name in table.rows]
RULES = "  - {name: nobody, when: {home: unknown}, allow: {providers: open}}\n"
"""Even nobody would be let in, so a refusal is the credential's own."""


def rules_of(table: Table) -> str:
    return RULES if table.rules is None else table.rules


async def answered(home: House, table: Table, data: bytes) -> int:
    """The status of the answer; 0 for a connection that was closed without one."""
    client = await home.client(table.listener, table.source)
    await client.send(data)
    async with asyncio.timeout(PATIENCE):
        try:
            line = await client.reader.readuntil(b"\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        finally:
            client.abort()
    return int(line.split()[1])


def test_there_are_enough() -> None:
    assert len(ROWS) >= 80
    assert len({(table.name, name) for table, name in ROWS}) == len(ROWS)


@pytest.mark.filterwarnings("ignore:Attribute's length")  # certificates that nobody should have made
@pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])
async def test_every_row_gets_its_answer_and_touches_no_provider(tmp_path: Path, table: Table) -> None:
    table.files(tmp_path)
    async with house(tmp_path, table.sources, rules_of(table), table.more) as home:
        assert await answered(home, table, table.good()) == 200
        assert sum(home.touched().values()) == 1, "a provider can be reached"
        connections = home.connected()
        wrong = {}
        for name, row in table.rows.items():
            data = row.data()
            for _ in range(2):
                status = await answered(home, table, data)
                if status != row.status or home.connected() != connections or sum(home.touched().values()) != 1:
                    wrong[name] = status
        assert wrong == {}
        assert sum(home.touched().values()) == 1
        assert home.connected() == connections
        assert await answered(home, table, table.good()) == 200, "and it still can"


class Running:
    """One proxy for many examples, on a loop of its own."""

    def __init__(self, folder: Path, table: Table) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.table = table
        table.files(folder)
        self._scene = house(folder, table.sources, rules_of(table), table.more)
        self.home = self.run(self._scene.__aenter__())
        self.good, self.credential = table.good(), table.credential()
        assert self.answer(self.good) == 200

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def answer(self, data: bytes) -> int:
        status: int = self.run(answered(self.home, self.table, data))
        return status

    def close(self) -> None:
        self.run(self._scene.__aexit__(None, None, None))
        self.runner.close()


MUTABLE = [table for table in TABLES if table.credential()]


@pytest.fixture(scope="module", params=MUTABLE, ids=[table.name for table in MUTABLE])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    proxy = Running(tmp_path_factory.mktemp("mutated"), request.param)
    yield proxy
    proxy.close()


# What a field's value may hold, but for what ends a cookie or is trimmed from a value.
BYTES = st.sampled_from([byte for byte in range(0x21, 0x100) if byte not in (0x7F, ord(";"), ord(","))])


@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_credential_that_was_changed_reaches_a_provider(running: Running, data: st.DataObject) -> None:
    good, credential = running.good, running.credential
    at = good.index(credential)
    changed = bytearray(credential)
    for _ in range(data.draw(st.integers(1, 4), "changes")):
        place = data.draw(st.integers(0, len(changed) - 1), "place")
        match data.draw(st.sampled_from(["replace", "insert", "remove", "swap", "cut"]), "how"):
            case "replace":
                changed[place] = data.draw(BYTES, "byte")
            case "insert":
                changed.insert(place, data.draw(BYTES, "byte"))
            case "remove" if len(changed) > 1:
                del changed[place]
            case "swap":
                other = data.draw(st.integers(0, len(changed) - 1), "other")
                changed[place], changed[other] = changed[other], changed[place]
            case _:
                del changed[max(place, 1) :]
    touched = running.home.touched()
    status = running.answer(good[:at] + bytes(changed) + good[at + len(credential) :])
    if bytes(changed) == credential:
        assert status == 200
    else:
        assert status == 401
        assert running.home.touched() == touched
