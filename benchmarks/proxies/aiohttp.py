"""The plain aiohttp proxy as a process of its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.proxies.lane import Lane
from tests.peers.process import Peer, running

_ROOT = Path(__file__).parents[2]


@contextmanager
def aiohttp_proxy(lane: Lane) -> Iterator[Peer]:
    """Run it until the block is left."""
    lane.folder.mkdir(parents=True, exist_ok=True)
    ports = (lane.listen.plain, lane.listen.tls, lane.provider.plain, lane.provider.tls)
    files = (lane.certificates.authority, lane.certificates.both, lane.folder / "access.log")
    command = [*lane.before, sys.executable, "-m", "benchmarks.proxies.aiohttp_program"]
    command += [str(word) for word in (*ports, *files)]
    with running("aiohttp", command, lane.folder, lane.listens, environ={"PYTHONPATH": str(_ROOT)}) as peer:
        yield peer
