"""HTTP requests: every proxy forwards the same to one nginx, plaintext and TLS, small and large."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.certificates import make_certificates
from benchmarks.cores import Cores
from benchmarks.figures import Figures, Seen
from benchmarks.load import load
from benchmarks.provider import Ports, provider
from benchmarks.proxies import PROXIES
from benchmarks.proxies.lane import Lane
from benchmarks.rounds import Rounds, Runner, measure
from benchmarks.work import HOST, Work
from tests.peers.process import Peer, free_port

Start = Callable[[Lane], AbstractContextManager[Peer]]


def measure_requests(
    names: Sequence[str], works: Iterable[Work], rounds: Rounds, cores: Cores, folder: Path
) -> Figures:
    """Processor time a request of the named proxies."""
    starts = {name: PROXIES[name] for name in names}
    with running(starts, cores.proxy, cores, folder) as runners:
        return measure(runners, works, rounds, folder)


@contextmanager
def running(
    starts: Mapping[str, Start], before: tuple[str, ...], cores: Cores, folder: Path
) -> Iterator[dict[str, Runner[Work]]]:
    """The provider, and before it one proxy for each name. before: words that put a proxy on its cores."""
    certificates = make_certificates(folder / "certificates", HOST)
    with ExitStack() as stack:
        origin = stack.enter_context(provider(folder / "provider", certificates, cores.load))
        runners = {}
        for name, start in starts.items():
            ports = Ports(free_port(), free_port())
            lane = Lane(ports, origin, certificates, folder / name.replace(" ", "-"), before)
            peer = stack.enter_context(start(lane))
            runners[name] = Runner(peer, partial(_load, ports, cores))
        yield runners


def _load(ports: Ports, cores: Cores, work: Work, seconds: int) -> Seen:
    return load(work, ports.tls if work.tls else ports.plain, seconds, cores.load)
