"""What is counted of one connection, and its one record."""

import time

from proxy.tcp.plan import Leg, Plan
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import Outcome
from proxy.telemetry.record import line


class Tally:
    """wall: when it began (epoch seconds). started: the same, monotonic seconds.

    to_provider, to_client: bytes that were counted so far. connect: seconds of the connect that succeeded, first_byte:
    from then to the provider's first byte; None before. tries: at providers.
    """

    __slots__ = ("connect", "first_byte", "request_id", "started", "to_client", "to_provider", "tries", "wall")

    def __init__(self, wall: float, started: float, request_id: bytes) -> None:
        self.wall = wall
        self.started = started
        self.request_id = request_id
        self.to_provider = 0
        self.to_client = 0
        self.connect: float | None = None
        self.first_byte: float | None = None
        self.tries = 0

    def moved(self, leg: Leg, to_provider: int, to_client: int) -> None:
        """Count the bytes that have come on since last time; given are all so far."""
        leg.bytes.to_provider += to_provider - self.to_provider
        leg.bytes.to_client += to_client - self.to_client
        self.to_provider = to_provider
        self.to_client = to_client

    def record(self, leg: Leg, plan: Plan, log: AccessLog, outcome: Outcome, reason: str | None) -> None:
        """Count and log what came of it; reason: a word of a fixed list, None for success."""
        leg.ended(outcome).count += 1
        if plan.rules is not None:
            plan.rules.count += 1
        if plan.trail is not None:
            plan.trail.count += 1
        log.write(
            line(
                leg.static,
                self.wall,
                self.request_id,
                0,
                reason,
                self.to_provider,
                self.to_client,
                time.monotonic() - self.started,
                self.first_byte,
                self.connect,
                self.tries,
            )
        )
