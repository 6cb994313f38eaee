"""What a data plane would count if it carried traffic of which all is known, behind admin endpoints of its own."""

import asyncio
import threading

from proxy.admin import AdminServer, Crew, Readiness, Status
from proxy.policy.settings import TcpBind
from proxy.telemetry.fleet import EndpointReport, FleetReport
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.sources import LookUps, SourceReport
from tests.admin.samples import STATUS

PLACES = {"china-telecom": "cn-mainland", "own-cloud": "elsewhere", "own-eu": "eu"}


class Traffic:
    """What a data plane would count, fifty times a second: mainland answers in 1.5 ms, Europe in 4 s."""

    def __init__(self) -> None:
        self.metrics = Metrics(worker=True)
        self.requests = {name: self.metrics.requests("edge", name, zone) for name, zone in PLACES.items()}
        self.timings = {name: self.metrics.timings(name, zone) for name, zone in PLACES.items()}
        self.denied = self.metrics.requests("edge", "none", "none")
        self.metrics.policy("sha256:00", ["mainland", "europe", "never"])
        self.rules = self.metrics.rules(("mainland",))
        self.metrics.certificates({"edge.pem": 1.0})
        self.metrics.healthy(lambda: [(name, zone, name != "own-cloud") for name, zone in PLACES.items()])
        self.metrics.sources(self.sources)
        self.metrics.refused(lambda: [("edge", "turned-away", 1)])
        for name, zone in PLACES.items():
            self.metrics.attempts(name, zone, "answered")
        self.metrics.workers(lambda: 2)
        self.metrics.fleet(self.fleet)
        self.metrics.overload(lambda: (100, 3))
        for each in self.fleet().endpoints:
            self.metrics.breaker_trips(each.provider, each.zone, each.endpoint)
            self.metrics.checks(each.provider, each.zone, each.endpoint, "good")
        for name, zone in PLACES.items():
            self.metrics.hedges(name, zone)
            self.metrics.queue_ended(name, zone, "served")
            self.metrics.name_answers(name, zone, "fresh")

    def fleet(self) -> FleetReport:
        return FleetReport(
            endpoints=[
                EndpointReport(name, zone, f"{name}.example:443", "closed", "ok", 0.02)
                for name, zone in PLACES.items()
                if name != "own-cloud"
            ]
            + [EndpointReport("own-cloud", "elsewhere", "own-cloud.example:443", "open", "country-mismatch", 0.3)],
            queues=[(name, zone, 0) for name, zone in PLACES.items()],
        )

    def sources(self) -> SourceReport:
        return SourceReport(
            answers=[(("jwt", "home"), self.rules.count * 2), (("location", "home"), self.rules.count)],
            cache=[(("jwt", "hit"), self.rules.count), (("jwt", "miss"), 0)],
            look_ups=[LookUps("jwt", (0.1, 1.0), [self.rules.count, 0, 0], 0.0)],
            key_sets=[(("https://id.example",), 7200.0)],
            databases=[(("country.mmdb",), 86400.0)],
            replaced=[(("country.mmdb", "loaded"), 0), (("country.mmdb", "refused"), 0)],
        )

    def tick(self) -> None:
        for name, size, seconds in (("china-telecom", 1000, 0.0015), ("own-eu", 100, 4.0), ("own-cloud", 1, 0.03)):
            self.requests[name].status[2] += 1
            self.requests[name].to_client += size
            self.timings[name].request.observe(seconds)
            self.timings[name].first_byte.observe(seconds / 2)
            self.metrics.attempts(name, PLACES[name], "answered").count += 3
            self.metrics.attempts(name, PLACES[name], "refused").count += 1
        self.timings["own-eu"].connect.observe(0.02)
        self.metrics.passed("pass", "own-eu", "eu", "completed").count += 1
        self.metrics.loop_lag.observe(0.001)
        self.metrics.shed("edge").count += 1
        self.metrics.retries("own-eu", "eu").count += 1
        for each in self.fleet().endpoints:
            self.metrics.checks(each.provider, each.zone, each.endpoint, "good").count += 1
        self.metrics.rate_limited("edge", "uploads").count += 1
        self.denied.status[4] += 1
        self.metrics.denials("edge", "no-rule").count += 1
        self.rules.count += 1

    async def serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        async def status() -> Status:
            return STATUS

        server = AdminServer(
            TcpBind("127.0.0.1", 0),
            self.metrics.exposition,
            lambda: Readiness(True, True, False, {}, Crew(1, 1)),
            status,
        )
        await server.start()
        assert isinstance(server.bound, TcpBind)
        self.port = server.bound.port
        started.set()
        while not stop.is_set():
            self.tick()
            await asyncio.sleep(0.02)
        await server.close()
