"""What a listener demands of its clients by name: which certificates they have to show before they are heard.

A client is held to the demand of the name that it greets with. So that nobody is heard under a name whose demand
another name's handshake did not meet, each request's Host is held against what its connection met (RFC 9110
section 15.5.20). Rules:
- Where the policy demands something else for the Host than the connection met, the request is misdirected. It may
  be less: a certificate that one name's authorities verified is nothing under another's.
- Where only files of the same demand changed since the handshake (another authority, a new revocation list), the
  connection serves on until its next answer, unless a list of now names its certificate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from proxy.wire.server_names import ServerNames

Fit = Literal["met", "stale", "unmet"]
"""How a connection stands to a demand: met as of now, met as of files that have changed since, or not met."""


def _none_revoked(certificate: bytes) -> bool:
    return False


def _holds(certificate: bytes | None, now: float) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Demand:
    """What one certificate's clients have to show.

    mode, authorities, lists: as the policy says. contents: a digest of those files. revoked: whether the lists
    name this certificate (DER). resumes: whether a session that was made with it may still be resumed at a time
    (seconds since the epoch).
    """

    mode: Literal["none", "optional", "required"] = "none"
    authorities: Path | None = None
    lists: tuple[Path, ...] = ()
    contents: str = ""
    revoked: Callable[[bytes], bool] = field(default=_none_revoked, compare=False, repr=False)
    resumes: Callable[[bytes | None, float], bool] = field(default=_holds, compare=False, repr=False)

    @property
    def asks(self) -> bool:
        """Whether clients are asked for a certificate at all."""
        return self.mode != "none"

    def met_by(self, met: "Demand", certificate: bytes | None) -> Fit:
        """How a connection that met `met`, with this certificate, stands to this demand."""
        if met == self:
            return "met"
        if (met.mode, met.authorities, met.lists) != (self.mode, self.authorities, self.lists):
            return "unmet"
        return "unmet" if certificate is not None and self.revoked(certificate) else "stale"


NOTHING = Demand()
"""No certificate is asked for."""


class Demands:
    """The demands of one listener's certificates, in the policy's order."""

    __slots__ = ("_demands", "_names")

    def __init__(self, names: ServerNames, demands: Sequence[Demand]) -> None:
        self._names = names
        self._demands = tuple(demands)

    def of(self, name: str | None) -> Demand:
        """The demand for a server name or a Host; None: for who named none."""
        return self._demands[self._names.choose(name)]
