"""What is counted of one request, and its one record."""

import time
from typing import Final

from proxy.http1.attempts import Attempts
from proxy.http1.leg import Leg
from proxy.http1.plan import Plan
from proxy.providers.concurrency import ConcurrencyLimit
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.record import line

_NO_ANSWER: Final = 0
"""The status of a request whose client left before its answer began."""


class Tally:
    """started: monotonic seconds. status: of the answer that has begun. to_provider, to_client: bytes of bodies.

    first_byte: seconds from the request's last byte sent to the response's first, None before it came.
    over: whether it was recorded. admitted_by: the limit that it takes a place of until then, None for none; parked:
    no place any more.
    """

    # fmt: off
    __slots__ = (
        "admitted_by", "first_byte", "over", "parked", "request_id", "started", "status", "to_client", "to_provider",
        "wall",
    )
    # fmt: on

    def __init__(self, wall: float, started: float, request_id: bytes) -> None:
        self.wall = wall
        self.request_id = request_id
        self.started = started
        self.status = _NO_ANSWER
        self.first_byte: float | None = None
        self.to_provider = 0
        self.to_client = 0
        self.over = False
        self.admitted_by: ConcurrencyLimit | None = None
        self.parked = False

    def record(self, leg: Leg, plan: Plan, attempts: Attempts | None, log: AccessLog, reason: str | None) -> None:
        """Count and log what came of the request, once; reason: a word of a fixed list, None for success."""
        if self.over:
            return
        self.over = True
        if self.admitted_by is not None:
            self.admitted_by.end(self.first_byte, parked=self.parked)
        duration = time.monotonic() - self.started
        cell = leg.requests
        cell.status[self.status // 100] += 1
        cell.to_provider += self.to_provider
        cell.to_client += self.to_client
        leg.timings.request.observe(duration)
        if plan.rules is not None:
            plan.rules.count += 1
        if plan.trail is not None:
            plan.trail.count += 1
        connect, tries = (None, 0) if attempts is None else (attempts.connect, attempts.count)
        log.write(
            line(
                leg.static,
                self.wall,
                self.request_id,
                self.status,
                reason,
                self.to_provider,
                self.to_client,
                duration,
                self.first_byte,
                connect,
                tries,
            )
        )
