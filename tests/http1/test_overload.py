"""What there is no room for is turned away at once, and whoever was let in gives up its place exactly once."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from operator import itemgetter

import pytest

from proxy.http1 import admission, plane
from proxy.http1.admission import BURST, SHORTEST, STORM, Admission
from proxy.http1.client import AT_ONCE
from proxy.http1.tally import Tally
from proxy.policy.balance import Concurrency
from proxy.providers.concurrency import MOST_PATIENCE, PATIENCE, SAMPLES, TURNS, WINDOW
from tests.http1.scenes import SWITCHED, UPGRADE, eventually, half_close, metric, reset, told
from tests.http1.staging import BRITAIN, MAINLAND, Client, Conversation, Script, Stage, answering, request, staged
from tests.http1.test_waiting import Asking, ask_by, at_home

ONE = "overload: {adaptive: false, most: 1}"


def holding(gate: asyncio.Event) -> Script:
    """Answers each request once the gate is open."""

    async def script(conversation: Conversation) -> None:
        while True:
            await conversation.read_head()
            await gate.wait()
            await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    return script


def under_way(stage: Stage) -> tuple[int, int]:
    limit = stage.plane.admission.limit
    return limit.under_way, limit.working


async def occupy(stage: Stage) -> Client:
    """A request of which the provider has the head, and that holds the only place."""
    client = await stage.client()
    await client.send(request("/first"))
    await eventually(lambda: any(b"GET /first " in head for head in stage.providers["cn"].heads))
    return client


async def test_what_is_above_the_limit_is_turned_away_and_may_come_again() -> None:
    gate = asyncio.Event()
    async with staged({"cn": holding(gate)}, more=ONE) as stage:
        first = await occupy(stage)
        second = await stage.client()
        for repeated in range(3):
            await second.send(request("/second"))
            response = await second.response()
            assert (response.status, response.reason) == (503, "overload")
            assert response.header("retry-after") == "5"
            assert metric(stage, "domicile_shed_total", listener="edge") == repeated + 1
        assert metric(stage, "domicile_concurrency_limit") == metric(stage, "domicile_under_way") == 1
        assert len(stage.providers["cn"].conversations) == 1
        gate.set()
        assert (await first.response()).body == b"ok"
        await second.send(request("/second"))
        assert (await second.response()).body == b"ok"
        records = await told(stage, 5)
        assert [record["reason"] for record in records] == ["overload"] * 3 + [None] * 2
        assert {record["home"] for record in records[:3]} == {"unknown"}  # nothing was decided
        assert {record["provider"] for record in records[:3]} == {None}
        assert under_way(stage) == (0, 0)


@pytest.mark.parametrize(
    ("data", "status", "reason", "stays"),
    [
        (request(), 503, "overload", True),
        (request(method="HEAD"), 503, None, True),
        (request(method="PUT", body=b"12345"), 503, "overload", False),
        (request(method="PUT", headers="Transfer-Encoding: chunked") + b"0\r\n\r\n", 503, "overload", False),
        (request(headers="Connection: close"), 503, "overload", False),
        (request(version="1.0"), 503, "overload", False),
        (request(headers="Expect: 100-continue\r\nContent-Length: 5"), 503, "overload", False),
        (request(headers=UPGRADE), 503, "overload", True),
        (request(xff="nobody"), 503, "overload", True),  # what is not looked at is not judged
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, None, False),
    ],
)
async def test_the_connection_stays_if_it_is_known_where_the_next_request_begins(
    data: bytes, status: int, reason: str | None, stays: bool
) -> None:
    gate = asyncio.Event()
    async with staged({"cn": holding(gate)}, more=ONE) as stage:
        await occupy(stage)
        client = await stage.client()
        await client.send(data)
        response = await client.response(data.split(b" ")[0].decode())
        assert response.status == status
        if reason is not None:
            assert response.reason == reason
        assert metric(stage, "domicile_shed_total") == (status == 503)
        if stays:
            await client.send(request())
            assert (await client.response()).status == 503
        else:
            assert await client.closed()
        assert len(stage.providers["cn"].conversations) == 1
        gate.set()


async def test_whoever_was_let_in_gives_up_its_place_once() -> None:
    """However it ends. Were a place given up twice, more than `most` would be let in; never, and none would be."""

    async def script(conversation: Conversation) -> None:
        head = await conversation.read_head()
        if b"/whole" in head:
            await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            return
        if b"/cut" in head:
            await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
            return
        if b"/garbage" in head:
            await conversation.say(b"garbage\r\n\r\n")
        elif b"/tunnel" in head:
            await conversation.say(SWITCHED)
            await conversation.read_some()
            return
        await conversation.wait_end()

    more = "overload: {adaptive: false, most: 5}\nlimits: {body: 10}"
    async with staged({"cn": script, "eu": answering(b"eu")}, more=more) as stage:
        expected = 0

        async def ends(data: bytes, how: Callable[[Client], None] | None = None) -> None:
            nonlocal expected
            expected += 1
            client = await stage.client()
            await client.send(data)
            if how is not None:
                await eventually(lambda: under_way(stage) == (1, 1))
                how(client)
            else:
                await client.head()
            client.close()
            await eventually(lambda: under_way(stage) == (0, 0))
            await stage.records(expected)
            assert under_way(stage) == (0, 0)

        await ends(request("/whole"))
        await ends(request("/cut"))
        await ends(request("/garbage"))
        await ends(request("/silent"), half_close)
        await ends(request("/silent"), reset)
        await ends(request("/upload", method="PUT", headers="Content-Length: 9"), reset)
        await ends(request("/upload", method="PUT", headers="Content-Length: 11"))
        await ends(request("/", xff=BRITAIN))  # denied: nobody is permitted
        tunnel = await stage.client()
        await tunnel.send(request("/tunnel", headers=UPGRADE))
        assert (await tunnel.head()).status == 101
        assert under_way(stage) == (1, 1)
        await tunnel.send(b"the last")
        assert await tunnel.closed()
        assert under_way(stage)[0] == 1  # the other way is still open
        tunnel.close()
        await eventually(lambda: under_way(stage) == (0, 0))
        expected += 1
        # One that waits for a source, answered and left.
        ask_by(stage, asking := Asking(1, at_home))
        await ends(request("/asked"))
        assert asking.asked == 1
        ask_by(stage, asking := Asking(1, at_home))
        asking.hold = True
        await ends(request("/asked-again"), reset)
        await told(stage, expected)


async def test_a_mistake_of_ours_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    async with staged({"cn": answering()}, more=ONE) as stage:
        monkeypatch.setattr(stage.plane.planner, "plan", broken)
        client = await stage.client()
        await eventually(lambda: stage.plane.open_connections == 1)
        (connection,) = stage.plane._connections
        with pytest.raises(RuntimeError):
            stage.plane.begin(connection, request())
        assert under_way(stage) == (0, 0)
        monkeypatch.undo()
        await client.send(request())
        assert (await client.response()).status == 200


async def test_who_is_under_way_for_long_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tunnel, an answer without end, a slow provider: none of it is work of ours."""
    monkeypatch.setattr(plane, "PARKED", -1.0)
    gate = asyncio.Event()
    async with staged({"cn": holding(gate)}, more="overload: {adaptive: false, most: 2}") as stage:
        first, second = await occupy(stage), await occupy(stage)
        await eventually(lambda: under_way(stage) == (2, 0))
        # `most` counts all of them.
        assert (await stage.ask(request())).reason == "overload"
        gate.set()
        assert (await first.response()).body == (await second.response()).body == b"ok"
        await eventually(lambda: under_way(stage) == (0, 0))


@pytest.mark.parametrize("leaves", [True, False])
async def test_who_waits_long_for_a_source_takes_no_place(leaves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that hangs makes nobody shed whose home is known."""
    async with staged({"cn": answering(), "eu": answering(b"eu")}, more=ONE) as stage:
        ask_by(stage, asking := Asking(1, at_home))
        asking.hold = True
        client = await stage.client()
        await client.send(request())
        await eventually(lambda: asking.open)
        assert under_way(stage) == (1, 1)
        monkeypatch.setattr(plane, "PARKED", -1.0)
        await eventually(lambda: under_way(stage) == (1, 0))
        if leaves:
            reset(client)
        else:
            asking.open[0].set_result(None)
            assert (await client.response()).body == b"eu"
        await eventually(lambda: under_way(stage) == (0, 0))


async def test_a_reload_brings_another_limit() -> None:
    gate = asyncio.Event()
    async with staged({"cn": holding(gate)}, more=ONE) as stage:
        await occupy(stage)
        assert (await stage.ask(request())).reason == "overload"
        path = stage.directory / "policy.yaml"
        stage.plane.swap(stage.line(path.read_text().replace("most: 1", "most: 2"), stage.plane.line))
        second = await stage.client()
        await second.send(request("/second"))
        await eventually(lambda: len(stage.providers["cn"].heads) == 2)
        assert (await stage.ask(request())).reason == "overload"
        gate.set()
        assert (await second.response()).status == 200


async def test_the_same_head_is_turned_away_and_served_in_turns() -> None:
    """What is remembered of a head that was turned away is not taken for a decision, nor the other way round."""
    async with staged({"cn": answering(b"cn"), "eu": answering(b"eu")}, more=ONE) as stage:
        limit = stage.plane.admission.limit
        client = await stage.client()
        for xff, body in [(None, None), (MAINLAND, b"cn"), (None, None), (MAINLAND, b"cn")] * 2:
            full = body is None
            if full:
                assert limit.begin()
            await client.send(request("/alike", xff=xff or MAINLAND))
            response = await client.response()
            assert (response.status, response.body) == (200, body) or (full and response.reason == "overload")
            if full:
                limit.end()
        homes = [record["home"] for record in await told(stage, 8)]
        assert homes == ["unknown", "cn-mainland"] * 4


async def test_a_long_pipeline_is_answered_in_turns_of_the_loop() -> None:
    """Answered at once, it would hold up all others for as long as it takes."""
    async with staged({"cn": answering()}) as stage:
        client = await stage.client()
        await eventually(lambda: stage.plane.open_connections == 1)
        (connection,) = stage.plane._connections
        many, seen, turns = AT_ONCE * 10, 0, 0
        connection.data_received(request("/denied", xff=BRITAIN) * many)
        while seen < many:
            before, seen = seen, int(metric(stage, "domicile_denials_total"))
            assert seen - before <= AT_ONCE
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 10
        assert [(await client.response()).status for _ in range(many)] == [451] * many
        await client.send(request())
        assert (await client.response()).status == 200


# What the limit learns from


class Turns:
    """A loop and a clock that stand still until they are told: `call_soon` is the end of a turn."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[Callable[[], None]] = []

    def monotonic(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def over(self) -> None:
        """The turn ends."""
        for callback in self.soon:
            callback()
        self.soon.clear()

    def turn(self, entering: int, each: float, admitted: Admission) -> int:
        """So many come in one turn, each taking so long; how many were let in and are over at its end."""
        let_in = 0
        for _ in range(entering):
            let_in += admitted.enter(self.now)
            self.now += each
        self.over()
        for _ in range(let_in):
            admitted.limit.end()
        return let_in


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    turns = Turns()
    monkeypatch.setattr(admission, "time", turns)
    return turns


def test_a_turn_is_told_once_with_all_that_were_let_in(turns: Turns) -> None:
    admitted = Admission(turns, Concurrency())  # type: ignore[arg-type]
    limit = admitted.limit
    for _ in range(20):
        assert turns.turn(10, 0.0001, admitted) == 10
        turns.now += WINDOW / 5
    assert limit.unloaded == pytest.approx(0.002)  # once before it is let in, and once when it is answered
    assert limit.limit == 10_000


def test_a_turn_lets_nobody_in_for_longer_than_the_limits_patience(turns: Turns) -> None:
    admitted = Admission(turns, Concurrency())  # type: ignore[arg-type]
    # The first long one may be a burst, or the machine's doing, and the second what came meanwhile.
    let_in = [turns.turn(3000, 0.001, admitted) for _ in range(5)]
    assert let_in == [round(seconds / 0.001) + 1 for seconds in (BURST, BURST, PATIENCE, PATIENCE / 2, PATIENCE / 4)]
    # By now it takes such turns for what is usual here; even so there is a bound.
    assert turns.turn(3000, 0.001, admitted) <= MOST_PATIENCE / 0.001
    assert turns.turn(5, 0.001, admitted) == 5
    assert turns.turn(3000, 0.001, admitted) == BURST / 0.001 + 1


def test_turns_of_a_storm_are_held_to_the_length_that_the_limit_asks_for(turns: Turns) -> None:
    admitted = Admission(turns, Concurrency())  # type: ignore[arg-type]
    limit = admitted.limit
    while limit.turn > 1.0:
        turns.turn(20, 0.0001, admitted)
        turns.now += WINDOW / 4
    assert admitted._longest == BURST
    while limit.free:
        turns.turn(1000, 0.0002, admitted)
    # Of ones that are too long each lets in for half as long as the last, down to a part.
    let_in = [turns.turn(1000, limit.turn / 100, admitted) for _ in range(6)]
    assert let_in[-1] <= 100 / SHORTEST + 1
    # Of short ones each lets in for a little longer, and never for longer than one may take.
    few = 100 // SHORTEST
    for _ in range(40):
        turns.turn(few, limit.turn / 100, admitted)
        assert not limit.begin(late=True)  # it goes on
    assert admitted._longest == limit.turn
    # Nobody was turned away for a while: it is over, and a burst is let in as before.
    turns.turn(1, 0.0001, admitted)
    turns.now += STORM
    turns.turn(1, 0.0001, admitted)
    assert admitted._longest == BURST


def test_what_is_turned_away_tells_nothing(turns: Turns) -> None:
    admitted = Admission(turns, Concurrency(most=SAMPLES))  # type: ignore[arg-type]
    limit = admitted.limit
    for _ in range(TURNS * 4):
        assert turns.turn(SAMPLES, 0.00001, admitted) == SAMPLES
        turns.now += WINDOW / 4
    seen = limit.unloaded
    assert seen is not None
    for _ in range(SAMPLES):
        assert limit.begin()
    for _ in range(100):
        assert turns.turn(10, 0.002, admitted) == 0
    assert limit.unloaded == seen


class Worker:
    """One loop in virtual time: all that is ready is done in a turn, one after the other, and takes its time.

    delay: of the provider. away: seconds of a request that is turned away. slow: the part of requests whose provider
    takes five seconds.
    """

    COME, GO = 0.00007, 0.00004
    """Seconds of a request that is let in, and of its answer."""

    CAPACITY = 1 / (COME + GO)

    def __init__(self, turns: Turns, delay: float, away: float = 0.00002) -> None:
        self.away = away
        self.admitted = Admission(turns, Concurrency())  # type: ignore[arg-type]
        self.slow = 0.0
        self.shed = 0
        self._turns = turns
        self._delay = delay
        self._chance = random.Random(1)
        self._answers: list[tuple[float, int, Tally, float]] = []
        self._young: deque[Tally] = deque()
        self._number = 0

    def run(self, seconds: float, rate: float) -> list[tuple[float, float]]:
        """So many requests a second come at random; when each that was let in ended, and after how long."""
        turns, ended = self._turns, list[tuple[float, float]]()
        end, coming, before = turns.now + seconds, turns.now, self.admitted.limit.shed
        while turns.now < end:
            ready: list[tuple[float, tuple[Tally, float] | None]] = []
            while coming <= turns.now:
                ready.append((coming, None))
                coming += self._chance.expovariate(rate)
            while self._answers and self._answers[0][0] <= turns.now:
                moment, _, tally, since = heappop(self._answers)
                ready.append((moment, (tally, since)))
            if not ready:
                turns.now = min([coming, *(answer[0] for answer in self._answers[:1])])
                continue
            for moment, answer in sorted(ready, key=itemgetter(0)):
                if answer is None:
                    self._come(moment)
                else:
                    self._go(*answer, ended)
            while self._young and self._young[0].started < turns.now - admission.PARKED:
                self.admitted.park(self._young.popleft())
            turns.over()
        self.shed = self.admitted.limit.shed - before
        return ended

    def _come(self, moment: float) -> None:
        turns = self._turns
        if not self.admitted.enter(turns.now):
            turns.now += self.away
            return
        tally = Tally(0.0, turns.now, b"")
        tally.admitted_by = self.admitted.limit
        self._young.append(tally)
        turns.now += self.COME
        takes = 5.0 if self._chance.random() < self.slow else self._delay * self._chance.uniform(0.8, 1.2)
        self._number += 1
        heappush(self._answers, (turns.now + takes, self._number, tally, moment))

    def _go(self, tally: Tally, since: float, ended: list[tuple[float, float]]) -> None:
        turns = self._turns
        turns.now += self.GO
        self.admitted.limit.end(turns.now - tally.started, parked=tally.parked)
        tally.over = True
        if turns.now - since < 5.0:
            ended.append((turns.now, turns.now - since))


def quantile(ended: list[tuple[float, float]], part: float, after: float = 0.0) -> float:
    found = sorted(seconds for moment, seconds in ended if moment >= after)
    return found[int(part * len(found))]


@pytest.mark.parametrize(
    ("delay", "away"),
    [(delay, away) for delay in (0.01, 0.2) for away in (0.00001, 0.00002, 0.00003)]
    + [(0.001, 0.00001), (0.001, 0.00002)],
)
def test_at_three_times_capacity_the_admitted_wait_twice_as_long_at_most(
    turns: Turns, delay: float, away: float
) -> None:
    worker = Worker(turns, delay, away)
    unloaded = worker.run(3, 0.4 * worker.CAPACITY)
    assert worker.shed == 0
    storm = worker.run(6 if away < 0.00003 else 10, 3 * worker.CAPACITY)  # where that takes most of it, it takes longer
    settled = turns.now - 4
    assert quantile(storm, 0.99, settled) <= 2 * quantile(unloaded, 0.99)
    # Turning away takes its share. Of what is left nearly all is done.
    left = 1 - 3 * worker.CAPACITY * worker.away
    assert sum(moment >= settled for moment, _ in storm) > 0.9 * left * worker.CAPACITY * 4
    assert max(seconds for _, seconds in storm) < delay * 1.2 + 1.0
    worker.run(2, 0.4 * worker.CAPACITY)
    after = worker.run(2, 0.4 * worker.CAPACITY)
    assert worker.shed == 0
    assert quantile(after, 0.99) <= 1.1 * quantile(unloaded, 0.99)


def test_neither_a_slow_provider_nor_a_machine_that_stands_still_makes_anybody_shed(turns: Turns) -> None:
    worker = Worker(turns, 0.01)
    unloaded = worker.run(2, 0.4 * worker.CAPACITY)
    worker.slow = 0.3
    slow = worker.run(5, 0.4 * worker.CAPACITY)
    assert worker.shed == 0
    assert worker.admitted.limit.under_way > 4000
    assert quantile(slow, 0.99) <= 1.1 * quantile(unloaded, 0.99)
    for stall in (0.1, 0.3) * 5:
        turns.now += stall
        worker.run(0.4, 0.4 * worker.CAPACITY)
        assert worker.shed == 0
