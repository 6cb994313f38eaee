"""Bytes both ways: exact, ended, reset, bounded; in the kernel, copied, and where pipes run out."""

import asyncio
import hashlib
import random

import pytest

from tests.tcp.staging import Conversation, Peer, Stage, echo, eventually, saying, staged, swallow, wait

WAYS = pytest.mark.parametrize("splices", [True, False], ids=["splicing", "copying"])


@WAYS
async def test_small_things_go_both_ways(splices: bool) -> None:
    async with staged({"own": echo}, splices=splices) as stage:
        client = await stage.client()
        for word in (b"one", b"two", b"x" * 5000):
            await client.send(word)
            assert await client.exactly(len(word)) == word
        client.end()
        assert await client.rest() == b""
        (record,) = await stage.records(1)
        assert (record["reason"], record["to_provider"], record["to_client"]) == (None, 5006, 5006)
        await stage.nothing_left()
