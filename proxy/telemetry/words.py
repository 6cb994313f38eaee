"""The words that label what is counted, so that a family has no others."""

from typing import Literal, get_args

from proxy.policy.decision import Reason

NONE = "none"
"""The provider and zone of what reached no provider."""

UNAVAILABLE = "unavailable"
"""The reason beside the law's own: something is permitted and nothing of it is healthy."""

REASONS: tuple[str, ...] = (*get_args(Reason), UNAVAILABLE)

STATUS_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
"""What RequestCell.status counts, by index. `none`: the client left before an answer began."""

DIRECTIONS = ("to_provider", "to_client")

Reload = Literal["loaded", "refused"]
"""What came of reading a policy again: it is in force, or the old one stays."""

RELOADS: tuple[Reload, ...] = get_args(Reload)

Attempt = Literal["answered", "refused", "timeout", "outside", "name", "tls", "full", "local", "broken"]
"""What came of one try at a provider.

`answered`: a valid head arrived, whatever its status. `timeout`: to connect, or to answer. `outside`: an address
that may not be dialled. `name`: DNS. `tls`: certificate, pin or handshake. `full`: the policy's cap on its
connections is reached. `local`: this machine is out of descriptors, ports or memory. `broken`: it closed, or broke the
protocol, before a valid head.
"""

ATTEMPTS: tuple[Attempt, ...] = get_args(Attempt)

Outcome = Literal[
    "completed",
    "denied",
    "unproven",
    "rate-limited",
    "unavailable",
    "unreachable",
    "timeout",
    "reset",
    "idle",
    "lifetime",
    "withdrawn",
    "client-left",
    "drained",
]
"""How a connection of a tls or tcp listener ended.

`denied`: by the law. `unproven`: a credential did not verify, or its source could not be asked. `rate-limited`: by a
limit of rate. `unavailable`: every permitted provider is down or full. `unreachable`: no permitted provider could be
connected, `timeout`: in time. `reset`: the provider broke it. `client-left`: the client did. `idle`, `lifetime`: a
limit ended it. `drained`: we ended.
"""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

State = Literal["closed", "slow-start", "half-open", "open"]
"""What an endpoint's breaker lets through: all, a growing share, trials, nothing."""

STATES: tuple[State, ...] = get_args(State)
"""From best to worst: of several workers' the worst is shown."""

Verdict = Literal["unknown", "ok", "country-mismatch", "distance-impossible"]
"""What the evidence of an endpoint's whereabouts comes to."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""What one worker knows is known, and what speaks against an endpoint counts most."""

Check = Literal["good", "bad"]
"""What an active check came to."""

CHECKS: tuple[Check, ...] = get_args(Check)

Hindrance = Literal["not-permitted", "answered", "sent", "body", "attempts", "time", "budget"]
"""Why a request was not tried again.

`not-permitted`: no other provider may have it. `answered`: the client has had some of an answer. `sent`: it may have
been acted upon. `body`: some of it is no longer held. `attempts`, `time`, `budget`: a limit of the policy.
"""

HINDRANCES: tuple[Hindrance, ...] = get_args(Hindrance)

Waited = Literal["served", "late", "left", "refused"]
"""How waiting for a provider at its connection cap ended. `left`: the client did. `refused`: the queue was full."""

WAITED: tuple[Waited, ...] = get_args(Waited)

NameAnswer = Literal["fresh", "remembered", "failed", "outside"]
"""What DNS came to. `remembered`: the last good answer, since a new one failed. `outside`: an address that may not be
dialled was among it."""

NAME_ANSWERS: tuple[NameAnswer, ...] = get_args(NameAnswer)
