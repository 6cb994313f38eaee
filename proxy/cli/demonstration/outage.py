"""The third part: the telecom is switched off under traffic, and on again."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.cli.demonstration.accounts import Account
from proxy.cli.demonstration.checks import Checks
from proxy.cli.demonstration.client import Place
from proxy.cli.demonstration.policy_file import CONNECT
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
from proxy.cli.demonstration.storage import NOBODY
from proxy.cli.demonstration.traffic import Tally, traffic

MAINLAND: tuple[tuple[Account, Place], ...] = ((LI_NA, BEIJING), (LI_NA, FRANKFURT), (LI_NA, STANFORD))
OTHERS: tuple[tuple[Account, Place], ...] = ((ANNA, SHANGHAI), (KA_MING, HONG_KONG), (JOE, STANFORD))

_STEADY = 1.5
"""Seconds of traffic before and after the outage."""

_OFF = 1.5
"""Seconds that the telecom stays off under the others' traffic."""

_KNOCKS = 8
"""Requests of each mainland visitor while the telecom is off."""

_RECOVERY = 12.0
"""Seconds to wait for recovery: an endpoint that failed is left alone for five."""


@dataclass(frozen=True, slots=True)
class Outage:
    """off, on, back: when the telecom was switched off and on, and when it served again; monotonic seconds.

    tallies: what the clients of each provider saw of it all, by the provider's name.
    """

    off: float
    on: float
    back: float | None
    tallies: Mapping[str, Tally]


async def outage(stage: Stage, checks: Checks) -> Outage:
    """Traffic before, during and after."""
    mainland, others = Tally(), Tally()
    async with traffic(stage, MAINLAND) as one, traffic(stage, OTHERS) as other:
        await asyncio.sleep(_STEADY)
    _add(mainland, one)
    _add(others, other)
    off = time.monotonic()
    await stage.telecom.switch_off()
    await _knock(stage, checks)
    async with traffic(stage, OTHERS) as other:
        async with traffic(stage, MAINLAND) as one:
            await asyncio.sleep(_OFF)
        _add(mainland, one)
        on = time.monotonic()
        stage.telecom.switch_on()
        back = await _recovery(stage)
        served, total = other.succeeded, other.total
        checks(
            f"The others went on: {served:,} of {total:,} requests served, all by {_names(other)}",
            served == total > 0 and set(other.operators) == {stage.ours.operator},
        )
        checks(
            "On again: "
            + (f"Li Na is served by {back[1]} after {back[0] - on:.1f} s" if back else "Li Na is not served"),
            back is not None and back[1] == stage.telecom.operator,
        )
        async with traffic(stage, MAINLAND) as one:
            await asyncio.sleep(_STEADY)
        _add(mainland, one)
    _add(others, other)
    return Outage(off, on, back[0] if back else None, {stage.telecom.name: mainland, stage.ours.name: others})


async def _knock(stage: Stage, checks: Checks) -> None:
    """Nothing but mainland requests, so that any trace of them at the other provider would show."""
    before = stage.ours.seen
    answers = await asyncio.gather(
        *(stage.client.send(place, stage.tokens[LI_NA], path="/hello") for _, place in MAINLAND * _KNOCKS)
    )
    after = stage.ours.seen
    statuses = sorted({answer.status for answer in answers})
    slowest = max(answer.seconds for answer in answers)
    checks(
        f"{stage.telecom.operator} off: {len(answers)} requests by Li Na got "
        f"{' or '.join(map(str, statuses))}, the slowest in {slowest * 1000:.0f} ms",
        set(statuses) <= {502, 503} and slowest < CONNECT and not any(answer.operator for answer in answers),
    )
    checks(
        f"{stage.ours.operator} untouched: connections {before.connections} before, {after.connections} after, "
        f"requests {before.requests:,} and {after.requests:,}",
        before == after,
    )


async def _recovery(stage: Stage) -> tuple[float, str | None] | None:
    """When Li Na is served, and by whom; None if that takes too long."""
    began = time.monotonic()
    while time.monotonic() - began < _RECOVERY:
        answer = await stage.client.send(BEIJING, stage.tokens[LI_NA], path="/hello")
        if answer.status == 200:
            return time.monotonic(), answer.operator
        await asyncio.sleep(0.05)
    return None


def _add(sum_: Tally, part: Tally) -> None:
    sum_.statuses += part.statuses
    sum_.operators += part.operators
    sum_.seconds += part.seconds


def _names(tally: Tally) -> str:
    return " and ".join(sorted(name or NOBODY for name in tally.operators)) or NOBODY
