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

`denied`: by the law. `unproven`: a credential did not verify. `unavailable`: a source of a home, or every permitted
provider, is down. `unreachable`: no permitted provider could be connected, `timeout`: in time. `reset`: one side broke
it. `idle`, `lifetime`: a limit ended it. `client-left`: before a provider was reached. `drained`: we ended.
"""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
