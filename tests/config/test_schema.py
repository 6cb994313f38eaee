"""The JSON Schema in the tree is the model's, and it takes what `load` takes."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from proxy.config.document import plain, read_document
from proxy.config.schema import policy_schema, written
from tests.config.marked import completed, loaded
from tests.config.test_values import WHOLE

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "docs" / "policy.schema.json"


class Yaml12(yaml.SafeLoader):
    """The core schema of YAML 1.2, as editors read it: NO is text, and so are dates."""


Yaml12.yaml_implicit_resolvers = {}
Yaml12.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)\Z"), list("tf"))
Yaml12.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+\Z|0x[0-9a-fA-F]+\Z"), list("-+0123456789")
)
Yaml12.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+\.[0-9]+\Z"), list("-+0123456789"))


def validate(tree: Any) -> None:
    jsonschema.Draft202012Validator(policy_schema()).validate(tree)


def test_the_schema_in_the_tree_is_current() -> None:
    assert SCHEMA.read_text() == written(), "run: python -m proxy.config.schema > docs/policy.schema.json"


def test_it_is_a_schema_with_every_key_described() -> None:
    schema = policy_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, part in [("", schema), *schema["$defs"].items()]:
        assert part.get("description"), name
        for key, value in part["properties"].items():
            assert value.get("description"), f"{name}.{key}"
        assert part["additionalProperties"] is False, name


LONG = """\
location: {lat: 53.3, lon: -6.3}
retries: {share: 10%, least: 0.5, attempts: 2, replay: 1MiB, hedge: 200ms}
overload: {adaptive: true, least: 4, most: 64, tolerance: 1.5}
rates:
  store: {url: "valkeys://rates.example:6380/2", password: "${PASSWORD}", prefix: "r:"}
  secret: "${KEY}"
  limits:
    - {name: other, rate: 5, unless: {home: eu}}
    - {name: each, rate: 0.5, burst: 3, by: network, when: {method: write}, prefix4: 24, prefix6: 56, keys: 9}
providers:
  ours:
    operator: Ours Inc
    zone: eu
    endpoints: ["https://a.example", "https://b.example"]
    health:
      kind: http
      path: /up?deep=1
      host: status.example
      interval: 1m
      jitter: 0.2
      timeout: 500ms
      healthy: 1
      unhealthy: 5
      status: [200-204, 401]
      body: all well
      passive: {window: 1m, samples: 5, share: 25%, consecutive: none, latency: 2.5}
      breaker: {open: 1s, longest: 2m, trials: 1, slow_start: 0s}
    balance: {kind: consistent-hash, weights: [2, 0.5], bound: 1.5}
    limits: {connections: 5, queue: {most: 3, longest: 1s}}
    location: {lat: -12, lon: 18.25}
    evidence: enforce
  far: {operator: Ours Inc, zone: rest, endpoints: ["https://far.example"]}
  telecom: {operator: China Telecom, zone: cn, endpoints: ["https://ct.example"]}
"""
SHORT = """\
retries: {share: 0.1, replay: none, hedge: none}
overload: {adaptive: false, most: 50}
rates: {store: none, limits: [{name: each, rate: 5}]}
providers:
  ours:
    operator: Ours Inc
    zone: eu
    endpoints: ["https://a.example"]
    health: tls
    balance: least-connections
    limits: {connections: 5, queue: none}
    evidence: record
  more:
    operator: Ours Inc
    zone: eu
    endpoints: ["https://c.example"]
    health: {status: 204, passive: {share: none}}
    balance: {weights: 2}
  far: {operator: Ours Inc, zone: rest, endpoints: ["https://far.example"]}
  telecom: {operator: China Telecom, zone: cn, endpoints: ["https://ct.example"]}
"""


@pytest.mark.parametrize("text", [LONG, SHORT, ""], ids=["long", "short", "least"])
def test_it_takes_what_load_takes_as_editors_read_it(text: str, tmp_path: Path) -> None:
    loaded(tmp_path, text, KEY=base64.b64encode(bytes(range(32))).decode(), PASSWORD="hunter2")
    validate(yaml.load(completed(text), Yaml12))


def test_it_takes_a_whole_policy() -> None:
    validate(yaml.load(WHOLE, Yaml12))


def test_it_takes_the_example_policies() -> None:
    for path in sorted((ROOT / "config").rglob("*.yaml")):
        tree = yaml.load(path.read_text(), Yaml12)
        if isinstance(tree, dict) and "zones" in tree:
            validate(tree)


@pytest.mark.parametrize(
    "text",
    [
        "version: 2",
        "zone: {}",
        "rules: []",
        "rules: [{name: a}]",
        "rules: [{name: A, allow: any}]",
        "rules: [{name: a, allow: {}}]",
        "rules: [{name: a, allow: any, when: {hosts: x}}]",
        "timeouts: {head: 3}",
        "limits: {headers: none}",
        "log: {subject: yes}",
        "listeners: [{name: a, bind: x, protocol: udp}]",
        "workers: 0",
        "workers: {count: 1025}",
        "subject: {sources: [{proxy_header: {home_from: 0xF0}}]}",
        "subject: {sources: [{directory: {}}]}",
        "guarantees: [{when: {}}]",
    ],
)
def test_it_refuses_what_load_refuses(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(yaml.load(completed(text), Yaml12))


def test_its_defaults_are_the_models_own() -> None:
    """A file that writes every default out is the same policy as one that leaves them out."""
    schema = policy_schema()
    out: dict[str, Any] = {}
    for section in ("limits", "timeouts", "log", "admin"):
        part = schema["$defs"][schema["properties"][section]["$ref"].rsplit("/", 1)[1]]
        out[section] = {key: value["default"] for key, value in part["properties"].items()}
    text = completed("\n".join(f"{name}: {json.dumps(values)}" for name, values in out.items()))
    from proxy.config.file import PolicyFile
    from proxy.config.surroundings import surroundings_of

    def model(yaml_text: str) -> PolicyFile:
        root = read_document(yaml_text.encode(), Path("p"), {}).root
        assert root is not None
        return PolicyFile.model_validate(plain(root), context=surroundings_of(plain(root), Path()))

    assert set(out["limits"]) == {"head", "headers", "target", "body", "pipelined", "connections"}
    assert model(text) == model(completed(""))
