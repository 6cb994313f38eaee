"""What every proxy is given: where to listen, where to forward to, and which core it has."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.certificates import Certificates
from benchmarks.provider import Ports


@dataclass(frozen=True, slots=True)
class Lane:
    """One proxy's place in a run.

    The plain listener forwards to the provider's plain port, the TLS listener to its TLS port, whose certificate
    must verify. folder: for configuration, access log and whatever else it writes.
    before: words before its command, which put it on its core. connections: of clients that it has to be able to hold.
    """

    listen: Ports
    provider: Ports
    certificates: Certificates
    folder: Path
    before: tuple[str, ...]
    connections: int = 4096

    @property
    def listens(self) -> tuple[int, int]:
        return self.listen.plain, self.listen.tls
