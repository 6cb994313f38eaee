"""`domicile serve`: the master's process, from its start to its exit status."""

import asyncio
import contextlib
import os
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import uvloop

from proxy.config import PolicyRefused, load
from proxy.server.binding import BindError
from proxy.server.journal import open_journal
from proxy.server.load import LoadRefused
from proxy.server.master import Master
from proxy.server.succession import ENVIRONMENT, NoPredecessor


def run(path: Path, upgrade: bool = False) -> int:
    """Serve the policy in a file until SIGTERM or SIGINT, or until another program takes over.

    upgrade: take over from the program that runs. Returns the exit status: 0 after a drain, 1 if it cannot start,
    having told why on standard error.
    """
    if upgrade and ENVIRONMENT in os.environ and os.fork():
        # The program that runs started this one, and waits for it. Its successor must not be its child: a supervisor
        # that is told of another main process wants to be its parent, and kills at once what it cannot wait for.
        os._exit(0)
    open_journal()
    _take_descriptors()
    try:
        loaded = load(path, os.environ, time.time())
    except PolicyRefused as refused:
        return _cannot_start(map(str, refused.mistakes))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(Master(path).serve(loaded, upgrade))
        except LoadRefused as refused:
            return _cannot_start(refused.mistakes)
        except (BindError, NoPredecessor) as error:
            return _cannot_start([str(error)])
    return 0


def _cannot_start(mistakes: Iterable[str]) -> int:
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    return 1


def _take_descriptors() -> None:
    """As many descriptors as we may have: the usual soft limit is there for programs that use select."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # a hardened service may not
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
