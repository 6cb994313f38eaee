"""The Kubernetes manifests: valid for each version of late, and agreeing with the policy that they run."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from proxy.config.load import load
from proxy.policy.policy import Policy
from proxy.policy.settings import TcpBind
from proxy.server.crew import OVERTIME
from proxy.telemetry.metrics import Metrics
from tests.authority import make_authority
from tests.peers.process import program

DEPLOY = Path(__file__).parents[2] / "deploy"
BASE = DEPLOY / "kubernetes"
VERSIONS = ["1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]
LABELS = {"app.kubernetes.io/name": "domicile"}


@pytest.fixture(scope="module")
def rendered() -> dict[str, Any]:
    """What `kubectl apply -k` would send, by kind."""
    kubectl = Path(sys.executable).with_name("kubectl")
    run = subprocess.run([str(kubectl), "kustomize", str(BASE)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    manifests = list(yaml.safe_load_all(run.stdout))
    by_kind = {manifest["kind"]: manifest for manifest in manifests}
    assert len(by_kind) == len(manifests)
    return by_kind


@pytest.fixture(scope="module")
def pod(rendered: dict[str, Any]) -> Any:
    return rendered["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    (found,) = pod["containers"]
    return found


@pytest.fixture(scope="module")
def policy(rendered: dict[str, Any], container: Any, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """The policy of the ConfigMap, with a certificate where the pod has one, and the environment that the pod gets."""
    folder = tmp_path_factory.mktemp("tls")
    issued = make_authority(folder).issue(["storage.example"])
    issued.certificate.rename(folder / "tls.crt")
    issued.key.rename(folder / "tls.key")
    text = rendered["ConfigMap"]["data"]["policy.yaml"]
    assert text == (BASE / "policy.yaml").read_text("utf-8")
    assert "/etc/domicile/tls/" in text
    (folder / "policy.yaml").write_text(text.replace("/etc/domicile/tls", str(folder)))
    loaded = load(folder / "policy.yaml", {entry["name"]: "a-value" for entry in container["env"]}, time.time())
    assert loaded.findings == ()
    return loaded.policy


def ports_of(binds: tuple[Any, ...]) -> set[int]:
    assert all(isinstance(bind, TcpBind) for bind in binds)
    return {bind.port for bind in binds}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_manifests(rendered: dict[str, Any], version: str) -> None:
    expected = "ConfigMap Deployment HorizontalPodAutoscaler NetworkPolicy PodDisruptionBudget Service"
    assert sorted(rendered) == expected.split()
    for manifest in rendered.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_kubernetes_would_refuse_a_wrong_one(rendered: dict[str, Any]) -> None:
    wrong = {**rendered["Service"], "spec": {**rendered["Service"]["spec"], "port": 443}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_everything_is_of_the_same_pods(rendered: dict[str, Any], pod: Any) -> None:
    deployment = rendered["Deployment"]["spec"]
    assert deployment["template"]["metadata"]["labels"] == LABELS
    assert deployment["selector"] == {"matchLabels": LABELS}
    assert rendered["Service"]["spec"]["selector"] == LABELS
    assert rendered["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": LABELS}
    assert rendered["NetworkPolicy"]["spec"]["podSelector"] == {"matchLabels": LABELS}
    assert [each["labelSelector"] for each in pod["topologySpreadConstraints"]] == [{"matchLabels": LABELS}] * 2
    target = rendered["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", rendered["Deployment"]["metadata"]["name"])


def test_pods_have_no_privileges(pod: Any, container: Any) -> None:
    image = (DEPLOY / "Dockerfile").read_text("utf-8")
    who = pod["securityContext"]
    assert f"USER {who['runAsUser']}:{who['runAsGroup']}\n" in image
    assert who["runAsNonRoot"] is True
    assert who["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    # A key that the group may read, and a group that the proxy is in.
    (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert (secret["defaultMode"], who["fsGroup"]) == (0o440, who["runAsGroup"])


def test_ports_are_the_policys(rendered: dict[str, Any], container: Any, policy: Policy) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    (listener,) = policy.listeners
    assert ports_of(listener.binds) == {ports["https"]}
    assert ports_of((policy.admin.bind,)) == {ports["admin"]}
    assert set(ports) == {"https", "admin"}
    (port,) = rendered["Service"]["spec"]["ports"]
    assert port["targetPort"] == "https"


def test_probes_ask_the_admin_endpoints(container: Any) -> None:
    probes = {name: probe["httpGet"] for name, probe in container.items() if name.endswith("Probe")}
    assert probes == {
        "startupProbe": {"path": "/readyz", "port": "admin"},
        "livenessProbe": {"path": "/healthz", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
    }
    endpoints = (DEPLOY.parent / "proxy" / "admin" / "endpoints.py").read_text("utf-8")
    for probe in probes.values():
        assert f'add_get("{probe["path"]}"' in endpoints


def test_pods_may_finish_before_they_are_killed(pod: Any, container: Any, policy: Policy) -> None:
    sleep, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    assert pod["terminationGracePeriodSeconds"] >= int(seconds) + policy.timeouts.drain + OVERTIME


def test_a_rolling_update_takes_no_pod_away_early(rendered: dict[str, Any]) -> None:
    assert rendered["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in rendered["Deployment"]["spec"]
    assert rendered["HorizontalPodAutoscaler"]["spec"]["minReplicas"] > 1


def test_there_is_a_processor_for_each_worker(container: Any, policy: Policy) -> None:
    assert policy.workers.count is not None
    assert int(container["resources"]["requests"]["cpu"]) == policy.workers.count
    assert "cpu" not in container["resources"]["limits"]


def test_the_policy_and_its_papers_are_where_the_command_looks(pod: Any, container: Any, rendered: Any) -> None:
    serve, path = container["args"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert serve == "serve"
    assert path == f"{mounts['policy']}/policy.yaml"
    assert mounts["tls"] == "/etc/domicile/tls"
    assert volumes["policy"]["configMap"]["name"] == rendered["ConfigMap"]["metadata"]["name"]
    # Another policy has another name, which rolls the pods.
    assert re.fullmatch("domicile-policy-[a-z0-9]{10}", rendered["ConfigMap"]["metadata"]["name"])


def test_secrets_come_from_secrets(container: Any, policy: Policy) -> None:
    named = set(re.findall(r"\$\{(\w+)\}", (BASE / "policy.yaml").read_text("utf-8")))
    assert {entry["name"] for entry in container["env"]} == named
    assert all("secretKeyRef" in entry["valueFrom"] for entry in container["env"])
    told = (BASE / "kustomization.yaml").read_text("utf-8")
    for entry in container["env"]:
        reference = entry["valueFrom"]["secretKeyRef"]
        assert f"secret generic {reference['name']} --from-literal {reference['key']}=" in told


def test_what_may_be_reached_is_what_the_policy_may_dial(rendered: dict[str, Any], policy: Policy) -> None:
    dns, *egress = rendered["NetworkPolicy"]["spec"]["egress"]
    assert dns["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    assert all("ipBlock" not in each for each in dns["to"])
    opened = {
        (each["ipBlock"]["cidr"], port["port"]) for entry in egress for each in entry["to"] for port in entry["ports"]
    }
    assert all(each.keys() == {"ipBlock"} for entry in egress for each in entry["to"])
    assert all(provider.dial for provider in policy.providers)
    assert opened == {
        (str(network), endpoint.port)
        for provider in policy.providers
        for network in provider.dial
        for endpoint in provider.endpoints
    }
    assert rendered["NetworkPolicy"]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_admin_endpoints_are_for_the_monitoring_alone(rendered: dict[str, Any]) -> None:
    everybody, monitoring = rendered["NetworkPolicy"]["spec"]["ingress"]
    assert everybody == {"ports": [{"port": "https"}]}
    assert monitoring["ports"] == [{"port": "admin"}]
    assert monitoring["from"]


def test_the_autoscalers_metric_is_one_of_ours(rendered: dict[str, Any], policy: Policy) -> None:
    (metric,) = rendered["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    metrics = Metrics(worker=True)
    metrics.connections("edge").count = 3
    _, exposition = metrics.render()
    assert f'{name}{{listener="edge"}} 3'.encode() in exposition
    (rule,) = yaml.safe_load((BASE / "prometheus-adapter.yaml").read_text("utf-8"))["rules"]["custom"]
    assert rule["name"]["as"] == rule["seriesQuery"].partition("{")[0] == name
    # Half of what a listener takes: the other half is for what comes until a new pod is ready.
    assert int(metric["pods"]["target"]["averageValue"]) * 2 <= policy.limits.connections


@pytest.mark.debian
def test_prometheus_takes_the_scrape_configuration(tmp_path: Path) -> None:
    # Debian builds Prometheus without Kubernetes: all but the discovery is checked.
    text = (DEPLOY / "prometheus" / "kubernetes.yml").read_text("utf-8")
    discovery = "kubernetes_sd_configs: [{role: pod}]"
    assert discovery in text
    path = tmp_path / "kubernetes.yml"
    path.write_text(text.replace(discovery, "static_configs: [{targets: [a]}]"))
    (tmp_path / "rules.yml").write_bytes((DEPLOY / "prometheus" / "rules.yml").read_bytes())
    run = subprocess.run([program("promtool"), "check", "config", path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    relabelled = [each.get("target_label") for each in yaml.safe_load(text)["scrape_configs"][0]["relabel_configs"]]
    query = (BASE / "prometheus-adapter.yaml").read_text("utf-8")
    for label in filter(None, relabelled):
        assert f'{label}!=""' in query


def test_the_scrape_is_of_the_admin_port(container: Any) -> None:
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / "kubernetes.yml").read_text("utf-8"))["scrape_configs"]
    assert job["relabel_configs"][0]["regex"] == f"{LABELS['app.kubernetes.io/name']};{container['ports'][1]['name']}"
    assert 'up{job="' + job["job_name"] in (DEPLOY / "prometheus" / "rules.yml").read_text("utf-8")
