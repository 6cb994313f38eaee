"""Who the subject is and where home is: the policy's sources asked in order, the first that knows wins.

- Silence passes on; a home, invalid and unavailable end the search.
- Whom a silent source verified stays known to the sources after it, and to the decision.
- A home is a zone's name, or an ISO 3166-1 code in any case; anything else is an invalid answer.
- Whatever happens here takes no time: a source that has to wait answers Pending, the plane waits, and asks
  again; by then the source has the answer in its table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from proxy.identity.answers import Answer, Home, Invalid, Kind, Pending, Silent, Unavailable
from proxy.identity.client_certificate import open_client_certificate
from proxy.identity.country import Countries
from proxy.identity.counts import SourceCounts, Trail, Word
from proxy.identity.directory.opening import directory_files, open_directory
from proxy.identity.evidence import Evidence
from proxy.identity.home_cookie import HomeCookieSource, open_home_cookie
from proxy.identity.jwt import jwt_made_of, open_jwt
from proxy.identity.location import LocationSource
from proxy.identity.places import Places
from proxy.identity.proxy_header import ProxyHeaderSource
from proxy.policy.facts import NO_SOURCE, SUBJECT, UNKNOWN
from proxy.policy.settings import Zone
from proxy.policy.subject import ClientCertificate, Directory, HomeCookie, Jwt, Subject
from proxy.policy.subject import ProxyHeaderSource as ProxyHeader
from proxy.policy.subject import Source as Definition


@dataclass(frozen=True, slots=True)
class Identity:
    """What the sources found.

    home: a zone's name, the upper-case ISO code of a country that no zone holds, or `unknown`.
    source: the kind of source that gave the home, or `none`. subject: who was verified, None for nobody.
    actor: `subject`, a kind of staff that the policy lists, or `unknown` when nobody was verified.
    drop: names of header fields that must not be forwarded. until: seconds since the epoch until which the
    same evidence gives the same identity, None for as long as the policy is in force. changes_at: when it is known to
    become another, by a move that is dated ahead; None for never.
    """

    home: str = UNKNOWN
    source: str = NO_SOURCE
    subject: str | None = field(default=None, repr=False)
    actor: str = UNKNOWN
    drop: frozenset[bytes] = frozenset()
    until: float | None = None
    changes_at: float | None = None


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


class Remote(Source, Protocol):
    """A source that asks elsewhere. Belongs to the running loop from `begin`, or its first question, to `close`."""

    def begin(self) -> None:
        """Start what has to run beside requests. Called on the loop, when the source is put in force; twice does
        nothing more."""
        ...

    async def close(self) -> None:
        """Let go of connections, files, threads and tasks."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What one source answered, for people. home: a zone's name or a code, where the answer is a home."""

    kind: Kind
    answer: Answer = field(repr=False)
    home: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking. trail: the cell of these answers, None while one of them is Pending."""

    found: Identity | Invalid | Unavailable | Pending
    trail: Trail | None


class Seat:
    """One source in its place. made_of: what it was opened from, None for one that no reload may keep.

    holders: a ticket for each Sources that asks it; it is closed when the last one lets go.
    """

    __slots__ = ("holders", "made_of", "source")

    def __init__(self, source: Source, made_of: object = None) -> None:
        self.source = source
        self.made_of = made_of
        self.holders: set[object] = set()


class Sources:
    """The sources of one policy, in its order. Made by `open_sources`; belongs to one thread."""

    # fmt: off
    __slots__ = (
        "_ends", "_places", "_silent", "_sources", "_ticket", "_trusted_only", "counts", "hidden_cookies",
        "home_cookies", "seats", "tlv_types",
    )
    # fmt: on

    def __init__(
        self,
        sources: Sequence[Source | Seat],
        places: Places,
        counts: SourceCounts | None = None,
    ) -> None:
        self.seats = tuple(each if isinstance(each, Seat) else Seat(each) for each in sources)
        self._ticket = object()
        for seat in self.seats:
            seat.holders.add(self._ticket)
        self._sources = tuple(seat.source for seat in self.seats)
        # Names of fields that are believed from trusted proxies alone; anybody else's are not passed on either.
        self._trusted_only = _NOTHING.union(*(getattr(each, "trusted_only", ()) for each in self._sources))
        self._places = places
        # Names of cookies that carry a credential and are not to be forwarded.
        self.hidden_cookies = _NOTHING.union(*(getattr(each, "hidden_cookies", ()) for each in self._sources))
        self.home_cookies = next((each.cookies for each in self._sources if isinstance(each, HomeCookieSource)), None)
        # Types of a PROXY header's fields that a source looks at.
        self.tlv_types = frozenset[int]().union(*(getattr(each, "tlv_types", ()) for each in self._sources))
        self.counts = counts if counts is not None else SourceCounts()
        kinds = [source.kind for source in self._sources]
        for kind in kinds:
            self.counts.of(kind)
        self._silent = self.counts.trail(_after(kinds))
        self._ends: list[dict[Word, Trail]] = [
            {word: self.counts.trail(_after(kinds[: at + 1], word)) for word in ("home", "invalid", "unavailable")}
            for at in range(len(kinds))
        ]

    def identify(self, evidence: Evidence, now: float) -> Identity | Invalid | Unavailable | Pending:
        """Ask the sources until one knows. now: seconds since the epoch."""
        return self.ask(evidence, now).found

    def ask(self, evidence: Evidence, now: float, steps: list[Step] | None = None) -> Asked:
        """As `identify`, with what is counted of it. steps: what each source answered is added there."""
        known = _NOBODY
        until: float | None = None
        changes_at: float | None = None
        drop: frozenset[bytes] = self.withheld(evidence.fields)
        if self._trusted_only and not evidence.trusted:
            drop |= self._trusted_only
        for source, ends in zip(self._sources, self._ends, strict=True):
            answer = source.answer(evidence, known, now)
            home = self._places.home(answer.home) if type(answer) is Home else None
            if type(answer) is Home and home is None:
                answer = Invalid(source.kind, "home")
            if steps is not None:
                steps.append(Step(source.kind, answer, home))
            if type(answer) is Silent or type(answer) is Home:
                until = _earlier(until, answer.until)
                changes_at = _earlier(changes_at, answer.changes_at)
            if type(answer) is Silent:
                if answer.subject is not None:
                    acting, account = _acting(known, answer), answer.account or known.account
                    known = replace(answer, actor=acting, account=account, source=source.kind)
                elif answer.account and not known.account:
                    known = replace(known, account=True)
            elif type(answer) is Home:
                whom = known if answer.subject is None else answer
                acting = _acting(known, whom)
                identity = Identity(home or UNKNOWN, source.kind, whom.subject, acting, drop, until, changes_at)
                return Asked(identity, ends["home"])
            elif isinstance(answer, Pending):
                return Asked(answer, None)
            elif isinstance(answer, Invalid | Unavailable):
                return Asked(answer, ends["invalid" if isinstance(answer, Invalid) else "unavailable"])
        nobody = Identity(UNKNOWN, NO_SOURCE, known.subject, known.actor, drop, until, changes_at)
        return Asked(nobody, self._silent)

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        """The names of the fields that carry a credential of a source with `forward: false`.

        Whether that source was asked does not matter: an earlier source or a stated home may have known
        first, and the credential still is one that no provider may see.
        """
        drop = _NOTHING
        for source in self._sources:
            drop |= source.withheld(fields)
        return drop

    def added(self, evidence: Evidence) -> bytes:
        """The lines, each ending in CRLF, that tell a provider what no field of the request shows."""
        for source in self._sources:
            added = getattr(source, "added", None)
            lines: bytes = b"" if added is None else added(evidence)
            if lines:
                return lines
        return b""

    def begin(self) -> None:
        """Start what the sources run beside requests. Called on the running loop when they are put in force."""
        for source in self._sources:
            begin = getattr(source, "begin", None)
            if begin is not None:
                begin()

    def abandon(self) -> None:
        """Let go of what was carried over: these Sources never came into force, and began nothing."""
        for seat in self.seats:
            seat.holders.discard(self._ticket)

    async def close(self) -> None:
        """Let go of what only these Sources hold: sources that a later policy carried over stay open."""
        for seat in self.seats:
            seat.holders.discard(self._ticket)
            close = getattr(seat.source, "close", None)
            if close is not None and not seat.holders:
                await close()


def open_sources(subject: Subject, zones: Sequence[Zone], countries: Countries, old: Sources | None = None) -> Sources:
    """The sources of a policy, ready to be asked; nothing is asked elsewhere yet.

    countries: what found the country of the evidence; its answers age with it. old: the sources in force: their
    counts go on, and what is unchanged carries over with all that it remembers. Raises SourceRefused, the
    operator's fault, when a file cannot be read or holds what it must not.
    """
    counts = SourceCounts() if old is None else old.counts
    seats = [_seat(source, subject, countries, counts, old) for source in subject.sources]
    return Sources(seats, Places(zones), counts)


def _seat(
    source: Definition, subject: Subject, countries: Countries, counts: SourceCounts, old: Sources | None
) -> Seat:
    if isinstance(source, Directory):
        certified = directory_files(source)
        return _carried(old, (source, certified), lambda: open_directory(source, counts.of("directory")))
    if isinstance(source, Jwt):
        rivals = [each for each in subject.sources if isinstance(each, Jwt) and each.token == source.token]
        others = frozenset(each.issuer for each in rivals) - {source.issuer}
        made_of = jwt_made_of(source, subject.actors, others)
        return _carried(old, made_of, lambda: open_jwt(source, subject.actors, others, counts.of("jwt")))
    if isinstance(source, ClientCertificate):
        return Seat(open_client_certificate(source, subject.actors))
    if isinstance(source, HomeCookie):
        return Seat(open_home_cookie(source))
    if isinstance(source, ProxyHeader):
        return Seat(ProxyHeaderSource(source, subject.actors))
    return Seat(LocationSource(source.accounts, countries))


def _carried(old: Sources | None, made_of: object, opened: Callable[[], Source]) -> Seat:
    """The seat of the old sources that was made of the same, or a new one."""
    for seat in () if old is None else old.seats:
        if seat.made_of == made_of:
            return seat
    return Seat(opened(), made_of)


_NOBODY = Silent()
_NOTHING: frozenset[bytes] = frozenset()


def _after(kinds: Sequence[Kind], last: Word = "silent") -> list[tuple[Kind, Word]]:
    """All silent, but for what the last one said."""
    return [(kind, last if at == len(kinds) - 1 else "silent") for at, kind in enumerate(kinds)]


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _acting(known: Silent, later: Home | Silent) -> str:
    """Who acts: staff who were verified stay staff, whosever credential they show besides their own."""
    return later.actor if known.actor in (SUBJECT, UNKNOWN) else known.actor
