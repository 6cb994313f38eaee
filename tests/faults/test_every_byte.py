"""One small exchange, broken at every byte of it, in both directions and in three ways.

Whatever the byte: the client has the whole answer, one of our own, or a message that is visibly cut; what is not
idempotent arrives at most once; and the connection that was broken serves nobody again.
"""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Literal

import pytest

from tests.faults.link import At, Fault, Way
from tests.faults.staging import FIRST_BYTE, Stage, staged, within

BODY = b"all or nothing"

LENIENT = "kind: none, passive: {consecutive: none, share: none}"
"""One provider is broken a thousand times here, and has to be tried each time."""

Then = Literal["reset", "end", "garbage"]


async def _asked(stage: Stage, method: str) -> str:
    """What a client has of an exchange."""
    try:
        response = await stage.ask("/x", method=method, body=BODY)
    except (asyncio.IncompleteReadError, ConnectionError):
        return "cut"
    if response.status == 200:
        assert response.body in (b"first", b"second")
        return "whole"
    assert response.status in (502, 504), response
    return "told"


async def _echoed(stage: Stage) -> str:
    data, orderly = await stage.echoed(BODY)
    return "whole" if orderly and data == BODY else "ended" if orderly else "cut"


async def _length(stage: Stage, way: Way, method: str) -> int:
    """Of a sound exchange on a new connection."""
    link = stage.links["first"]
    link.end()
    link.script.append(Fault())
    assert await _asked(stage, method) == "whole"
    return link.passed[way]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("way", ["to_provider", "to_client"])
async def test_an_exchange_that_breaks_at_any_byte(method: str, way: Way, tmp_path: Path) -> None:
    async with staged(tmp_path, health=LENIENT, raw_health=LENIENT) as stage:
        link, first, second = stage.links["first"], stage.sites["first"], stage.sites["second"]
        length = await _length(stage, way, method)
        assert 40 < length < 600
        seen: dict[Then, Counter[str]] = {}
        for then in _THEN[way]:
            seen[then] = Counter()
            # Garbage in place of a body's bytes is nothing that anybody but its reader could see.
            for offset in range(length if then != "garbage" else length - len("first")):
                link.end()
                before = len(first.requests) + len(second.requests)
                link.script.append(Fault(at=At(way, offset, then)))
                with within(FIRST_BYTE):
                    got = await _asked(stage, method)
                arrived = len(first.requests) + len(second.requests) - before
                assert method == "PUT" or arrived <= 1, (then, offset)
                assert got != "whole" or arrived >= 1, (then, offset)
                seen[then][got] += 1
        # Nothing that broke before its last byte came through as if it had not.
        if method == "POST":
            assert all(each["whole"] == 0 for each in seen.values())


_THEN: dict[Way, tuple[Then, ...]] = {"to_provider": ("reset", "end"), "to_client": ("reset", "end", "garbage")}


async def test_a_connection_that_is_passed_on_and_breaks_at_any_byte(tmp_path: Path) -> None:
    async with staged(tmp_path, health=LENIENT, raw_health=LENIENT) as stage:
        link = stage.raw_links["first"]
        ways: tuple[Way, ...] = ("to_provider", "to_client")
        for way in ways:
            for offset in range(len(BODY)):
                link.script.append(Fault(at=At(way, offset, "reset")))
                with within(FIRST_BYTE):
                    assert await _echoed(stage) == "cut", (way, offset)
                link.script.append(Fault(at=At(way, offset, "end")))
                with within(FIRST_BYTE):
                    assert await _echoed(stage) in ("ended", "cut"), (way, offset)
        assert stage.sites["second"].visits == []
        records = (await stage.accounted())[2:]
        assert {each["reason"] for each in records} <= {"reset", None}
        assert sum(each["reason"] == "reset" for each in records) >= 2 * len(BODY)
