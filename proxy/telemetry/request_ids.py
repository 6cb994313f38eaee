"""Request ids: 128 random bits as hex, drawn from the system in batches."""

import os
from typing import Final

_BATCH: Final = 256
_SIZE: Final = 16


class RequestIds:
    """A new id at each call; a batch costs one system call."""

    def __init__(self) -> None:
        self._hex = b""
        self._at = 0

    def next(self) -> bytes:
        """32 hex digits that nobody can guess from others."""
        at = self._at
        if at >= len(self._hex):
            self._hex = os.urandom(_BATCH * _SIZE).hex().encode("ascii")
            at = 0
        self._at = at + 2 * _SIZE
        return self._hex[at : at + 2 * _SIZE]
