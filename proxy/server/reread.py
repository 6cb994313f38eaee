"""Reads and proves a policy in a process of its own, so that the serving one never waits for it.

`python -m proxy.server.reread POLICY` writes what came of it, pickled, to standard output; `reread` runs that.
"""

import asyncio
import contextlib
import os
import pickle
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from proxy.config import Loaded, PolicyRefused, load
from proxy.server.load import LoadRefused

PATIENCE = 300.0
"""Seconds that reading and proving may take. Five thousand rules take some ten."""

_NICENESS = 5
"""What serves goes first where both want the same core."""


async def reread(path: Path) -> Loaded:
    """The policy in a file, as `proxy.config.load` gives it. Raises LoadRefused."""
    # With -P and our own search path, the folder we happen to be in is searched only if we search it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # A session of its own, for a signal to our group is ours.
    command = (sys.executable, "-P", "-m", __name__, str(path))
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, env=environment, start_new_session=True
        )
    except OSError as error:
        raise LoadRefused((f"{path}: cannot be read in a process of its own: {error.strerror}",)) from error
    try:
        async with asyncio.timeout(PATIENCE):
            said, _ = await process.communicate()
    except TimeoutError:
        raise LoadRefused((f"{path}: not read and proved within {PATIENCE:g} seconds",)) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise LoadRefused((f"{path}: reading it ended with status {process.returncode}",))
    # From our own child, through a pipe. A thousand rules take 20 milliseconds, between which the loop gets its turns.
    found: Loaded | tuple[str, ...] = await asyncio.to_thread(pickle.loads, said)
    if isinstance(found, tuple):
        raise LoadRefused(found)
    return found


def _main() -> None:
    with contextlib.suppress(OSError):  # a hardened service may not
        os.nice(_NICENESS)
    # What anything prints goes where errors go; the result alone goes to whoever asked.
    out = os.dup(1)
    os.dup2(2, 1)
    found: Loaded | tuple[str, ...]
    try:
        found = load(Path(sys.argv[1]), os.environ, time.time())
        # Proving compiled it; what was compiled stays here, closures cannot travel.
        vars(found.policy).pop("decider", None)
    except PolicyRefused as refused:
        found = tuple(map(str, refused.mistakes))
    with os.fdopen(out, "wb") as file:
        pickle.dump(found, file, protocol=pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    _main()
