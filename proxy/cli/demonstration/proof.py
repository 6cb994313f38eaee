"""The last part: each provider's own account of the whole tour, held against the rules and the proxy's count."""

from proxy.cli.demonstration.checks import Checks
from proxy.cli.demonstration.scrape import Scrape
from proxy.cli.demonstration.stage import Stage

MAINLAND = "CN"


def prove(stage: Stage, last: Scrape, checks: Checks) -> None:
    """Who has been where, as the providers saw it. last: taken when nothing was under way any more."""
    telecom, ours = stage.telecom.seen, stage.ours.seen
    own = telecom.residences[MAINLAND]
    checks(
        f"{stage.telecom.operator} has seen only mainland accounts: {own:,} of {telecom.requests:,} requests",
        own == telecom.requests > 0,
    )
    foreign = ours.residences[MAINLAND]
    checks(
        f"{stage.ours.operator} has seen no mainland account: {foreign:,} of {ours.requests:,} requests",
        foreign == 0 < ours.requests,
    )
    for storage in stage.providers:
        seen, counted = storage.seen, last.of(storage.name)
        theirs = (seen.requests, seen.received, seen.sent)
        counts = (int(counted.answered.get("2xx", 0.0)), int(counted.to_provider), int(counted.to_client))
        same = "the same" if theirs == counts else "{:,} requests, {:,} bytes in, {:,} out".format(*counts)
        checks(f"The proxy's metrics for {storage.operator} say {same}", theirs == counts)
