"""The checks of all endpoints of the policy in force: each in its own time, and what they show kept with the endpoint.

- Each worker checks by itself, so that each finds a dead endpoint within the time that the policy names.
- A reload leaves the checks of providers alone that stay as they are; those of others end with their endpoints. Where
  these answered from goes on to be held against what is said of them: another timeout clears nobody.
- A provider that evidence has taken out of service is checked on: evidence can clear it, and only that.
- Where evidence is enforced the first check comes at once, and the countries of all that an endpoint's name leads to
  are judged before anything is sent there.
"""

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from proxy.policy.decision import ProbePermit, probe_permits
from proxy.policy.facts import UNKNOWN, Address
from proxy.policy.health import HealthCheck, Location
from proxy.policy.policy import Policy
from proxy.policy.settings import Zone
from proxy.providers.checks import first_due, next_due
from proxy.providers.endpoint import EndpointState
from proxy.providers.evidence import Seen, judge
from proxy.providers.fleet import Fleet
from proxy.providers.probing import Probe, probe

Told = Callable[[str], None]
"""Hears a line for the operator when checks, or the evidence, begin or end to speak against an endpoint.

No line holds an address that a name led to.
"""

_AT_ONCE: Final = 0.0


class _Watched:
    """One endpoint under check."""

    __slots__ = ("here", "permit", "place", "task", "zone")

    def __init__(self, place: EndpointState[Any]) -> None:
        self.place = place
        self.task: asyncio.Task[None]
        self.permit: ProbePermit
        self.zone: Zone
        self.here: Location | None


class Checking:
    """Checks from the first `swap` to `end`. Belongs to the running loop."""

    def __init__(self, country: Callable[[Address], str], told: Told) -> None:
        """country: where an address is, or `unknown`, by the data that is in force."""
        self._country = country
        self._told = told
        self._watched: dict[EndpointState[Any], _Watched] = {}
        self._ended = False

    def swap(self, policy: Policy, fleet: Fleet[Any]) -> None:
        """Check by this policy from now on."""
        if self._ended:
            return
        zones = {zone.name: zone for zone in policy.zones}
        before, self._watched = self._watched, {}
        seen = {(each.place.state.definition.name, each.place.endpoint): each.place.checked for each in before.values()}
        for permit in probe_permits(policy):
            state = fleet.states[permit.provider.name]
            for place in (*state.endpoints, *state.passing):
                known = before.pop(place, None)
                watched = known or _Watched(place)
                watched.permit, watched.here = permit, policy.location
                watched.zone = zones[permit.provider.zone]
                self._watched[place] = watched
                if known is None:
                    place.checked.follow(seen.get((permit.provider.name, place.endpoint)))
                    watched.task = asyncio.get_running_loop().create_task(self._run(watched))
                    place.admission.changed = partial(self._judge, watched)
                if place.checked.answered or place.admission.admitted:
                    self._judge(watched)
        for gone in before.values():
            gone.task.cancel()

    async def end(self) -> None:
        """Check nothing any more."""
        self._ended = True
        tasks = [watched.task for watched in self._watched.values()]
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, watched: _Watched) -> None:
        definition = watched.place.state.definition
        check = definition.health
        assert check is not None
        luck = _AT_ONCE if definition.evidence == "enforce" else random.random()  # noqa: S311 - no secret
        due = first_due(check, time.monotonic(), luck)
        while True:
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            began = time.monotonic()
            try:
                found = await probe(watched.place, watched.permit, check)
                if found is not None:
                    self._heard(watched, check, found, time.monotonic())
            except Exception as error:
                # A mistake of this program: this check says nothing, the next may.
                asyncio.get_running_loop().call_exception_handler({"message": "a check", "exception": error})
            due = next_due(check, began, random.random())  # noqa: S311 - no secret

    def _heard(self, watched: _Watched, check: HealthCheck, found: Probe, now: float) -> None:
        place, checked = watched.place, watched.place.checked
        good, down = found.result.good, place.health.breaker.down
        checked.last = found.result
        checked.good += good
        checked.bad += not good
        if found.address is not None:
            checked.heard(found.address, found.rtt, place.admission.admitted)
            self._judge(watched)
        place.health.checked(check, good, now)
        if place.health.breaker.down is not down:
            self._tell(place, "checks succeed again" if down else f"checks fail: {found.result.cause}")

    def _judge(self, watched: _Watched) -> None:
        """What all that was seen comes to now: data of countries, zones and locations may have changed since.

        Where its name leads accuses it before anybody answered there, for connections go there next.
        """
        place, zone = watched.place, watched.zone
        definition, checked = place.state.definition, place.checked
        abroad = frozenset(map(self._country, place.admission.admitted)) - zone.countries
        countries = (frozenset(map(self._country, checked.answered)) | abroad) - {UNKNOWN}
        trips = [rtt for rtt in checked.answered.values() if rtt is not None]
        checked.seen = Seen(countries, min(trips, default=None))
        judgement = judge(checked.seen, zone.name, zone.countries, watched.here, definition.location)
        before = checked.judgement is not None and checked.judgement.flagged, place.health.held
        checked.judgement = judgement
        place.health.hold(judgement.forbids(definition.evidence))
        place.admission.closed = place.health.held
        if (judgement.flagged, place.health.held) != before:
            self._tell(place, f"{judgement.reason}; it is {'out of' if place.health.held else 'in'} service")

    def _tell(self, place: EndpointState[Any], what: str) -> None:
        self._told(f"provider {place.state.definition.name}, {place.label}: {what}")
