"""Whatever providers and clients do, mixed: nothing is sent twice that may not be, and nothing is left behind."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from tests.http1.border import Border, border
from tests.http1.scenes import eventually, metric, own_tasks, reset_by_provider
from tests.http1.staging import BRITAIN, Client, Conversation, Stage, request

CLIENTS, REQUESTS, TRIES = 8, 25, 3
MOST = 3000
POLICY = (
    f"retries: {{hedge: 15ms, attempts: {TRIES}, share: 100%, least: 1000, replay: 2KiB}}\n"
    "timeouts: {body_idle: 300ms}\n"
)
HEALTH = (
    "health: {kind: none, passive: {samples: 20, share: 80%, consecutive: none}, "
    "breaker: {open: 50ms, longest: 100ms, trials: 1, slow_start: 50ms}}"
)
PROVIDER = (
    ", limits: {connections: 2, queue: {most: 4, longest: 200ms}}"
    f", timeouts: {{first_byte: 100ms, idle: 300ms}}, {HEALTH}"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
SAYS = {
    "closes": b"",
    "resets": b"",
    "garbage": b"\0garbage\r\n\r\n",
    "a part of a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a part of a body": OK + b"x",
    "a hint": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "an error": b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
}


@dataclass
class Unreliable:
    """A provider's script that does well by half, and else what chance has it do."""

    chance: random.Random
    heard: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def __call__(self, conversation: Conversation) -> None:
        while True:
            head = (await conversation.read_head()).decode("latin-1")
            method, target, _ = head.split(" ", 2)
            length = next((line[15:] for line in head.split("\r\n") if line.lower().startswith("content-length")), "0")
            # Begun, and perhaps acted upon.
            self.heard.append((method, target, b""))
            body = await conversation.read(int(length))
            self.heard[-1:] = [*self.heard[-1:], (method, target, body)] if body else self.heard[-1:]
            if self.chance.random() < 0.5:
                await asyncio.sleep(self.chance.choice([0, 0, 0, 0.02]))
                await conversation.say(OK + b"well")
                continue
            what = self.chance.choice([*SAYS, "nothing"])
            if what == "nothing":
                await conversation.wait_end()
                return
            await conversation.say(SAYS[what])
            if what == "resets":
                reset_by_provider(conversation)
            if what != "an error":
                return


async def busy(stage: Stage, chance: random.Random, name: int) -> int:
    """One client's requests; how many it made."""
    client: Client | None = None
    for count in range(REQUESTS):
        if client is None:
            client = await stage.client()
        method = chance.choice(["GET", "GET", "HEAD", "PUT", "POST", "DELETE"])
        body = chance.randbytes(chance.choice([1, 1000, MOST])) if method in ("PUT", "POST") else None
        await client.send(request(f"/{name}-{count}", method=method, xff=BRITAIN, body=body))
        if chance.random() < 0.1:
            client.abort()
            client = None
            continue
        try:
            response = await client.response(method)
            if response.status == 103:
                response = await client.response(method)
            assert response.status in (200, 500, 502, 503, 504)
            if response.header("connection") == "close":
                client = None
        except (asyncio.IncompleteReadError, ConnectionError):
            client = None
    return REQUESTS


async def reloads(scene: Border) -> None:
    """The third is forbidden and permitted again, and again, with requests on their way to it."""
    for count in range(6):
        await asyncio.sleep(0.1)
        rules = "  - {name: not-there, forbid: {providers: [third]}}" if count % 2 == 0 else ""
        scene.reload(scene.text(rules=rules, more=POLICY, provider=PROVIDER))


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    scripts = {name: Unreliable(random.Random(f"{seed}{name}")) for name in ("first", "second", "third")}
    async with border(scripts, more=POLICY, provider=PROVIDER) as scene:
        reloading = asyncio.create_task(reloads(scene))
        made = sum(
            await asyncio.gather(*(busy(scene.stage, random.Random(chance.random()), n) for n in range(CLIENTS)))
        )
        await reloading
        await eventually(lambda: len(scene.log.records) == made)
        assert metric(scene.stage, "domicile_retries_total")
        await eventually(scene.idle)
        await eventually(lambda: not own_tasks())
        assert not scene.stage.plane.hedges._waiting
        for name in scripts:
            state = scene.place(name).state
            await eventually(lambda state=state: state.open == len(state.pool) and not state.waiting)
            assert state.definition.connections is not None
            assert state.open <= state.definition.connections
        begun = Counter(
            (method, target) for each in scripts.values() for method, target, body in each.heard if not body
        )
        assert len(begun) > made / 3
        assert max(begun.values()) > 1
        for (method, _), count in begun.items():
            assert count <= (1 if method == "POST" else TRIES)
        bodies: dict[str, set[bytes]] = {}
        for each in scripts.values():
            for _, target, body in each.heard:
                if body:
                    bodies.setdefault(target, set()).add(body)
        assert all(len(different) == 1 for different in bodies.values())
