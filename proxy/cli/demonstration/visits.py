"""The first part of the tour: who goes where, and why."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from proxy.cli.demonstration.accounts import Account, forged
from proxy.cli.demonstration.client import Answer, Place
from proxy.cli.demonstration.stage import (
    ANNA,
    BEIJING,
    FRANKFURT,
    HONG_KONG,
    JOE,
    KA_MING,
    LI_NA,
    SHANGHAI,
    STANFORD,
    Stage,
)

TELECOM, OURS = "China Telecom", "Example Inc"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, and what must come of it. who: as the table shows it. account: None for nobody.

    operator: who must answer; None where no provider may be reached.
    """

    who: str
    account: Account | None
    place: Place
    status: int
    operator: str | None
    forged: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a visit. country, home, why: the proxy's word. operator: the provider's own word; None without one.

    wrong: how it differs from what had to be; None if it does not.
    """

    visit: Visit
    country: str
    home: str
    operator: str | None
    status: int
    why: str
    wrong: str | None


VISITS = (
    Visit("Li Na", LI_NA, BEIJING, 200, TELECOM),
    Visit("Li Na", LI_NA, FRANKFURT, 200, TELECOM),
    Visit("Li Na", LI_NA, STANFORD, 200, TELECOM),
    Visit("Anna", ANNA, FRANKFURT, 200, OURS),
    Visit("Anna", ANNA, SHANGHAI, 200, OURS),
    Visit("Ka-ming", KA_MING, HONG_KONG, 200, OURS),
    Visit("Joe", JOE, STANFORD, 200, OURS),
    Visit("nobody", None, SHANGHAI, 451, None),
    Visit("forger", LI_NA, STANFORD, 401, None, forged=True),
)


async def visited(stage: Stage) -> AsyncIterator[Seen]:
    """What comes of each visit, one after the other."""
    for visit in VISITS:
        token = None
        if visit.account is not None:
            token = forged(visit.account) if visit.forged else stage.tokens[visit.account]
        before = [storage.seen for storage in stage.providers]
        answer = await stage.client.send(visit.place, token, path="/hello")
        record = await stage.records.of(answer.request_id)
        after = [storage.seen for storage in stage.providers]
        reached = tuple(
            storage.operator
            for storage, one, other in zip(stage.providers, before, after, strict=True)
            if other.requests > one.requests or (visit.operator is None and other.connections > one.connections)
        )
        yield Seen(
            visit=visit,
            country="?" if record is None else record["country"],
            home="?" if record is None else record["home"],
            operator=answer.operator,
            status=answer.status,
            why=_why(stage, answer, record),
            wrong=_wrong(visit, answer, reached) or _disagreement(stage, visit, answer, record),
        )


def _why(stage: Stage, answer: Answer, record: dict[str, Any] | None) -> str:
    """The reason of the policy's rules that applied, or the proxy's own for a request that reached nobody."""
    if answer.status == 0:
        return answer.body.decode()
    if record is None:
        return "?"
    if record["reason"] is not None:
        return str(record["reason"])
    return "; ".join(stage.reasons[rule] for rule in record["rules"])


def _wrong(visit: Visit, answer: Answer, reached: tuple[str, ...]) -> str | None:
    due = () if visit.operator is None else (visit.operator,)
    if (answer.status, answer.operator, reached) == (visit.status, visit.operator, due):
        return None
    saw = " and ".join(reached) or "no provider"
    return (
        f"{visit.who}, {visit.place.name}: expected {visit.status} from {visit.operator or 'no provider'}; "
        f"got {answer.status} from {answer.operator or 'no provider'}, and {saw} saw it"
    )


def _disagreement(stage: Stage, visit: Visit, answer: Answer, record: dict[str, Any] | None) -> str | None:
    """How the proxy's record of a visit differs from what the client and the provider saw of it."""
    if record is None:
        return f"{visit.who}, {visit.place.name}: the access log has no record of it"
    operators = {storage.name: storage.operator for storage in stage.providers}
    said = operators.get(record["provider"])
    if (record["status"], said) == (answer.status, answer.operator):
        return None
    return f"{visit.who}, {visit.place.name}: the access log says {record['status']} from {said or 'no provider'}"
