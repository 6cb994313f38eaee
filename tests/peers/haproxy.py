"""HAProxy as a real peer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.peers.process import Peer, program, running


@contextmanager
def haproxy(configuration: str, ports: Sequence[int], folder: Path, *, before: Sequence[str] = ()) -> Iterator[Peer]:
    """Run HAProxy in the foreground on a whole haproxy.cfg, until the block is left.

    ports: those that it listens on. `log stdout format raw` lands in haproxy.out in the folder.
    before: words before the command, such as `taskset -c 0`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "haproxy.cfg"
    path.write_text(configuration.rstrip() + "\n", encoding="utf-8")
    with running("haproxy", [*before, program("haproxy"), "-db", "-f", path], folder, ports) as peer:
        yield peer
