"""Lines of a log as the tests write and read them."""

import json
import os
import time

WITHIN = 10.0


def eventually(condition):
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def numbered(number: int, size: int = 0) -> bytes:
    return json.dumps({"n": number, "fill": "x" * size}).encode() + b"\n"


def numbers(text: bytes) -> list[int]:
    assert text == b"" or text.endswith(b"\n")
    return [json.loads(line)["n"] for line in text.splitlines()]


def read_all(reader: int) -> bytes:
    """All that a descriptor has now."""
    parts = []
    while True:
        try:
            part = os.read(reader, 1 << 20)
        except BlockingIOError:
            return b"".join(parts)
        if not part:
            return b"".join(parts)
        parts.append(part)
