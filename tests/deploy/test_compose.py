"""compose.yaml, and the policy and the provider that it runs."""

import json
import subprocess
import time
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from proxy.config.load import load
from proxy.policy.decide import decide
from proxy.policy.decision import Denial, Permit
from proxy.policy.facts import Facts
from proxy.policy.policy import Policy
from proxy.server.crew import OVERTIME
from tests.peers.nginx import configuration
from tests.peers.process import program

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def policy() -> Policy:
    loaded = load(DEPLOY / "policy.yaml", {}, time.time())
    assert loaded.findings == ()
    return loaded.policy


def test_the_file_is_a_compose_file_of_hardened_services(compose: Any) -> None:
    schema = json.loads(Path(__file__).with_name("compose-schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(compose, schema)
    assert set(compose["services"]) == {"proxy", "china-telecom", "own-cloud", "prometheus"}


def test_every_name_in_it_is_defined(compose: Any) -> None:
    services, networks, volumes = compose["services"], compose["networks"], compose["volumes"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        assert set(service.get("networks", ())) <= set(networks)
        assert service.get("network_mode", "service:proxy").removeprefix("service:") in services
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in volumes if not source.startswith(".") else (DEPLOY / source).exists(), source
        if build := service.get("build"):
            assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_providers_reach_nothing_but_the_proxy(compose: Any) -> None:
    services, networks = compose["services"], compose["networks"]
    for name in ("china-telecom", "own-cloud"):
        (network,) = services[name]["networks"]
        assert networks[network]["internal"] is True
        assert {other for other in services if network in services[other].get("networks", ())} == {name, "proxy"}
        assert "ports" not in services[name]


def test_the_policy_dials_each_provider_on_its_own_network_only(compose: Any, policy: Policy) -> None:
    for provider in policy.providers:
        (network,) = compose["services"][provider.name]["networks"]
        subnets = [ip_network(entry["subnet"]) for entry in compose["networks"][network]["ipam"]["config"]]
        assert list(provider.dial) == subnets
        assert [endpoint.host for endpoint in provider.endpoints] == [provider.name]


def test_only_the_gateway_says_who_the_client_is(compose: Any, policy: Policy) -> None:
    (edge,) = compose["networks"]["edge"]["ipam"]["config"]
    (trusted,) = policy.subject.trusted_proxies
    assert trusted.num_addresses == 1
    assert trusted[0] == ip_address(edge["gateway"])
    assert trusted[0] in ip_network(edge["subnet"])


def test_the_proxy_may_finish_before_it_is_killed(compose: Any, policy: Policy) -> None:
    assert int(compose["services"]["proxy"]["stop_grace_period"].removesuffix("s")) > policy.timeouts.drain + OVERTIME


@pytest.mark.parametrize(("home", "permitted"), [("cn-mainland", ["china-telecom"]), ("elsewhere", ["own-cloud"])])
def test_the_policy_sends_each_home_to_its_provider(policy: Policy, home: str, permitted: list[str]) -> None:
    decision = decide(policy, Facts(time=time.time(), home=home, listener="edge", method="GET", path="/"))
    assert isinstance(decision, Permit)
    assert [provider.name for provider in decision.providers] == permitted


def test_the_policy_denies_an_unknown_home(policy: Policy) -> None:
    decision = decide(policy, Facts(time=time.time(), listener="edge", method="GET", path="/"))
    assert isinstance(decision, Denial)
    assert decision.reason == "home-unknown"


@pytest.mark.debian
def test_nginx_takes_the_providers_configuration(tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text(configuration((DEPLOY / "provider.conf").read_text("utf-8"), tmp_path))
    command = [program("nginx"), "-t", "-e", tmp_path / "error.log", "-p", tmp_path, "-c", path]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
