"""The proxy's access log, read as it grows."""

import asyncio
import json
from pathlib import Path
from typing import Any

_PATIENCE = 3.0
"""Seconds to wait for a record: the proxy writes a batch at most a tenth of a second later."""


class Records:
    """The records of one log file, by request id."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._found: dict[str, dict[str, Any]] = {}

    async def of(self, request_id: str) -> dict[str, Any] | None:
        """The record of a request that was answered; None if there is none in good time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while request_id not in self._found:
            if loop.time() >= until:
                return None
            await asyncio.sleep(0.02)
            self._read_on()
        return self._found[request_id]

    def _read_on(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                record = json.loads(line)
                self._found[record["id"]] = record
