"""The tour: each part in its order, shown as it happens."""

from proxy.cli.demonstration.checks import Checks
from proxy.cli.demonstration.outage import outage
from proxy.cli.demonstration.proof import prove
from proxy.cli.demonstration.screen import Screen
from proxy.cli.demonstration.stage import Stage
from proxy.cli.demonstration.transfers import smuggle, transfer
from proxy.cli.demonstration.visits import visited


async def tour(stage: Stage, screen: Screen) -> bool:
    """Whether all holds that had to."""
    checks = Checks(screen.check)
    checks.note("the proxy is ready", await stage.scraper.ready())
    screen.part("Who went where, and why")
    with screen.working("Nine requests through the proxy"):
        seen = [each async for each in visited(stage)]
    screen.visits(seen)
    for each in seen:
        checks.note(each.wrong or f"{each.visit.who}, {each.visit.place.name}", each.wrong is None)
    screen.part("What arrives, and what does not")
    with screen.working("Uploads and downloads"):
        await transfer(stage, checks)
        await smuggle(stage, checks)
    screen.part("The telecom fails")
    with screen.working("Traffic before, during and after an outage: ten seconds"):
        async with stage.scraper.watching() as scrapes:
            event = await outage(stage, checks)
    screen.part("What the proxy measured in these seconds")
    screen.plots(scrapes, stage.providers, event)
    screen.part("What the providers saw of the whole tour")
    screen.witnesses(stage.providers)
    prove(stage, scrapes[-1], checks)
    screen.verdict(checks.made, stage.proxy.complaints)
    return not checks.failed
