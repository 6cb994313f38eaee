"""A request whose provider fails: what the client gets, how often it was tried, and what each provider heard."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from proxy.http1.problems import Problem
from proxy.http1.upload import SLICE, SMALL_SLICE, RequestBody, Upload
from proxy.wire.body import chunk
from tests.http1.border import Border, border, now
from tests.http1.recording import Recorder
from tests.http1.scenes import metric, reset_by_provider
from tests.http1.staging import BRITAIN, NEVER_SICK, PATIENCE, Conversation, answering, closing, request, saying

AMPLE = "retries: {share: 100%, least: 1000}\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
REPLAY = 65536

# What the provider in hand does once it has the request: bytes that it says, and whether it ends with a reset.
MOMENTS = {
    "closes": (b"", False),
    "resets": (b"", True),
    "in the head": (b"HTTP/1.1 200 OK\r\nContent-", False),
    "garbage": (b"SSH-2.0-OpenSSH\r\n\r\n", False),
    "a 101 that nobody asked for": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        False,
    ),
    "after a hint": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", False),
    "in the body": (HEAD + b"12345", False),
    "a 503 of its own": (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", False),
}
UNHEARD = ("closes", "resets", "in the head", "garbage", "a 101 that nobody asked for")

REQUESTS: list[tuple[str, bytes | None]] = [
    ("GET", None),
    ("HEAD", None),
    ("DELETE", None),
    ("PUT", b"small"),
    ("PUT", b"x" * REPLAY),
    ("PUT", b"x" * (REPLAY + 1)),
    ("POST", None),
    ("POST", b"small"),
    ("PATCH", b"small"),
]
SAFE_TO_REPEAT = ("GET", "HEAD", "DELETE", "PUT")


@dataclass
class Failing:
    """A provider's script: hears one whole request, then does as it is told."""

    says: bytes = b""
    resets: bool = False
    heard: list[bytes] = field(default_factory=list)

    async def __call__(self, conversation: Conversation) -> None:
        head = await conversation.read_head()
        length = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b":0")
        self.heard.append(head + await conversation.read(int(length.split(b":")[1])))
        if self.says:
            await conversation.say(self.says)
        if self.resets:
            reset_by_provider(conversation)


@dataclass
class Table:
    scene: Border
    first: Failing
    second: Recorder


@pytest_asyncio.fixture(
    loop_scope="module", scope="module", params=["", ", limits: {connections: 1}"], ids=["no cap", "cap"]
)
async def table(request: pytest.FixtureRequest) -> AsyncIterator[Table]:
    first, second = Failing(), Recorder()
    async with border({"first": first, "second": second}, more=AMPLE, provider=NEVER_SICK + request.param) as scene:
        yield Table(scene, first, second)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("method", "body"), REQUESTS, ids=[f"{m}-{len(b or b'')}" for m, b in REQUESTS])
async def test_what_becomes_of_a_request_whose_provider_fails(
    table: Table, moment: str, method: str, body: bytes | None
) -> None:
    scene, first, second = table.scene, table.first, table.second
    first.says, first.resets = MOMENTS[moment]
    first.heard.clear()
    second.whole.clear()
    scene.log.lines.clear()
    scene.log.records.clear()
    client = await scene.stage.client()
    await client.send(request("/once", method=method, xff=BRITAIN, body=body))
    repeated = moment in UNHEARD and method in SAFE_TO_REPEAT and len(body or b"") <= REPLAY

    if moment == "in the body" and method != "HEAD":
        assert (await client.rest()).endswith(b"\r\n\r\n12345")
        status = 200
    else:
        response = await client.response(method)
        if response.status == 103:
            response = await client.response(method)
        status = response.status
    expected = 200 if repeated or moment == "in the body" else 503 if moment == "a 503 of its own" else 502
    assert status == expected

    (record,) = await scene.log.wait(1)
    assert (record["status"], record["attempts"]) == (expected, 2 if repeated else 1)
    assert record["provider"] == ("second" if repeated else "first")
    assert len(first.heard) == 1
    assert first.heard[0].endswith(body or b"\r\n\r\n")
    assert second.whole == ([(method.encode(), b"/once", body or b"")] if repeated else [])
    assert scene.idle()


TWO = {"first": closing(), "second": closing(), "third": answering(b"third")}


@pytest.mark.parametrize(("attempts", "status", "tries"), [(1, 502, 1), (2, 502, 2), (3, 200, 3)])
async def test_tries_are_bounded(attempts: int, status: int, tries: int) -> None:
    async with border(TWO, more=f"retries: {{attempts: {attempts}}}\n") as scene:
        assert (await scene.ask()).status == status
        (record,) = await scene.log.wait(1)
        assert (record["status"], record["attempts"]) == (status, tries)
        assert [scene.heard(name) for name in TWO] == [1] * tries + [0] * (3 - tries)
        refused = metric(scene.stage, "domicile_retries_refused_total", reason="attempts")
        assert refused == (0 if status == 200 else 1)


async def test_the_budget_is_a_share_of_traffic_and_what_it_refuses_is_the_failures_answer() -> None:
    more = "retries: {share: 0%, least: 0.2}\n"
    async with border({"first": closing(), "second": answering()}, more=more, provider=NEVER_SICK) as scene:
        statuses = [(await scene.ask()).status for _ in range(5)]
        assert statuses == [200, 200, 502, 502, 502]
        assert metric(scene.stage, "domicile_retries_refused_total", reason="budget") == 3
        assert (scene.heard("first"), scene.heard("second")) == (5, 1)
        assert {(r["status"], r["reason"], r["attempts"]) for r in await scene.log.wait(5)} == {
            (200, None, 2),
            (502, "provider-closed", 1),
        }


async def test_a_kept_connection_that_ended_is_made_anew_once_whatever_the_budget() -> None:
    met = 0

    async def restarts(conversation: Conversation) -> None:
        nonlocal met
        met += 1
        if met > 1:
            await answering(b"anew")(conversation)
        await conversation.read_head()
        await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await conversation.read_head()

    more = "retries: {share: 0%, least: 0.01}\n"
    async with border({"first": restarts, "second": answering(b"second")}, more=more) as scene:
        client = await scene.stage.client()
        for body in (b"ok", b"anew"):
            await client.send(request(xff=BRITAIN))
            assert (await client.response()).body == body
        # It was a connection that failed, and not its endpoint.
        counts = scene.place("first").health.window.counts(now())
        assert {kind: count for kind, count in counts.items() if count} == {"success": 2}
        assert scene.heard("second") == 0
        assert (await scene.log.wait(2))[1]["attempts"] == 2


async def poison_or_answer(conversation: Conversation) -> None:
    """A provider that resets who sends it a poison, and answers all others."""
    while True:
        head = await conversation.read_head()
        if head.startswith(b"GET /poison"):
            reset_by_provider(conversation)
            return
        await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def test_a_poison_that_is_tried_everywhere_opens_the_breaker_of_whom_it_was_sent_to_first() -> None:
    in_a_row = ", health: {kind: none, passive: {share: none, consecutive: 3}, breaker: {open: 60s}}"
    names = ("first", "second", "third")
    async with border(dict.fromkeys(names, poison_or_answer), more=AMPLE, provider=in_a_row) as scene:

        def words() -> list[str]:
            return [scene.place(name).health.word(now()) for name in names]

        for _ in range(3):
            assert (await scene.ask("/poison")).status == 502
        assert words() == ["open", "closed", "closed"]
        for name in names[1:]:
            assert scene.place(name).health.window.counts(now())["truncation"] == 3
        assert (await scene.ask("/else")).status == 200
        for _ in range(3):
            assert (await scene.ask("/poison")).status == 502
        assert words() == ["open", "open", "closed"]
        assert (await scene.ask("/else")).status == 200
        assert (await scene.log.wait(8))[-1]["provider"] == "third"
        assert scene.idle()


async def test_why_a_request_is_not_repeated_is_counted() -> None:
    async with border({"first": closing(), "second": answering()}, provider=NEVER_SICK) as scene:
        assert (await scene.ask(method="POST", body=b"x")).status == 502
        assert (await scene.ask(method="PUT", body=b"x" * (REPLAY + 1))).status == 502
        for reason in ("sent", "body"):
            assert metric(scene.stage, "domicile_retries_refused_total", reason=reason) == 1
        assert scene.heard("second") == 0


async def test_a_sole_provider_that_fails_is_not_asked_again_and_nobody_else_is() -> None:
    async with border({"first": closing()}) as scene:
        response = await scene.ask()
        assert (response.status, response.reason) == (502, "provider-closed")
        assert scene.heard("first") == 1
        assert metric(scene.stage, "domicile_retries_refused_total", reason="not-permitted") == 1


@pytest.mark.parametrize(("second_has", "status"), [("300ms", 504), ("20s", 200)])
async def test_a_repeat_has_no_more_time_than_one_provider_may_take(second_has: str, status: int) -> None:
    async with border({"first": saying(), "second": answering()}) as scene:
        text = scene.text(provider=", timeouts: {first_byte: 300ms}")
        head, second, rest = text.partition("  second:")
        scene.reload(head + second + rest.replace("first_byte: 300ms", f"first_byte: {second_has}", 1))
        assert (await scene.ask()).status == status
        assert scene.heard("second") == (1 if status == 200 else 0)
        refused = metric(scene.stage, "domicile_retries_refused_total", reason="time")
        assert refused == (0 if status == 200 else 1)
        # Both times the first was too slow, and its load knows.
        assert metric(scene.stage, "domicile_attempts_total", provider="first", result="timeout") == 1
        assert scene.place("first").health.window.counts(now())["timeout"] == 1
        assert scene.idle()


async def test_a_body_in_parts_is_sent_again_from_its_first_byte_and_goes_on() -> None:
    met = asyncio.Event()

    async def first(conversation: Conversation) -> None:
        await conversation.read_head()
        while b"part" not in conversation.received:
            await conversation.read_some()
        met.set()

    second = Recorder()
    async with border({"first": first, "second": second}) as scene:
        client = await scene.stage.client()
        await client.send(request("/up", method="PUT", xff=BRITAIN, headers="Transfer-Encoding: chunked"))
        await client.send(b"4\r\npart\r\n")
        async with asyncio.timeout(PATIENCE):
            await met.wait()
            while not scene.heard("second"):
                await asyncio.sleep(0)
        await client.send(b"5\r\n more\r\n0\r\n\r\n")
        assert (await client.response()).status == 200
        assert second.whole == [(b"PUT", b"/up", b"part more")]
        (record,) = await scene.log.wait(1)
        assert (record["attempts"], record["to_provider"]) == (2, 9)


async def test_after_a_reload_a_repeat_goes_by_the_decision_in_force() -> None:
    met, goes = asyncio.Event(), asyncio.Event()

    async def first(conversation: Conversation) -> None:
        await conversation.read_head()
        met.set()
        await goes.wait()

    async with border({"first": first, "second": answering()}) as scene:
        client = await scene.stage.client()
        await client.send(request(xff=BRITAIN))
        async with asyncio.timeout(PATIENCE):
            await met.wait()
        scene.reload(scene.text(rules="  - {name: not-there, forbid: {providers: [second]}}"))
        goes.set()
        assert (await client.response()).status == 502
        assert scene.heard("second") == 0


class Told:
    """Stands for an exchange, and for the client of its upload."""

    def __init__(self) -> None:
        self.problem: Problem | None = None
        self.sent = self.hold = self.keep = lambda _: None
        self.reading = self

    def fail(self, problem: Problem) -> None:
        self.problem = problem

    def feed_exchange(self, take: object) -> None:
        pass

    def kept(self) -> bytes:
        return b""

    def first_of(self, data: bytes, size: int) -> bytes:
        return data


class Taken:
    """Stands for a provider's connection: what it was sent of the body."""

    def __init__(self) -> None:
        self.transport = self
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += bytes(data)


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=12),
    fails_after=st.integers(0, 12),
    connects_after=st.integers(0, 12),
    most=st.integers(1, 300),
    chunked=st.booleans(),
)
def test_a_second_provider_is_sent_what_the_first_was_or_nothing(
    pieces: list[bytes], fails_after: int, connects_after: int, most: int, chunked: bool
) -> None:
    body = b"".join(pieces)
    wire = [chunk(piece) for piece in pieces] + [b"0\r\n\r\n"] if chunked else pieces
    told, first, second = Told(), Taken(), Taken()
    upload = Upload(told, told, RequestBody(None if chunked else len(body), None), most)  # type: ignore[arg-type]
    upload.begin()
    taker = None
    for count, piece in enumerate([*wire, b""]):
        if count == min(connects_after, len(wire)):
            taker = first
            taker.data = upload.connect(first, b"")  # type: ignore[arg-type]
        if taker is first and count >= min(fails_after, len(wire)):
            if upload.kept is None:
                assert len(first.data) > most
                return
            assert upload.kept == first.data
            upload.rewind()
            taker = second
            taker.data = upload.connect(second, b"")  # type: ignore[arg-type]
        if piece:
            upload.from_client(piece)
            assert upload.kept is None or len(upload.kept) <= most
    assert told.problem is None
    assert upload.body.done
    read = RequestBody(None if chunked else len(body), None)
    assert read.feed(second.data).endswith(b"0\r\n\r\n" if chunked else body[-1:])
    assert read.done
    assert read.received == len(body)
    assert not read.rest
    assert chunked or second.data == body


class Sliced(Told):
    """Notes how much of what came is looked at in each turn."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.left = b""

    def first_of(self, data: bytes, size: int) -> bytes:
        self.sizes.append(size)
        self.left = data[size:]
        return data[:size]


@pytest.mark.parametrize(("payload", "later"), [(b"x", SMALL_SLICE), (b"x" * 1000, SLICE)])
def test_the_smaller_the_chunks_the_less_is_looked_through_in_one_turn(payload: bytes, later: int) -> None:
    told = Sliced()
    upload = Upload(told, told, RequestBody(None, None), 0)  # type: ignore[arg-type]
    upload.begin()
    told.left = chunk(payload) * (300_000 // len(chunk(payload)))
    while told.left:
        came, told.left = told.left, b""
        upload.from_client(came)
    assert told.sizes[0] == SMALL_SLICE
    assert set(told.sizes[1:]) == {later}
