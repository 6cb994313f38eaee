"""Run by test_unprivileged.py: many streams whose receivers do not read, then do, without privileges.

Prints one JSON object: how large the pipes in use were, and whether every byte arrived. Privileges are given up once
everything is loaded, for the interpreter may be where nobody else can read, and taken back to clean up.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from tests.tcp.staging import Conversation, Stage, eventually, staged

PIECE = bytes(range(256)) * 4096


async def pour(conversation: Conversation) -> None:
    for _ in range(3):
        await conversation.send(PIECE)
    conversation.end()
    await conversation.rest()


def sizes(stage: Stage) -> Counter[int]:
    """The pipes that are in use, by what they hold; 0 for a stream that is copied."""
    found: Counter[int] = Counter()
    for passage in stage.plane._passages:
        carried = passage._carried
        if carried is not None and carried.to_client.held:
            pipe = carried.to_client._pipe
            found[0 if pipe is None else pipe.size] += 1
    return found


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom nobody else is, where this is root; as who this is otherwise."""
    if os.geteuid() != 0:
        yield
        return
    # The system counts pipes by user: another run of this test must not be counted along.
    user = 100_000 + os.getpid()
    os.setresuid(user, user, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


async def main(streams: int) -> None:
    async with staged({"own": pour}) as stage:
        first = await stage.client()
        await first.rest()
        first.end()
        await stage.nothing_left()
        stage.plane.vessels.close()  # what was made with privileges counts as theirs
        with unprivileged():
            await serve(stage, streams)


async def serve(stage: Stage, streams: int) -> None:
    clients = [await stage.client(receive=4096) for _ in range(streams)]
    await eventually(lambda: sum(sizes(stage).values()) == streams)
    used = sizes(stage)
    whole = True
    for client in clients:
        received = await client.rest()
        whole = whole and received == PIECE * 3
        client.end()
    await stage.nothing_left()
    print(json.dumps({"used": used, "whole": whole}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
