"""Who the subject is and where home is: the policy's sources asked in order, the first that knows wins.

- Silence passes on; a home, invalid and unavailable end the search.
- Whom a silent source verified stays known to the sources after it, and to the decision.
- A home is a zone's name, or an ISO 3166-1 code in any case; anything else is an invalid answer.
- Whatever happens here takes no time: a source that has to wait answers Pending, the plane waits, and asks
  again; by then the source has the answer in its table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from proxy.identity.answers import Answer, Home, Invalid, Kind, Pending, Silent, Unavailable
from proxy.identity.country import Countries
from proxy.identity.evidence import Evidence
from proxy.identity.jwt import open_jwt
from proxy.identity.location import LocationSource
from proxy.identity.places import Places
from proxy.policy.facts import NO_SOURCE, UNKNOWN
from proxy.policy.settings import Jwt, Subject, Zone


@dataclass(frozen=True, slots=True)
class Identity:
    """What the sources found.

    home: a zone's name, the upper-case ISO code of a country that no zone holds, or `unknown`.
    source: the kind of source that gave the home, or `none`. subject: who was verified, None for nobody.
    actor: `subject`, a kind of staff that the policy lists, or `unknown` when nobody was verified.
    drop: names of header fields that must not be forwarded. until: seconds since the epoch until which the
    same evidence gives the same identity, None for as long as the policy is in force.
    """

    home: str = UNKNOWN
    source: str = NO_SOURCE
    subject: str | None = field(default=None, repr=False)
    actor: str = UNKNOWN
    drop: frozenset[bytes] = frozenset()
    until: float | None = None


class Source(Protocol):
    """One source, opened. It answers at once, from what it has."""

    @property
    def kind(self) -> Kind: ...

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Answer:
        """The answer at `now`. known: whom the sources before this one verified."""
        ...

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        """The names of fields that carry this source's credential and are not to be forwarded."""
        ...


class Sources:
    """The sources of one policy, in its order. Made by `open_sources`; belongs to one thread."""

    __slots__ = ("_places", "_sources")

    def __init__(self, sources: Sequence[Source], places: Places) -> None:
        self._sources = tuple(sources)
        self._places = places

    def identify(self, evidence: Evidence, now: float) -> Identity | Invalid | Unavailable | Pending:
        """Ask the sources until one knows. now: seconds since the epoch."""
        known = _NOBODY
        until: float | None = None
        drop: frozenset[bytes] = self.withheld(evidence.fields)
        for source in self._sources:
            answer = source.answer(evidence, known, now)
            if type(answer) is Silent:
                if answer.subject is not None:
                    known = answer
                until = _earlier(until, answer.until)
            elif type(answer) is Home:
                home = self._places.home(answer.home)
                if home is None:
                    return Invalid(source.kind, "home")
                until = _earlier(until, answer.until)
                if answer.subject is not None:
                    return Identity(home, source.kind, answer.subject, answer.actor, drop, until)
                return Identity(home, source.kind, known.subject, known.actor, drop, until)
            elif isinstance(answer, Invalid | Unavailable | Pending):
                return answer
        return Identity(UNKNOWN, NO_SOURCE, known.subject, known.actor, drop, until)

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        """The names of the fields that carry a credential of a source with `forward: false`.

        Whether that source was asked does not matter: an earlier source or a stated home may have known
        first, and the credential still is one that no provider may see.
        """
        drop = _NOTHING
        for source in self._sources:
            drop |= source.withheld(fields)
        return drop


def open_sources(subject: Subject, zones: Sequence[Zone], countries: Countries) -> Sources:
    """The sources of a policy, ready to be asked.

    countries: what found the country of the evidence; its answers age with it. Raises SourceRefused, the
    operator's fault, when a key set cannot be read or holds what it must not.
    """
    issuers = frozenset(source.issuer for source in subject.sources if isinstance(source, Jwt))
    opened: list[Source] = []
    for source in subject.sources:
        if isinstance(source, Jwt):
            opened.append(open_jwt(source, subject.actors, issuers - {source.issuer}))
        else:
            opened.append(LocationSource(source.accounts, countries.stale_at))
    return Sources(opened, Places(zones))


_NOBODY = Silent()
_NOTHING: frozenset[bytes] = frozenset()


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
