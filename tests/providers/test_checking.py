"""Checks that run: when, for how long, what they do to an endpoint, and what evidence does to it."""

import asyncio
import contextlib
import dataclasses
import time
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from proxy.policy.health import Breaker, HealthCheck, Location
from proxy.providers.checking import Checking
from proxy.providers.evidence import Seen
from proxy.providers.failure import DialFailure
from proxy.providers.fleet import Fleet
from proxy.providers.names import Answer
from proxy.providers.resolve import SHORTEST, Resolver
from tests.policy.samples import some_zones
from tests.providers.peers import Caller, a_law, a_place, listening, names, permit_for

OFTEN = HealthCheck(interval=0.02, timeout=5.0, healthy=1, unhealthy=1)
QUICK = Breaker(open=0.05, longest=0.1, trials=1, slow_start=0.0)


WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SICK = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
NAME = "storage.example"


@contextlib.asynccontextmanager
async def answering(port=0):
    """A provider that answers every check with `.answer`; `.heard` has what each sent."""
    heard = []
    came = asyncio.Event()

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            came.set()
            writer.write(provider.answer)
            await writer.drain()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    provider = SimpleNamespace(answer=WELL, heard=heard, came=came, port=server.sockets[0].getsockname()[1])
    provider.close, provider.wait_closed = server.close, server.wait_closed
    try:
        yield provider
    finally:
        server.close()
        await server.wait_closed()


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def resolving(answers):
    """A resolver of these names, which asks again whenever its clock has moved on by SHORTEST; and that clock."""

    async def lookup(name):
        return Answer([ip_address(each) for each in answers[name]], 0.0)

    clock = Clock()
    return Resolver(lookup, clock), clock


class Watch:
    """A fleet whose checks run, with data of countries: `countries` by address, `country` of every other.

    told: lines. counted: how many checks were good and bad at each of them; more may have ended when a test looks.
    """

    def __init__(self, *providers, resolver=None, **law):
        self.country = "unknown"
        self.countries = {}
        self.told = []
        self.counted = []
        self.policy = dataclasses.replace(a_law(*providers), **law)
        self.fleet = Fleet.open(self.policy, resolver or names())
        self.checking = Checking(lambda address: self.countries.get(str(address), self.country), self._hear)
        self.checking.swap(self.policy, self.fleet)

    def _hear(self, line):
        self.told.append(line)
        if len(self.fleet.states) == 1:
            checked = self.place.checked
            self.counted.append(SimpleNamespace(good=checked.good, bad=checked.bad))

    def swap(self, *providers, **law):
        self.policy = dataclasses.replace(a_law(*providers), **law)
        self.fleet = self.fleet.renewed(self.policy)[0]
        self.checking.swap(self.policy, self.fleet)

    @property
    def place(self):
        ((state,),) = (tuple(self.fleet.states.values()),)
        return (*state.endpoints, *state.passing)[0]

    async def until(self, holds):
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.005)

    async def checked(self):
        """One more check has ended."""
        before = self.place.checked.good + self.place.checked.bad
        await self.until(lambda: self.place.checked.good + self.place.checked.bad > before)


@contextlib.asynccontextmanager
async def watching(*providers, **how):
    watch = Watch(*providers, **how)
    try:
        yield watch
    finally:
        await watch.checking.end()


async def test_a_dead_endpoint_is_left_alone_and_comes_back():
    async with answering() as provider:
        port = provider.port
        place = a_place("127.0.0.1", port, health=OFTEN, breaker=QUICK)
        async with watching(place) as watch:
            await watch.checked()
            endpoint = watch.place
            assert endpoint.health.steady
            provider.close()
            await provider.wait_closed()
            await watch.until(lambda: endpoint.begin(time.monotonic()) is None)
            assert endpoint.health.word(time.monotonic()) == "open"
            # What an open breaker's time does to one without checks: it may be tried. Checks are the trials here.
            await asyncio.sleep(2 * QUICK.longest)
            assert not endpoint.health.trial(time.monotonic())
            async with answering(port=port):
                await watch.until(lambda: endpoint.health.word(time.monotonic()) == "closed")
                assert endpoint.begin(time.monotonic()) is not None
            assert endpoint.health.trips >= 1
            refused = f"provider storage, 127.0.0.1:{port}: checks fail: connection refused"
            assert watch.told[:2] == [refused, f"provider storage, 127.0.0.1:{port}: checks succeed again"]


async def test_it_takes_as_many_results_in_a_row_as_the_policy_says():
    async with answering() as provider:
        check = dataclasses.replace(OFTEN, healthy=2, unhealthy=3, interval=0.01)
        async with watching(a_place("127.0.0.1", provider.port, health=check, breaker=QUICK)) as watch:
            await watch.checked()
            provider.answer = SICK
            bad = watch.place.checked.bad
            await watch.until(lambda: len(watch.counted) == 1)
            assert watch.counted[0].bad == bad + 3
            good = watch.place.checked.good
            provider.answer = WELL
            await watch.until(lambda: len(watch.counted) == 2)
            assert watch.counted[1].good == good + 2


async def test_a_provider_that_no_rule_permits_is_checked_too():
    """A rule that comes into force tomorrow finds what is known of it."""
    async with answering() as provider:
        place = a_place("127.0.0.1", provider.port, health=OFTEN)
        async with watching(place, rules=()) as watch:
            await watch.checked()
        assert all(b"User-Agent: domicile-check\r\n" in each for each in provider.heard)


async def test_an_endpoint_held_by_evidence_is_checked_on_and_its_breaker_says_what_it_did():
    async with answering() as provider:
        place = a_place("127.0.0.1", provider.port, health=OFTEN, evidence="enforce")
        async with watching(place) as watch:
            watch.country = "US"
            await watch.until(lambda: watch.place.health.held)
            await watch.checked()
            assert watch.place.health.word(time.monotonic()) == "open"
            assert watch.place.health.breaker.kind == "closed"


async def test_a_check_that_meets_a_mistake_says_nothing_and_the_next_goes_on(monkeypatch):
    async with answering() as provider, watching(a_place("127.0.0.1", provider.port, health=OFTEN)) as watch:
        await watch.checked()
        mistakes = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: mistakes.append(context["exception"]))
        with monkeypatch.context() as broken:
            broken.setattr("proxy.providers.probing.request", None)
            await watch.until(lambda: mistakes)
            bad = watch.place.checked.bad
        await watch.checked()
        assert watch.place.checked.bad == bad == 0
        assert {type(each) for each in mistakes} == {TypeError}


async def test_ended_in_mid_check_nothing_goes_on_and_no_reload_begins_again():
    async with listening() as silent:
        place = a_place("127.0.0.1", silent.port, health=OFTEN)
        watch = Watch(place)
        await asyncio.wait_for(silent.heard.wait(), 10)
        await watch.checking.end()
        await asyncio.wait_for(silent.left.wait(), 10)
        watch.swap(place)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert watch.place.checked.last is None


async def test_an_address_that_may_not_be_dialled_is_not_checked_either():
    async with answering() as provider:
        elsewhere = names(storage_example=["127.0.0.2"])
        outside = a_place("storage.example", provider.port, dial=["127.0.0.1/32"], health=OFTEN)
        async with watching(outside, resolver=elsewhere) as watch:
            await watch.checked()
            assert not watch.place.checked.last.good
            assert watch.place.checked.seen == Seen()
        assert provider.heard == []
        async with watching(outside, resolver=names(storage_example=["127.0.0.1"])) as watch:
            await watch.checked()
        assert provider.heard


@pytest.mark.parametrize(("mode", "served"), [("record", True), ("enforce", False)])
async def test_a_provider_in_another_country_is_told_of_and_may_be_taken_out_of_service(mode, served):
    async with answering() as provider:
        place = a_place("127.0.0.1", provider.port, health=OFTEN, evidence=mode)
        async with watching(place) as watch:
            watch.country = "US"
            await watch.until(lambda: watch.told)
            await watch.checked()
            assert watch.place.checked.judgement.verdict == "country-mismatch"
            assert (watch.place.begin(time.monotonic()) is not None) is served
            state = "in" if served else "out of"
            name = f"provider storage, {watch.place.label}"
            assert watch.told == [f"{name}: is in US, outside zone eu; it is {state} service"]
            # The next database knows better, or knows nothing.
            for better, verdict in (("DE", "ok"), ("US", "country-mismatch"), ("unknown", "unknown")):
                watch.country = better
                await watch.until(lambda verdict=verdict: watch.place.checked.judgement.verdict == verdict)
                assert (watch.place.begin(time.monotonic()) is not None) is (served or verdict != "country-mismatch")
            assert len(watch.told) == 4


async def test_another_definition_of_a_provider_clears_it_of_nothing():
    async with answering() as provider:
        place = a_place("127.0.0.1", provider.port, health=OFTEN)
        async with watching(place) as watch:
            watch.country = "US"
            await watch.until(lambda: watch.place.checked.answered)  # it is told of before that
            first = watch.place
            watch.swap(dataclasses.replace(place, evidence="enforce", health=dataclasses.replace(OFTEN, interval=3600)))
            assert watch.place is not first
            assert watch.place.health.held, "before any check"
            assert [line.rpartition("; ")[2] for line in watch.told] == [
                "it is in service",
                "it is out of service",
            ]
            watch.swap(dataclasses.replace(place, name="another", evidence="enforce"))
            assert not watch.place.health.held, "nobody knows yet"


async def test_what_a_name_no_longer_leads_to_is_evidence_no_more():
    answers = {NAME: ["127.0.0.2"]}
    resolver, clock = resolving(answers)
    async with listening("127.0.0.2") as wrong, listening("127.0.0.3", wrong.port) as right:
        check = dataclasses.replace(OFTEN, kind="tcp")
        place = a_place(NAME, wrong.port, dial=["127.0.0.0/8"], health=check, evidence="enforce", scheme="tcp")
        async with watching(place, resolver=resolver) as watch:
            watch.countries |= {"127.0.0.2": "US", "127.0.0.3": "DE"}
            await watch.until(lambda: watch.place.health.held)
            # Where it still leads there too, it stays what it is, whichever answers.
            answers[NAME] = ["127.0.0.3", "127.0.0.2"]
            clock.now += SHORTEST
            await watch.until(lambda: right.accepted)
            await watch.checked()
            assert watch.place.health.held
            answers[NAME] = ["127.0.0.3"]
            clock.now += SHORTEST
            await watch.until(lambda: not watch.place.health.held)
            assert watch.place.checked.judgement.verdict == "ok"
            assert not any("127.0.0." in line for line in watch.told)
    await resolver.close()


@pytest.mark.parametrize("scheme", ["http", "tcp"])
@pytest.mark.parametrize("mode", ["record", "enforce"])
async def test_where_a_name_leads_next_is_judged_before_anything_is_sent_there(scheme, mode):
    """Its checks come once an hour, so that none comes meanwhile; and one address in the wrong place is enough."""
    answers = {NAME: ["127.0.0.3"]}
    resolver, clock = resolving(answers)
    async with listening("127.0.0.2") as wrong, listening("127.0.0.3", wrong.port) as right:
        rarely = dataclasses.replace(OFTEN, kind="tcp", interval=3600.0)
        place = a_place(
            *(NAME, wrong.port), dial=["127.0.0.0/8"], health=rarely, evidence=mode, scheme=scheme, plaintext=True
        )
        permit = permit_for(place)

        async def reached():
            try:
                if scheme == "http":
                    transport, _ = await watch.place.connect(permit, Caller)
                else:
                    made = asyncio.get_running_loop().create_future()
                    watch.place.reach(permit, made.set_result, made.set_exception)
                    transport = await made
            except DialFailure as failure:
                return failure.kind
            transport.close()
            watch.place.state.closed()
            return "reached"

        async with watching(place, resolver=resolver) as watch:
            watch.countries |= {"127.0.0.2": "US", "127.0.0.3": "DE"}
            assert await reached() == "reached"
            await asyncio.wait_for(right.came.wait(), 10)
            answers[NAME] = ["127.0.0.2", "127.0.0.3"]
            clock.now += SHORTEST
            async with asyncio.timeout(20):
                while len(await resolver.resolve(NAME)) < 2:
                    await asyncio.sleep(0.005)  # what is known already serves while it is asked anew
            assert await reached() == ("reached" if mode == "record" else "outside")
            # It can be reached, and whoever had come before us would have been accepted before us.
            _, ours = await asyncio.open_connection("127.0.0.2", wrong.port)
            await watch.until(lambda: ours.get_extra_info("sockname") in wrong.sockets)
            ours.close()
            assert wrong.accepted == 1 + (mode == "record")
            assert watch.place.health.held is (mode == "enforce")
            assert watch.place.health.trips == 0
            assert [line.partition(": ")[2].partition(";")[0] for line in watch.told] == ["is in US, outside zone eu"]
    await resolver.close()


async def test_a_zone_that_a_reload_changes_is_held_against_what_was_seen():
    async with answering() as provider:
        place = a_place("127.0.0.1", provider.port, health=OFTEN, evidence="enforce")
        async with watching(place) as watch:
            watch.country = "CH"
            await watch.until(lambda: watch.place.health.held)
            kept = watch.place
            watch.swap(place, zones=some_zones(eu=("EEA", "CH"), elsewhere="*"))
            assert watch.place is kept
            assert not kept.health.held, "at once, not with the next check"


async def test_light_is_not_outrun():
    async with answering() as provider:
        tokyo, dublin = Location(35.7, 139.7), Location(53.3, -6.3)
        place = a_place("127.0.0.1", provider.port, health=OFTEN, evidence="enforce", location=tokyo)
        async with watching(place, location=dublin) as watch:
            await watch.until(lambda: watch.told)
            assert "light takes" in watch.told[0]
            assert watch.place.checked.judgement.verdict == "distance-impossible"
            assert 0 < watch.place.checked.seen.rtt < 0.05
            assert watch.place.begin(time.monotonic()) is None
            # Where the proxy is, is the policy's to say: another one, and the same evidence is judged anew.
            watch.swap(place, location=tokyo)
            assert watch.place.checked.judgement.verdict == "unknown"
            assert watch.place.begin(time.monotonic()) is not None


async def test_a_reload_leaves_alone_what_stays_and_ends_what_goes():
    async with answering() as one, answering() as two:
        stays = a_place("127.0.0.1", one.port, name="stays", health=OFTEN)
        goes = a_place("127.0.0.1", two.port, name="goes", health=OFTEN)
        async with watching(stays, goes) as watch:
            await asyncio.wait_for(two.came.wait(), 10)
            kept = watch.fleet.states["stays"].endpoints[0]
            await watch.until(lambda: kept.checked.good)
            running = asyncio.all_tasks()
            watch.swap(dataclasses.replace(stays))
            assert watch.place is kept
            assert kept.checked.good
            assert not watch.fleet.states.get("goes")
            await asyncio.sleep(0)
            heard = len(two.heard)
            await watch.checked()
            await watch.checked()
            assert len(two.heard) <= heard + 1
            assert len([task for task in running if not task.done()]) < len(running)
    # Nothing goes on after the end.
    assert asyncio.all_tasks() == {asyncio.current_task()}
