"""Grafana's dashboard: its form, and every query of it, asked of a Prometheus that scrapes a proxy under way."""

import json
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.authority import Issued, make_authority
from tests.identity.mmdb_files import mmdb
from tests.peers.prometheus import Prometheus, Series, prometheus
from tests.running import Running, start
from tests.server.provided import WAIT, Provider, provider

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
BOARD: dict[str, Any] = json.loads((GRAFANA / "domicile.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = {
    f"{panel['title']} {target['refId']}": str(target["expr"]) for panel in PANELS for target in panel["targets"]
}
VARIABLES = {each["name"]: each for each in BOARD["templating"]["list"]}

SHOWN = {
    "Bandwidth to clients, by provider A": {"provider": "telecom"},
    "Bandwidth to providers, by provider A": {"provider": "own-raw"},
    "Bandwidth by zone A": {"zone": "elsewhere", "direction": "to_client"},
    "Requests by zone and status A": {"zone": "cn-mainland", "status": "2xx"},
    "Passed connections by outcome A": {"outcome": "completed"},
    "Requests, by zone C": {"zone": "cn-mainland"},
    "First byte, by provider B": {"provider": "telecom"},
    "Denied A": {},
    "Denials by reason A": {"reason": "no-rule"},
    "Decisions by rule A": {"rule": "everyone-else"},
    "Endpoints not closed A": {},
    "Endpoints A": {"provider": "gone"},
    "Breaker trips A": {"provider": "gone"},
    "Tries that failed A": {"provider": "gone", "result": "refused"},
    "Shortest round trip A": {"provider": "telecom"},
    "Retries, by provider A": {"provider": "telecom"},
    "How waiting ended A": {"provider": "telecom", "outcome": "late"},
    "Under way, and the limit B": {},
    "Rate limited A": {"limit": "raw"},
    "Certificates A": {},
    "Country databases A": {"database": "country.mmdb"},
    "Workers A": {},
}
"""Where the run does what a panel shows, which is more than nothing then."""

POLICY = """
version: 1
zones:
  cn-mainland: {{countries: [CN]}}
  elsewhere: {{countries: ["*"]}}
providers:
  gone:
    operator: China Telecom
    zone: cn-mainland
    endpoints: ["http://127.0.0.1:{closed}"]
    health: {{kind: none, breaker: {{open: 100ms, longest: 100ms, slow_start: 0s}}}}
  telecom:
    operator: China Telecom
    zone: cn-mainland
    endpoints: ["http://localhost:{port}"]
    dial: [127.0.0.0/8]
    health: {{path: /, interval: 500ms}}
    limits: {{connections: 1, queue: {{most: 4, longest: 50ms}}}}
  own:
    operator: Example Inc
    zone: elsewhere
    endpoints: ["https://127.0.0.1:{encrypted}"]
    tls: {{ca: {authority}, server_name: own.example}}
  own-raw: {{operator: Example Inc, zone: elsewhere, endpoints: ["tcp://127.0.0.1:{port}"]}}
subject:
  trusted_proxies: [127.0.0.0/8]
  sources: [{{location: {{accounts: false}}}}]
  stated: [{{when: {{listener: raw}}, home: elsewhere}}]
rules:
  - {{name: mainland, when: {{home: cn-mainland, method: read}}, allow: [cn-mainland]}}
  - {{name: everyone-else, when: {{home: elsewhere}}, allow: [elsewhere]}}
routes:
  - {{when: {{home: cn-mainland}}, prefer: [gone, telecom]}}
geoip: {{database: country.mmdb, max_age: none}}
rates: {{limits: [{{name: raw, rate: 2, burst: 2, by: network, when: {{listener: raw}}}}]}}
listeners:
  - {{name: edge, bind: "127.0.0.1:0"}}
  - {{name: raw, bind: "127.0.0.1:0", protocol: tcp}}
  - name: secure
    bind: "127.0.0.1:0"
    tls: {{certificates: [{{certificate: {certificate}, key: {key}}}]}}
"""
MAINLAND, BRITAIN = "1.2.4.8", "193.62.157.66"
COUNTRIES = {"1.2.4.0/24": {"country": {"iso_code": "CN"}}, "193.62.0.0/16": {"country": {"iso_code": "GB"}}}


class Clients(threading.Thread):
    """Again and again: reads from both zones, a write that no rule permits, and a connection that is passed on."""

    def __init__(self, proxy: Running, service: Provider) -> None:
        super().__init__()
        self._proxy = proxy
        self._service = service
        self._over = threading.Event()
        self.trouble: Exception | None = None

    def run(self) -> None:
        try:
            while not self._over.wait(0.05):
                self._round()
        except Exception as error:  # Who waits for this thread says so.
            self.trouble = error

    def end(self) -> None:
        self._over.set()
        self.join(WAIT)
        assert self.trouble is None, self.trouble

    def crowd(self) -> None:
        """Hold the only connection that the telecom may have for so long that others wait for it in vain."""
        holding = threading.Thread(target=self._ask, args=["GET", MAINLAND, "/slow"])
        holding.start()
        assert self._service.begun.wait(WAIT)
        late = 'domicile_queue_ended_total{outcome="late",provider="telecom",zone="cn-mainland"}'
        while self._proxy.metric(late) < 1:
            assert self.is_alive(), self.trouble
            time.sleep(0.02)
        self._service.go.set()
        holding.join(WAIT)

    def _round(self) -> None:
        for method, client in (("GET", MAINLAND), ("GET", BRITAIN), ("POST", MAINLAND)):
            self._ask(method, client, "/")
        # The provider is one of HTTP; how many connections there are is limited, and some are reset.
        with (
            suppress(ConnectionError),
            socket.create_connection(("127.0.0.1", self._proxy.port("raw")), timeout=WAIT) as passed,
        ):
            passed.sendall(b"GET / HTTP/1.1\r\nHost: own\r\nConnection: close\r\n\r\n")
            while passed.recv(65536):
                pass

    def _ask(self, method: str, client: str, path: str) -> None:
        connection = HTTPConnection("127.0.0.1", self._proxy.port("edge"), timeout=WAIT)
        connection.request(method, path, headers={"X-Forwarded-For": client})
        connection.getresponse().read()
        connection.close()


def tls_context(issued: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("grafana")
    authority = make_authority(folder)
    edge, own = authority.issue(names=["edge.example"]), authority.issue(names=["own.example"])
    with ExitStack() as running:
        closed = running.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))  # It does not listen, and nobody else can.
        service = running.enter_context(provider())
        encrypted = running.enter_context(provider(tls_context(own)))
        policy = POLICY.format(
            port=service.server_address[1],
            encrypted=encrypted.server_address[1],
            closed=closed.getsockname()[1],
            authority=authority.certificate,
            certificate=edge.certificate,
            key=edge.key,
        )
        database = {"country.mmdb": mmdb(COUNTRIES, int(time.time()) - 3600)}
        proxy = running.enter_context(start(policy, folder, database))
        server = running.enter_context(prometheus([proxy.admin], folder / "prometheus"))
        server.await_scrapes(1)
        clients = Clients(proxy, service)
        clients.start()
        running.callback(clients.end)
        clients.crowd()
        server.await_scrapes(3)
        yield server


def interpolated(query: str, zone: str = ".*", provider: str = ".*") -> str:
    """The query as Grafana sends it."""
    query = query.replace("$__rate_interval", "1m").replace("$zone", zone).replace("$provider", provider)
    assert "$" not in query
    return query


def picked(answer: tuple[Series, ...], labels: dict[str, str]) -> float:
    """The greatest value of the series that carry these labels."""
    found = [each.value for each in answer if labels.items() <= each.labels.items()]
    return max((value for value in found if not math.isnan(value)), default=math.nan)


@pytest.mark.debian
def test_every_query_has_an_answer(asked: Prometheus) -> None:
    answers = {title: asked.query(interpolated(query)) for title, query in QUERIES.items()}

    assert {title for title, answer in answers.items() if not answer} == set()
    low = {title: answers[title] for title, labels in SHOWN.items() if not picked(answers[title], labels) > 0}
    assert low == {}


@pytest.mark.debian
def test_a_providers_own_certificate_is_among_those_that_expire(asked: Prometheus) -> None:
    names = {series.labels["name"] for series in asked.query(interpolated(QUERIES["Certificates A"]))}

    assert any(re.fullmatch(r"own 127\.0\.0\.1:\d+", name) for name in names), names


@pytest.mark.debian
def test_what_is_chosen_is_what_is_shown(asked: Prometheus) -> None:
    chosen = 0
    for title, query in QUERIES.items():
        answer = asked.query(interpolated(query, "(cn-mainland|none)", "telecom"))
        for series in answer:
            if "$provider" in query and (shown := series.labels.get("provider")) is not None:
                assert shown == "telecom", title
                chosen += 1
            if "$zone" in query and (shown := series.labels.get("zone")) is not None:
                assert shown == "cn-mainland", title
                chosen += 1
    assert chosen > 20


@pytest.mark.debian
def test_the_variables_offer_what_there_is(asked: Prometheus) -> None:
    def offered(name: str, zone: str = ".*") -> set[str]:
        query = interpolated(VARIABLES[name]["query"]["query"], zone)
        asks = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert asks is not None
        return {series.labels[asks[2]] for series in asked.query(asks[1])}

    assert offered("zone") == {"cn-mainland", "elsewhere"}
    assert offered("provider") == {"gone", "telecom", "own", "own-raw"}
    assert offered("provider", "cn-mainland") == {"gone", "telecom"}


def test_the_notes_ask_for_something_that_there_is() -> None:
    (query,) = [each["expr"] for each in BOARD["annotations"]["list"] if "expr" in each]
    assert "domicile_policy_reloads_total" in query
    assert "$" not in query, "Grafana knows no variables of a panel here"


# -- its form


def test_the_dashboard_is_what_grafana_takes() -> None:
    schema = json.loads(Path(__file__).with_name("grafana-schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(BOARD, schema)


def test_every_panel_is_itself() -> None:
    for what in ("id", "title"):
        values = [panel[what] for panel in BOARD["panels"]]
        assert len(set(values)) == len(values), what
    for panel in PANELS:
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names), panel["title"]


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h"))
    )


def test_panels_stand_beside_each_other() -> None:
    assert overlap({"x": 0, "y": 0, "w": 2, "h": 2}, {"x": 1, "y": 1, "w": 2, "h": 2})
    assert not overlap({"x": 0, "y": 0, "w": 2, "h": 2}, {"x": 2, "y": 0, "w": 2, "h": 2})

    for panel in BOARD["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]
    for one, other in combinations(BOARD["panels"], 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def test_every_panel_asks_the_data_source_that_is_chosen() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in PANELS:
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])
    assert list(VARIABLES) == ["datasource", "zone", "provider"]
    assert VARIABLES["datasource"]["query"] == chosen["type"]


def test_legends_name_labels_that_their_series_have() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = re.search(r"\bby \(([^)]*)\)", target["expr"])
            assert named <= set(re.split(r", ", kept[1] if kept else "")), panel["title"]


def test_it_is_provisioned_from_where_the_documents_say() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "domicile.yaml").read_text("utf-8"))[
        "datasources"
    ]
    assert {"name", "type", "access", "url"} <= source.keys()
    assert source["type"] == VARIABLES["datasource"]["query"]
    boards = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "domicile.yaml").read_text("utf-8"))
    assert boards["apiVersion"] == 1
    (place,) = boards["providers"]
    assert place["type"] == "file"
    assert place["options"]["path"] in (GRAFANA.parent / "README.md").read_text("utf-8")
