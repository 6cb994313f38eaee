"""Frames and descriptors over a socket pair."""

import asyncio
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.server.channel import LARGEST, Channel
from tests.server.staged import until


class End:
    def __init__(self, sock: socket.socket) -> None:
        self.heard: list[tuple[bytes, list[int]]] = []
        self.ended = 0
        self.channel = Channel(asyncio.get_running_loop(), sock, self._heard, self._end)

    def _heard(self, frame: bytes, descriptors: list[int]) -> None:
        self.heard.append((frame, descriptors))

    def _end(self) -> None:
        self.ended += 1


def pair() -> tuple[End, End]:
    one, other = socket.socketpair()
    return End(one), End(other)


def close(*ends: End) -> None:
    for end in ends:
        end.channel.close()
        for _, descriptors in end.heard:
            for descriptor in descriptors:
                os.close(descriptor)


async def test_frames_arrive_whole_and_in_order_however_large() -> None:
    one, other = pair()
    frames = [b"", b"a", b"b" * 3_000_000, b"c" * 70_000, b"d"]
    for frame in frames:
        one.channel.send(frame)
    assert one.channel.waiting
    await until(lambda: len(other.heard) == len(frames))
    assert [frame for frame, _ in other.heard] == frames
    assert not one.channel.waiting
    close(one, other)


async def test_descriptors_go_with_their_frame() -> None:
    one, other = pair()
    before = len(os.listdir("/proc/self/fd"))
    read, write = os.pipe()
    one.channel.send(b"x" * 1_000_000)
    one.channel.send(b"none")
    one.channel.send(b"both", [read, write])
    one.channel.send(b"again", [write])
    os.close(read)
    os.close(write)  # though the frame has not left yet
    await until(lambda: len(other.heard) == 4)
    assert [len(descriptors) for _, descriptors in other.heard] == [0, 0, 2, 1]
    (taken_read, taken_write), (again,) = other.heard[2][1], other.heard[3][1]
    assert not os.get_inheritable(taken_read)
    os.write(taken_write, b"1")
    os.write(again, b"2")
    assert os.read(taken_read, 2) == b"12"
    for _, descriptors in other.heard:
        while descriptors:
            os.close(descriptors.pop())
    assert len(os.listdir("/proc/self/fd")) == before
    close(one, other)


async def test_two_hundred_descriptors_in_one_frame() -> None:
    one, other = pair()
    zero = os.open("/dev/zero", os.O_RDONLY)
    one.channel.send(b"many", [zero] * 200)
    os.close(zero)
    await until(lambda: len(other.heard) == 1)
    assert len(other.heard[0][1]) == 200
    close(one, other)


async def test_the_other_end_goes() -> None:
    one, other = pair()
    other.channel.send(b"last words")
    other.channel.close()
    await until(lambda: one.ended == 1)
    assert one.heard == [(b"last words", [])]
    one.channel.send(b"to nobody")
    one.channel.close()
    assert one.ended == 1
    assert other.ended == 0


@pytest.mark.parametrize(
    "said", [struct.pack("!IH", LARGEST + 1, 0), struct.pack("!IH", 1, 1) + b"x"], ids=["too large", "no descriptor"]
)
async def test_broken_framing_ends_it(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    end = End(ours)
    theirs.send(said)
    await until(lambda: end.ended == 1)
    assert end.heard == []
    theirs.close()


async def test_nothing_is_heard_after_close() -> None:
    one, other = pair()

    def closing(frame: bytes, descriptors: list[int]) -> None:
        one.heard.append((frame, descriptors))
        one.channel.close()

    one.channel._heard = closing
    other.channel.send(b"first")
    other.channel.send(b"second")
    await until(lambda: other.ended == 1)
    assert [frame for frame, _ in one.heard] == [b"first"]


@given(st.lists(st.binary(max_size=30), max_size=5), st.data())
def test_frames_are_the_same_however_the_bytes_are_split(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(struct.pack("!IH", len(frame), 0) + frame for frame in frames)

    pieces = []
    position = 0
    while position < len(stream):
        pieces.append(stream[position : position + data.draw(st.integers(1, len(stream) - position))])
        position += len(pieces[-1])

    async def feed() -> list[bytes]:
        ours, theirs = socket.socketpair()
        end = End(ours)
        for piece in pieces:
            theirs.send(piece)
            await asyncio.sleep(0)
        theirs.close()
        await until(lambda: end.ended == 1)
        return [frame for frame, _ in end.heard]

    assert asyncio.run(feed()) == frames
