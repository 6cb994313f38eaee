"""Clients of all kinds at once, inside the border and outside of it, who keep count of what they were answered.

Each marks what it sends with where it lives, so that a provider can tell whose data it got.
"""

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from tests.faults.staging import Passed, Stage
from tests.http1.staging import BRITAIN, MAINLAND, Client, request

INSIDE, OUTSIDE = "lives=inside", "lives=outside"


@dataclass
class Tally:
    """What came of requests, or connections, that nobody left: by `whole`, `cut`, or a status."""

    at_all: Counter[str] = field(default_factory=Counter)
    one_up: Counter[str] = field(default_factory=Counter)

    def share(self, counted: Counter[str]) -> float:
        return counted["whole"] / max(1, counted.total())


class Crowd:
    """inside: requests of those inside the border, by method; passed: their connections. outages: when, by monotonic
    time, nobody inside the border was sound."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage = stage
        self._random = random.Random(seed)
        self.inside = {method: Tally() for method in ("GET", "POST", "PUT")}
        self.passed = Tally()
        self.outages: list[tuple[float, float]] = []
        self._over = asyncio.Event()

    async def run(self, seconds: float, inside: int, outside: int) -> None:
        """So many of each, for so long."""
        self._over.clear()
        people = [(MAINLAND, INSIDE)] * inside + [(BRITAIN, OUTSIDE)] * outside
        tasks = [
            asyncio.create_task(work(address, mark))
            for address, mark in people
            for work in (self._browses, self._browses, self._connects)
        ]
        await asyncio.sleep(seconds)
        self._over.set()
        await asyncio.gather(*tasks)

    # One of them

    async def _browses(self, address: str, mark: str) -> None:
        while not self._over.is_set():
            with suppress(OSError):
                client = await self._stage.client()
                try:
                    for _ in range(self._random.choice((1, 1, 5, 20))):
                        if self._over.is_set() or not await self._asks(client, address, mark):
                            break
                        await asyncio.sleep(self._random.uniform(0, 0.1))
                finally:
                    client.abort()
                    self._stage.writers.remove(client.writer)

    async def _asks(self, client: Client, address: str, mark: str) -> bool:
        """One request; whether the connection may be used again."""
        method = self._random.choice(("GET", "GET", "GET", "POST", "PUT"))
        body = b"" if method == "GET" else b"x" * self._random.choice((10, 10_000, 300_000))
        size = self._random.choice((None, None, 1_000, 200_000))
        target = "/" if size is None else f"/bytes/{size}"
        sent = request(target, method=method, body=body, xff=address, headers=f"X-Mark: {mark}")
        leaves = self._random.random() < 0.05
        began = time.monotonic()
        try:
            if leaves:
                await client.send(sent[: self._random.randrange(1, len(sent))])
                await asyncio.sleep(self._random.uniform(0, 0.05))
                return False
            await client.send(sent)
            answer = await client.response()
            came = "whole" if answer.status == 200 else str(answer.status)
            ends = answer.header("connection") == "close"
        except (asyncio.IncompleteReadError, ConnectionError):
            came, ends = "cut", True
        if mark == INSIDE:
            self._count(self.inside[method], came, began)
        return not ends

    async def _connects(self, address: str, mark: str) -> None:
        while not self._over.is_set():
            data = mark.encode() + b"y" * self._random.choice((10, 1_000, 100_000))
            leaves = self._random.random() < 0.1
            began, came = time.monotonic(), "cut"
            with suppress(OSError, asyncio.IncompleteReadError):
                connection: Passed = await self._stage.connection(address)
                try:
                    await connection.send(data)
                    if not leaves and await connection.exactly(len(data)) == data:
                        came = "whole"
                        connection.writer.write_eof()
                        await connection.rest()
                finally:
                    connection.reset()
                    self._stage.writers.remove(connection.writer)
            if mark == INSIDE and not leaves:
                self._count(self.passed, came, began)
            await asyncio.sleep(self._random.uniform(0, 0.2))

    def _count(self, tally: Tally, came: str, began: float) -> None:
        tally.at_all[came] += 1
        now = time.monotonic()
        if not any(began < end and now > start for start, end in self.outages):
            tally.one_up[came] += 1
