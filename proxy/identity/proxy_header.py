"""The `proxy_header` source: what a trusted proxy says of its client in fields (TLVs) of a PROXY v2 header.

- Evidence has the fields of a header that was believed, and of no other.
- A field that is not there, or is empty, says nothing: without that of the subject, where one is asked for, the source
  is silent, whatever the home's says; without that of the home the subject is known and the home is not.
- A field that is there twice, or is no text, is invalid. So is an actor that the policy does not list.
- Staff have no home of their own (see `claims`).
- Without `subject_from` the home is the connection's, and nobody is verified.
"""

from proxy.identity.answers import Home, Invalid, Kind, Silent
from proxy.identity.claims import LONGEST_SUBJECT, Refused
from proxy.identity.evidence import Evidence
from proxy.policy.facts import SUBJECT, UNKNOWN
from proxy.policy.subject import ProxyHeaderSource as Definition

Tlvs = tuple[tuple[int, bytes], ...]

_SILENT = Silent(why="no-credential")
_NOTHING: frozenset[bytes] = frozenset()


class ProxyHeaderSource:
    """Reads the fields anew for each connection: there is nothing to verify, and so nothing to remember."""

    __slots__ = ("_actor", "_actors", "_home", "_subject", "tlv_types")

    kind: Kind = "proxy_header"

    def __init__(self, source: Definition, actors: frozenset[str]) -> None:
        self._home = source.home_from
        self._subject = source.subject_from
        self._actor = source.actor_from
        self._actors = actors - {SUBJECT, UNKNOWN}
        self.tlv_types = frozenset({self._home, self._subject, self._actor} - {None})

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Home | Silent | Invalid:
        if not evidence.tlvs:
            return _SILENT
        try:
            return self._read(evidence.tlvs)
        except Refused as refused:
            return Invalid("proxy_header", refused.cause)

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        return _NOTHING

    def _read(self, tlvs: Tlvs) -> Home | Silent:
        home, subject, kind = (_text(tlvs, each) for each in (self._home, self._subject, self._actor))
        if self._subject is None:
            return _SILENT if home is None else Home(home, None, UNKNOWN, None)
        if subject is None:
            return _SILENT
        if kind is not None and kind not in self._actors:
            raise Refused("actor")
        if kind is not None:
            return Silent(subject, kind, None, "staff")
        return Silent(subject, SUBJECT, None, "no-home") if home is None else Home(home, subject, SUBJECT, None)


def _text(tlvs: Tlvs, wanted: int | None) -> str | None:
    """The text of the one field of this type. Raises Refused."""
    found = [value for kind, value in tlvs if kind == wanted and value]
    if not found:
        return None
    if len(found) > 1:
        raise Refused("repeated")
    try:
        text = found[0].decode()
    except UnicodeDecodeError:
        raise Refused("malformed") from None
    if len(text) > LONGEST_SUBJECT:
        raise Refused("oversize")
    if not text.isprintable():
        raise Refused("malformed")
    return text
