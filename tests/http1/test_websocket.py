"""The Autobahn cases (as kosoku runs them) against an echo server, directly and through the proxy: no case may differ.

Of the groups, all of 1 to 7, 9 and 10: framing, pings, reserved bits, opcodes, fragments, UTF-8, closes, and
messages of up to 16 MiB. Of compression (12 and 13), which is between the two ends, one case for each kind of
payload and of parameters: the other 204 differ in sizes, and take six minutes each way, nearly all of it the echo
server's and the tester's own.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import WSMsgType, web
from kosoku import FailureError, run_fuzzingclient

from tests.http1.recording import entrance, keep_log, one_record, requests_counted
from tests.http1.scenes import eventually, metric, open_at
from tests.http1.staging import Stage, answering, policy_text, staged

GROUPS = {
    "frames": ["1.*", "2.*", "3.*", "4.*"],
    "fragments": ["5.*"],
    "text": ["6.*"],
    "closes": ["7.*", "10.*"],
    "large messages": ["9.*"],
    "compression": [*(f"12.{i}.1" for i in range(1, 6)), *(f"13.{i}.1" for i in range(1, 8))],
}
COUNTS = {"frames": 44, "fragments": 20, "text": 145, "closes": 38, "large messages": 54, "compression": 12}

# What a case comes to: what kosoku thinks of it, who closed how, and what came back.
Outcome = tuple[object, ...]


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    """A port where aiohttp sends every message back, compressed where that is asked for."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def outcomes(port: int, cases: list[str]) -> dict[str, Outcome]:
    try:
        results = await run_fuzzingclient(f"ws://127.0.0.1:{port}/chat", cases, concurrency=8)
    except FailureError as failure:
        # That the echo server fails a case is not the question here; it fails it both ways.
        results = failure.results
    return {
        result.case_id: (
            *(result.behavior.value, result.behavior_close.value, result.local_close_code, result.remote_close_code),
            *(result.remote_close_reason, result.was_clean, result.was_close_handshake_timeout, str(result.received)),
        )
        for result in results
    }


@asynccontextmanager
async def before_echo() -> AsyncIterator[tuple[Stage, int, int]]:
    """A stage whose provider is an echo server, that server's port, and a port into the plane for a mainland client."""
    async with echo_server() as echo, staged({"cn": answering()}) as stage:
        stage.plane.swap(stage.line(policy_text({"cn": echo}), stage.plane.line))
        async with entrance(stage, "1.2.4.9") as connect:
            client = await connect()
            port = client.writer.get_extra_info("peername")[1]
            client.close()
            yield stage, echo, port


# kosoku leaves its own test data's files open.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*kosoku:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("group", GROUPS)
async def test_a_conversation_is_the_same_through_the_proxy(group: str) -> None:
    async with before_echo() as (stage, echo, port):
        log = keep_log(stage)
        direct = await outcomes(echo, GROUPS[group])
        through = await outcomes(port, GROUPS[group])
        assert len(direct) == COUNTS[group]
        assert {case for case, outcome in direct.items() if outcome[0] == "OK"}
        assert through == direct
        await eventually(lambda: open_at(stage, "cn") == 0)
        # One tunnel a case, each with its record.
        await one_record(stage, log, len(log.lines))
        tunnels = [record for record in log.records if record["status"] == 101]
        assert len(tunnels) == COUNTS[group]
        # Either end may drop its connection, in its hurry with a reset.
        assert {record["reason"] for record in tunnels} <= {None, "provider-closed", "client-left"}
        assert requests_counted(stage).keys() <= {("cn", "1xx"), ("cn", "2xx"), ("cn", "4xx")}
        assert metric(stage, "domicile_bytes_total", direction="to_provider", provider="cn") > 0
