"""What waits its turn on a client's connection: the bytes behind the request in hand. Sans-I/O.

A head may come byte by byte: only what is new of it is looked through.
"""

import re
from typing import Final

from proxy.policy.settings import Limits
from proxy.wire.fields import TOKEN
from proxy.wire.refusal import Refusal

# What a request can begin with: a method, or (so far) the empty line before one.
_BEGINS: Final = re.compile(TOKEN + rb"|\r\Z")

# A line feed without its carriage return, or a NUL.
_BARE: Final = re.compile(rb"(?<!\r)\n|\0")


class Inbox:
    """waiting: how many bytes wait."""

    __slots__ = ("_at", "_bytes", "_searched", "waiting")

    def __init__(self) -> None:
        # What waits is _bytes[_at:], of which so many were looked through for the end of a head.
        self._bytes = b""
        self._at = 0
        self._searched = 0
        self.waiting = 0

    def put(self, data: bytes) -> None:
        """More has come."""
        self._bytes = self._bytes[self._at :] + data if self.waiting else data
        self._at = 0
        self.waiting = len(self._bytes)

    def take(self) -> bytes:
        """All that waits: it belongs to the request in hand."""
        data = self._bytes[self._at :]
        self.clear()
        return data

    def clear(self) -> None:
        """Nothing waits any more."""
        self._bytes = b""
        self._at = self._searched = self.waiting = 0

    def full(self, limits: Limits) -> bool:
        """Whether enough waits: the bytes of a head, or so many requests."""
        if not self.waiting:
            return False
        return self.waiting > limits.head or self._bytes.count(b"\r\n\r\n", self._at) >= limits.pipelined

    def next_head(self, limits: Limits) -> bytes | Refusal | None:
        """Take the next head. None: it has not come whole; a Refusal: what waits will never be one that is accepted."""
        data, at = self._bytes, self._at
        if data.startswith(b"\r\n", at):
            at += 2  # RFC 9112 section 2.2: an empty line before a request
        end = data.find(b"\r\n\r\n", at + max(0, self._searched - 3)) + 4
        if end == 3:
            return self._begun(at, limits)
        if end - at > limits.head:
            return _too_large(data[at:end], limits.target)
        self._at = end
        self._searched = 0
        self.waiting = len(data) - end
        return data if end - at == len(data) else data[at:end]

    def _begun(self, at: int, limits: Limits) -> Refusal | None:
        """A head has begun, or not even that."""
        data, fresh = self._bytes, at + max(0, self._searched - 1)
        self._at = at
        self._searched = self.waiting = size = len(data) - at
        if size > limits.head:
            return _too_large(data[at:], limits.target)
        if size and (not _BEGINS.match(data, at) or _BARE.search(data, fresh)):
            # It can become no head that is accepted; waiting for the rest would only cost time.
            return Refusal(400, "head-malformed")
        return None


def _too_large(data: bytes, target_limit: int) -> Refusal:
    """What was too large: the target, or the head as a whole."""
    line_end = data.find(b"\r\n")
    line = data if line_end < 0 else data[:line_end]
    return Refusal(414, "target-too-long") if len(line) > target_limit else Refusal(431, "head-too-large")
