"""A reload or a date takes a permit away: what ran on it ends, and nothing else does."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from proxy.identity.answers import Answer, Home, Kind, Pending, Silent
from proxy.identity.evidence import Evidence
from proxy.identity.identify import Sources
from proxy.identity.places import Places
from tests.http1.scenes import (
    PROMISE,
    SWITCHED,
    UPGRADE,
    black_hole,
    eventually,
    metric,
    not_before,
    nothing_left,
    open_at,
    told,
)
from tests.http1.staging import (
    BRITAIN,
    MAINLAND,
    PATIENCE,
    Client,
    Conversation,
    Script,
    Stage,
    answering,
    policy_text,
    request,
    saying,
    staged,
)
from tests.identity.tokens import AUDIENCE, ISSUER, all_keys, token

NO_MAINLAND = "  - {name: stopped, when: {home: cn-mainland}, forbid: any}"
OK = b"HTTP/1.1 200 OK\r\n"


def reload(stage: Stage, **options: str) -> None:
    """Put a policy of the same providers in force."""
    ports = {name: provider.port for name, provider in stage.providers.items()}
    stage.plane.swap(stage.line(policy_text(ports, **options), stage.plane.line))


def withdrawn(stage: Stage, provider: str = "cn") -> float:
    return metric(stage, "domicile_withdrawn_total", provider=provider)


async def echo(conversation: Conversation) -> None:
    await conversation.read_head()
    await conversation.say(SWITCHED)
    while data := await conversation.read_some():
        await conversation.say(data)


async def tunnel(stage: Stage, xff: str = MAINLAND, headers: str = "") -> Client:
    client = await stage.client()
    await client.send(request(xff=xff, headers=UPGRADE + headers))
    assert (await client.head()).status == 101
    return client


async def alive(client: Client) -> None:
    await client.send(b"ping")
    async with asyncio.timeout(PATIENCE):
        assert await client.reader.readexactly(4) == b"ping"


# Tunnels


async def test_a_tunnel_whose_permit_is_withdrawn_closes_and_others_go_on() -> None:
    async with staged({"cn": echo, "own": echo}) as stage:
        ends, stays = await tunnel(stage), await tunnel(stage, BRITAIN)
        await alive(ends)
        reload(stage, rules=NO_MAINLAND)
        async with asyncio.timeout(PROMISE):
            assert await ends.rest() == b""
            await stage.providers["cn"].conversations[0].ended.wait()
        assert (withdrawn(stage), withdrawn(stage, "own")) == (1, 0)
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["provider"]) == (101, "permit-withdrawn", "cn")
        await alive(stays)
        assert open_at(stage, "own") == 1


async def test_a_tunnel_stays_over_reloads_that_leave_its_permit() -> None:
    async with staged({"cn": echo}) as stage:
        client = await tunnel(stage)
        for i in range(5):
            reload(stage, rules=f"  - {{name: more-{i}, when: {{home: eu}}, forbid: any}}")
            await alive(client)
        # Also where the provider's definition changes: it is the same recipient.
        reload(stage, provider=", timeouts: {connect: 9s}")
        await alive(client)
        assert withdrawn(stage) == 0


@pytest.mark.parametrize("change", ["zone: elsewhere", "operator: Another"])
async def test_a_provider_that_becomes_another_recipient_takes_its_tunnels_permit_away(change: str) -> None:
    async with staged({"own": echo, "cn": answering()}) as stage:
        client = await tunnel(stage, BRITAIN)
        ports = {name: provider.port for name, provider in stage.providers.items()}
        text = policy_text(ports)
        if change.startswith("zone"):
            text = text.replace("own: {operator: Example Inc, zone: elsewhere", "own: {operator: Example Inc, zone: eu")
        else:
            text = text.replace("own: {operator: Example Inc", "own: {operator: Another")
        stage.plane.swap(stage.line(text, stage.plane.line))
        async with asyncio.timeout(PROMISE):
            assert await client.rest() == b""
        assert withdrawn(stage, "own") == 1


async def test_a_date_ends_a_tunnel_when_it_has_passed_and_not_before() -> None:
    until = int(time.time()) + 3
    stamp = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    async with staged({"eu": echo, "own": echo, "cn": answering()}) as stage:
        ports = {name: provider.port for name, provider in stage.providers.items()}
        text = policy_text(ports).replace(
            "{name: everyone-else, when: {home: elsewhere}, allow: [elsewhere]}",
            f"{{name: everyone-else, when: {{home: elsewhere}}, allow: [{{zones: [elsewhere], until: {stamp}}}]}}",
        )
        stage.plane.swap(stage.line(text, stage.plane.line))
        client = await tunnel(stage, BRITAIN)
        stage.plane.redecide()
        await alive(client)
        assert time.time() < until, "too slow a machine to say anything"
        await asyncio.sleep(until - time.time() + 0.01)
        stage.plane.redecide()
        async with asyncio.timeout(PROMISE):
            assert await client.rest() == b""
        assert withdrawn(stage, "own") == 1
        assert (await stage.ask(request(xff=BRITAIN))).status == 451


async def test_what_a_clock_that_ran_ahead_permitted_ends_when_it_is_set_right(monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = datetime.fromtimestamp(int(time.time()) + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    async with staged({"own": answering(), "cn": answering()}) as stage:
        ports = {name: provider.port for name, provider in stage.providers.items()}
        text = policy_text(ports).replace(
            "{name: everyone-else, when: {home: elsewhere}, allow: [elsewhere]}",
            f"{{name: everyone-else, when: {{home: elsewhere}}, allow: [elsewhere], from: {stamp}}}",
        )
        stage.plane.swap(stage.line(text, stage.plane.line))
        right = time.time
        with monkeypatch.context() as ahead:
            ahead.setattr(time, "time", lambda: right() + 7200)
            assert (await stage.ask(request(xff=BRITAIN))).status == 200
        assert (await stage.ask(request(xff=BRITAIN))).status == 451


async def test_what_ends_by_a_date_ends_when_the_clock_is_set_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = datetime.fromtimestamp(int(time.time()) + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    async with staged({"own": echo, "cn": echo}) as stage:
        reload(stage, rules=f"  - {{name: last, when: {{home: elsewhere}}, forbid: any, from: {stamp}}}")
        ends, stays = await tunnel(stage, BRITAIN), await tunnel(stage)
        await alive(ends)
        right = time.time
        monkeypatch.setattr(time, "time", lambda: right() + 7200)
        async with asyncio.timeout(PROMISE):
            assert await ends.rest() == b""
        await alive(stays)


# Requests in flight


async def test_a_request_in_flight_may_finish_within_its_moment() -> None:
    gate = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(OK + b"Content-Length: 10\r\n\r\nfirst")
        await gate.wait()
        await conversation.say(b"-last")
        await conversation.wait_end()

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request())
        await client.head()
        reload(stage, rules=NO_MAINLAND, more="timeouts: {withdrawn: 60s}")
        gate.set()
        assert await client.reader.readexactly(10) == b"first-last"
        (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (200, None)
        assert withdrawn(stage) == 0
        # The connection stays, and the new policy decides what comes next on it.
        await client.send(request())
        assert (await client.response()).reason == "forbidden"


@pytest.mark.parametrize("begun", [False, True])
async def test_a_request_in_flight_is_cut_after_its_moment(begun: bool) -> None:
    script = saying(OK + b"Content-Length: 10\r\n\r\nfirst") if begun else saying()
    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request())
        await eventually(lambda: any(stage.providers["cn"].heads))
        if begun:
            await client.head()
        with not_before(0.4):
            reload(stage, rules=NO_MAINLAND, more="timeouts: {withdrawn: 400ms}")
            # A second reload does not lengthen it.
            reload(stage, rules=NO_MAINLAND, more="timeouts: {withdrawn: 60s}")
            if begun:
                assert await client.rest() == b"first"
            else:
                response = await client.response()
                assert (response.status, response.reason) == (503, "permit-withdrawn")
        async with asyncio.timeout(PROMISE):
            await stage.providers["cn"].conversations[0].ended.wait()
        (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (200 if begun else 503, "permit-withdrawn")
        assert withdrawn(stage) == 1
        client.close()
        await nothing_left(stage)


async def test_a_permit_that_comes_back_in_time_lets_a_request_go_on() -> None:
    gate = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await gate.wait()
        await conversation.say(OK + b"Content-Length: 2\r\n\r\nok")

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request())
        await eventually(lambda: any(stage.providers["cn"].heads))
        reload(stage, rules=NO_MAINLAND, more="timeouts: {withdrawn: 300ms}")
        reload(stage)
        # The sweep comes by more than once after the moment that it no longer has.
        await asyncio.sleep(0.9)
        gate.set()
        assert (await client.response()).body == b"ok"
        assert withdrawn(stage) == 0


async def test_a_request_that_still_dials_sends_nothing_any_more() -> None:
    async with black_hole() as hole, staged({"cn": answering(), "own": answering(b"x")}) as stage:
        ports = {"cn": hole.port, "own": stage.providers["own"].port}
        more = "timeouts: {connect: 60s}"
        stage.plane.swap(stage.line(policy_text(ports, more=more), stage.plane.line))
        client = await stage.client()
        await client.send(request(method="PUT", body=b"secret"))
        await eventually(lambda: open_at(stage, "cn") == 1)
        stage.plane.swap(stage.line(policy_text(ports, rules=NO_MAINLAND, more=more), stage.plane.line))
        async with asyncio.timeout(PROMISE):
            response = await client.response()
        assert (response.status, response.reason) == (503, "permit-withdrawn")
        assert open_at(stage, "cn") == 0
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["to_provider"]) == (503, "permit-withdrawn", 0)
        assert withdrawn(stage) == 1
        # It could have been reached: the next that may be is served there, and is the first that says anything.
        hole.open()
        stage.plane.swap(stage.line(policy_text(ports, more=more), stage.plane.line))
        serving = asyncio.ensure_future(hole.serve(b"reached"))
        assert (await stage.ask(request())).body == b"reached"
        await serving


def once_then(gate: asyncio.Event, last: Callable[[Conversation], None]) -> Script:
    """Answers the first request of a connection, takes a second one, and at the gate does the last thing."""

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(OK + b"Content-Length: 2\r\n\r\nok")
        await conversation.read_head()
        await gate.wait()
        last(conversation)

    return script


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_broken_request_is_not_sent_again_on_a_permit_that_was_withdrawn(allowed: bool) -> None:
    gate = asyncio.Event()
    script = once_then(gate, lambda conversation: conversation.writer.close())
    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request())
        assert (await client.response()).body == b"ok"
        await client.send(request())
        await eventually(lambda: stage.providers["cn"].heads[0].count(b"GET ") == 2)
        reload(stage, rules="" if allowed else NO_MAINLAND)
        gate.set()
        response = await client.response()
        # With the permit, it is sent once more and answered as a first request; so this can be seen.
        assert response.status == (200 if allowed else 502)
        assert len(stage.providers["cn"].conversations) == (2 if allowed else 1)


async def test_a_broken_request_is_not_sent_again_to_an_endpoint_that_the_policy_no_longer_has() -> None:
    gate = asyncio.Event()
    script = once_then(gate, lambda conversation: conversation.writer.close())
    async with staged({"cn": script, "own": answering()}) as stage:
        client = await stage.client()
        await client.send(request())
        assert (await client.response()).body == b"ok"
        await client.send(request())
        await eventually(lambda: stage.providers["cn"].heads[0].count(b"GET ") == 2)
        ports = {"cn": stage.providers["own"].port, "own": stage.providers["own"].port}
        stage.plane.swap(stage.line(policy_text(ports), stage.plane.line))
        gate.set()
        assert (await client.response()).status == 502
        assert len(stage.providers["cn"].conversations) == 1


async def test_a_request_that_still_dials_goes_where_the_new_policy_says() -> None:
    async with black_hole() as hole, staged({"cn": answering(b"there")}) as stage:
        more = "timeouts: {connect: 60s}"
        stage.plane.swap(stage.line(policy_text({"cn": hole.port}, more=more), stage.plane.line))
        client = await stage.client()
        await client.send(request(method="PUT", headers="Content-Length: 4") + b"bo")
        await eventually(lambda: open_at(stage, "cn") == 1)
        old = stage.plane.line.fleet.states["cn"]
        reload(stage, more=more)
        await client.send(b"dy")
        assert (await client.response()).body == b"there"
        await eventually(lambda: old.open == 0)
        (record,) = await told(stage)
        assert (record["status"], record["to_provider"]) == (200, 4)
        assert withdrawn(stage) == 0


async def test_a_request_that_dials_while_a_reload_leaves_everything_still_has_its_second_choice() -> None:
    route = "routes: [{prefer: [{provider: one}, {provider: two}]}]\ntimeouts: {connect: 1s}"
    async with black_hole() as hole, staged({"one": answering(), "two": answering(b"two"), "cn": answering()}) as stage:
        ports = {"one": hole.port, "two": stage.providers["two"].port, "cn": stage.providers["cn"].port}
        stage.plane.swap(stage.line(policy_text(ports, more=route), stage.plane.line))
        client = await stage.client()
        await client.send(request(xff=BRITAIN))
        await eventually(lambda: open_at(stage, "one") == 1)
        state = stage.plane.line.fleet.states["one"]
        stage.plane.swap(stage.line(policy_text(ports, more=route, rules=NO_MAINLAND), stage.plane.line))
        assert stage.plane.line.fleet.states["one"] is state
        assert (await client.response()).body == b"two"
        (record,) = await told(stage)
        assert (record["provider"], record["attempts"]) == ("two", 2)


async def test_a_request_whose_first_choice_fails_does_not_go_to_a_second_that_was_forbidden_meanwhile() -> None:
    route = "routes: [{prefer: [{provider: one}, {provider: two}]}]\ntimeouts: {connect: 1s}"
    stop = "  - {name: stopped, when: {home: elsewhere}, forbid: {providers: [two]}}"
    async with black_hole() as hole, staged({"one": answering(), "two": answering(b"two"), "cn": answering()}) as stage:
        ports = {"one": hole.port, "two": stage.providers["two"].port, "cn": stage.providers["cn"].port}
        stage.plane.swap(stage.line(policy_text(ports, more=route), stage.plane.line))
        client = await stage.client()
        await client.send(request(xff=BRITAIN))
        await eventually(lambda: open_at(stage, "one") == 1)
        stage.plane.swap(stage.line(policy_text(ports, more=route, rules=stop), stage.plane.line))
        assert (await client.response()).reason == "provider-connect-timeout"
        assert stage.providers["two"].conversations == []


# Credentials


def with_tokens(stage: Stage, keys: bytes) -> str:
    """The policy, with accounts."""
    (stage.directory / "jwks.json").write_bytes(keys)
    source = f"jwt: {{jwks: jwks.json, issuer: '{ISSUER}', audience: {AUDIENCE}, home_claim: residency}}"
    ports = {name: provider.port for name, provider in stage.providers.items()}
    return policy_text(ports).replace("[{location: {accounts: false}}]", "[{" + source + "}]")


async def test_a_token_that_ran_out_since_does_not_end_what_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged({"cn": echo}) as stage:
        stage.plane.swap(stage.line(with_tokens(stage, all_keys()), stage.plane.line))
        expires = int(time.time()) + 60
        client = await tunnel(
            stage, headers=f"\r\nAuthorization: Bearer {token(exp=expires, iat=expires - 90).decode()}"
        )
        stage.plane.swap(stage.line(with_tokens(stage, all_keys()), stage.plane.line))
        await alive(client)
        monkeypatch.setattr(time, "time", lambda: expires + 3600.0)
        stage.plane.redecide()
        await alive(client)
        assert withdrawn(stage) == 0
        # One whose key the new policy does not have is not believed any more.
        others = json.dumps({"keys": json.loads(all_keys())["keys"][:1]}).encode()
        stage.plane.swap(stage.line(with_tokens(stage, others), stage.plane.line))
        async with asyncio.timeout(PROMISE):
            assert await client.rest() == b""
        assert withdrawn(stage) == 1


# Reloads under load


async def test_pooled_connections_of_a_changed_provider_are_closed_and_of_others_kept() -> None:
    async with staged({"cn": answering(b"x"), "own": answering(b"y")}) as stage:
        assert (await stage.ask(request())).body == b"x"
        assert (await stage.ask(request(xff=BRITAIN))).body == b"y"
        ports = {name: provider.port for name, provider in stage.providers.items()}
        text = policy_text(ports).replace("zone: cn-mainland, ", "zone: cn-mainland, headers: {X-Api-Key: k}, ")
        stage.plane.swap(stage.line(text, stage.plane.line))
        async with asyncio.timeout(PROMISE):
            await stage.providers["cn"].conversations[0].ended.wait()
        assert open_at(stage, "own") == 1
        assert (await stage.ask(request(xff=BRITAIN))).body == b"y"
        assert len(stage.providers["own"].conversations) == 1
        assert (await stage.ask(request())).body == b"x"
        assert b"X-Api-Key: k" in stage.providers["cn"].heads[1]


async def test_a_connection_in_use_of_a_changed_provider_is_not_pooled_afterwards() -> None:
    gate = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        while True:
            await conversation.read_head()
            await gate.wait()
            await conversation.say(OK + b"Content-Length: 2\r\n\r\nok")

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request())
        await eventually(lambda: any(stage.providers["cn"].heads))
        reload(stage, provider=", timeouts: {connect: 9s}")
        gate.set()
        assert (await client.response()).body == b"ok"
        async with asyncio.timeout(PROMISE):
            await stage.providers["cn"].conversations[0].ended.wait()
        await client.send(request())
        assert (await client.response()).body == b"ok"
        assert len(stage.providers["cn"].conversations) == 2


async def test_no_request_fails_because_of_reloads() -> None:
    async with staged({"cn": answering(b"x"), "own": answering(b"y")}) as stage:
        served = 0
        stop = asyncio.Event()

        async def ask(xff: str, body: bytes) -> None:
            nonlocal served
            client = await stage.client()
            while not stop.is_set():
                await client.send(request(xff=xff) + request(xff=xff, method="PUT", body=b"z"))
                # The provider answers heads; a body is what its next head begins with, so it is one of none.
                assert (await client.response()).body == body
                assert (await client.response()).body == body
                served += 2

        async def answer_bodies(conversation: Conversation) -> None:
            body = b"x" if conversation in stage.providers["cn"].conversations else b"y"
            while True:
                head = await conversation.read_head()
                if head.startswith(b"PUT"):
                    await conversation.read(1)
                await conversation.say(OK + b"Content-Length: 1\r\n\r\n" + body)

        for provider in stage.providers.values():
            provider.script = answer_bodies
        asking = [asyncio.ensure_future(ask(xff, body)) for xff, body in [(MAINLAND, b"x"), (BRITAIN, b"y")] * 4]
        for i in range(30):
            before = served
            # Every other one changes the providers' definitions too.
            reload(stage, provider=f", timeouts: {{connect: {3 + i % 2}s}}", rules=NO_MAINLAND.replace("any", "eu"))
            await eventually(lambda before=before: served > before + 20)  # type: ignore[misc]
        stop.set()
        await asyncio.gather(*asking)
        records = await told(stage, served)
        assert {record["status"] for record in records} == {200}
        assert withdrawn(stage) == 0


async def test_the_new_policy_decides_the_next_request_on_an_old_connection() -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        client = await stage.client()
        await client.send(request())
        assert (await client.response()).body == b"x"
        reload(stage, rules=NO_MAINLAND)
        await client.send(request())
        response = await client.response()
        assert (response.status, response.reason) == (451, "forbidden")
        reload(stage)
        await client.send(request())
        assert (await client.response()).body == b"x"
        assert len(stage.providers["cn"].conversations) == 1


# Sources that have to be asked, and turns that have to come


class Slow:
    """A source that knows, until it is held: then it has to ask."""

    kind: Kind = "directory"

    def __init__(self) -> None:
        self.ready: asyncio.Future[None] | None = None

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Answer:
        if self.ready is not None and not self.ready.done():
            return Pending("directory", self.ready)
        return Home("cn-mainland", None, "unknown", None)

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        return frozenset()


def reload_slow(stage: Stage, source: Slow, port: int, rules: str = "") -> None:
    """Put a policy whose only source is this one in force. With rules: once the source has to ask."""
    if rules:
        source.ready = asyncio.get_running_loop().create_future()
    text = policy_text({"cn": port}, rules=rules, more="timeouts: {connect: 60s}")
    line = stage.line(text, stage.plane.line)
    stage.plane.swap(replace(line, sources=Sources([source], Places(line.policy.zones))))


@pytest.mark.parametrize("stays", [True, False])
async def test_a_request_that_dials_is_sent_nowhere_while_a_source_has_to_be_asked_again(stays: bool) -> None:
    async with black_hole() as hole, staged({"cn": answering(b"late")}) as stage:
        source = Slow()
        reload_slow(stage, source, hole.port)
        client = await stage.client()
        await client.send(request(method="PUT", body=b"data"))
        await eventually(lambda: open_at(stage, "cn") == 1)
        serving = asyncio.ensure_future(hole.serve(b"there"))
        reload_slow(
            stage, source, hole.port, "  - {name: more, when: {home: eu}, forbid: any}" if stays else NO_MAINLAND
        )
        hole.open()
        await eventually(lambda: open_at(stage, "cn") == 0)
        assert not serving.done()
        assert source.ready is not None
        source.ready.set_result(None)
        response = await client.response()
        if stays:
            assert response.body == b"there"
        else:
            assert (response.status, response.reason) == (503, "permit-withdrawn")
            assert withdrawn(stage) == 1
            assert not serving.done()
        serving.cancel()
        await told(stage)


async def test_a_request_is_not_repeated_while_a_source_has_to_be_asked_again() -> None:
    gate = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(OK + b"Content-Length: 0\r\n\r\n")
        await conversation.read_head()
        await gate.wait()

    async with staged({"cn": script}) as stage:
        source, provider = Slow(), stage.providers["cn"]
        reload_slow(stage, source, provider.port)
        await stage.ask(request())
        client = await stage.client()
        await client.send(request())
        await eventually(lambda: provider.heads[0].count(b"GET") == 2)
        reload_slow(stage, source, provider.port, NO_MAINLAND)
        gate.set()
        await eventually(lambda: open_at(stage, "cn") == 0)
        await asyncio.sleep(0.1)
        assert source.ready is not None
        source.ready.set_result(None)
        assert (await client.response()).reason == "permit-withdrawn"
        assert len(provider.conversations) == 1


@pytest.mark.parametrize("reached", [True, False])
async def test_a_request_whose_dial_ends_before_its_turn_is_decided_first(
    reached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many living requests a reload decides a share at a time."""
    route = (
        f"routes: [{{prefer: [{{provider: one}}, {{provider: two}}]}}]\ntimeouts: {{connect: {60 if reached else 1}s}}"
    )
    async with black_hole() as hole, staged({"two": answering(), "cn": answering()}) as stage:
        ports = {"one": hole.port, "two": stage.providers["two"].port, "cn": stage.providers["cn"].port}
        stage.plane.swap(stage.line(policy_text(ports, more=route), stage.plane.line))
        client = await stage.client()
        await client.send(request(xff=BRITAIN))
        await eventually(lambda: open_at(stage, "one") == 1)
        with monkeypatch.context() as patched:
            patched.setattr(stage.plane, "_redecide_some", lambda clients: None)
            stop = "  - {name: stopped, when: {home: elsewhere}, forbid: any}"
            stage.plane.swap(stage.line(policy_text(ports, more=route, rules=stop), stage.plane.line))
        serving = asyncio.ensure_future(hole.serve(b"there"))
        if reached:
            hole.open()
        assert (await client.response()).reason == "permit-withdrawn"
        assert not serving.done()
        serving.cancel()
        assert stage.providers["two"].conversations == []
        await told(stage)
