"""One raw request, looked at as the data plane looks at it: which source answers what, and the facts.

Sources that ask elsewhere are really asked, unless they are left out; then nothing leaves this machine.
"""

import asyncio
from dataclasses import dataclass, replace

from proxy.http1.arrival import Arrival
from proxy.http1.judge import Judged, judge
from proxy.http1.waiting import ROUNDS
from proxy.identity.answers import Home, Invalid, Pending, Silent, Unavailable
from proxy.identity.identify import Step
from proxy.policy.facts import Address
from proxy.policy.policy import Policy
from proxy.policy.subject import Directory, Jwt, KeySetUrl, Source, SqliteStore
from proxy.providers.resolve import Resolver
from proxy.server.load import open_line
from proxy.wire.refusal import Refusal
from proxy.wire.request_head import HeadLimits, RequestHead, read_request_head

NOT_ASKED = "not-asked"
"""What is said of a source that would have had to ask elsewhere."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How the request came. peer: None for a Unix socket. certificate: the client's, DER, taken as verified."""

    listener: str
    peer: Address | None
    tls: bool
    sni: str | None
    ech: bool
    certificate: bytes | None


@dataclass(frozen=True, slots=True)
class Said:
    """What one source answered, in words. why: of a fixed list. actor: whom it verified, None for nobody."""

    source: str
    answer: str
    why: str | None = None
    home: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """head: None where none could be read. judged: None where it was not even asked. said: in the order of asking."""

    head: RequestHead | None
    judged: Judged | None
    refusal: Refusal | None
    said: tuple[Said, ...]


def read_head(data: bytes) -> bytes:
    """The head of a request in a file: lines may end in LF alone, and the empty line may be left out."""
    lines: list[bytes] = []
    for line in data.split(b"\n"):
        line = line.removesuffix(b"\r")
        if not line and lines:
            break
        if line or lines:
            lines.append(line)
    return b"\r\n".join((*lines, b"", b""))


async def look(policy: Policy, connection: Connection, head_bytes: bytes, now: float, offline: bool) -> Look:
    """What comes of this head at `now` (epoch seconds). Raises LoadRefused when the policy cannot be opened.

    offline: sources that ask other machines are left out, as if they were silent.
    """
    limits = policy.limits
    if len(head_bytes) > limits.head:
        return Look(None, None, Refusal(431, "head-too-large"), ())
    head = read_request_head(head_bytes, HeadLimits(limits.headers, limits.target))
    if isinstance(head, Refusal):
        return Look(None, None, head, ())
    sources = policy.subject.sources
    asked = tuple(each for each in sources if not (offline and _asks_others(each)))
    resolver = Resolver()
    line = open_line(replace(policy, subject=replace(policy.subject, sources=asked)), resolver).line
    try:
        listener = next(each for each in policy.listeners if each.name == connection.listener)
        demands = line.demands.get(listener.name)
        arrival = Arrival(listener, connection.peer, connection.tls, connection.sni, None, connection.ech)
        if demands is not None and connection.tls:
            arrival = replace(arrival, demand=demands.of(connection.sni), client_certificate=connection.certificate)
        for _ in range(ROUNDS):
            steps: list[Step] = []
            judged = judge(line, arrival, head, now, now, steps)
            if not isinstance(judged.found, Pending):
                break
            await asyncio.shield(asyncio.ensure_future(judged.found.ready))
        if isinstance(judged.found, Pending):
            judged = replace(judged, found=Unavailable(judged.found.source))
        refusal = judged.found if isinstance(judged.found, Refusal) else None
        return Look(head, judged, refusal, _in_words(sources, asked, steps))
    finally:
        await line.sources.close()
        await resolver.close()


def _asks_others(source: Source) -> bool:
    if isinstance(source, Jwt):
        return isinstance(source.jwks, KeySetUrl)
    return isinstance(source, Directory) and not isinstance(source.store, SqliteStore)


def _in_words(sources: tuple[Source, ...], asked: tuple[Source, ...], steps: list[Step]) -> tuple[Said, ...]:
    """Each source up to the one that ended the search, those that were left out in their places."""
    said: list[Said] = []
    left = iter(steps)
    for source in sources:
        if source not in asked:
            said.append(Said(_kind(source), NOT_ASKED, "offline"))
            continue
        step = next(left, None)
        if step is None:
            break
        said.append(_words(step))
        if not isinstance(step.answer, Silent):
            break
    return tuple(said)


def _words(step: Step) -> Said:
    match step.answer:
        case Home(subject=subject, actor=actor):
            return Said(step.kind, "home", None, step.home, None if subject is None else actor)
        case Silent(subject=subject, actor=actor, why=why):
            return Said(step.kind, "silent", why or None, None, None if subject is None else actor)
        case Invalid(detail=detail):
            return Said(step.kind, "invalid", detail)
        case Unavailable(detail=detail):
            return Said(step.kind, "unavailable", detail)
        case Pending():
            return Said(step.kind, "unavailable", "no answer")


def _kind(source: Source) -> str:
    return "jwt" if isinstance(source, Jwt) else "directory"
