"""The demo's policy: the model case, on loopback and with ports that the kernel chooses."""

from pathlib import Path

from proxy.cli.demonstration.accounts import AUDIENCE, ISSUER

TELECOM, OURS = "china-telecom", "example"
"""Names of the two providers."""

CONNECT = 3.0
"""Seconds that a provider has to take a connection: a bound on how long an outage can hold a request."""

_TEXT = """\
# Written by `domicile demo`; `domicile check` proves it, and SIGHUP makes the proxy read it again.
version: 1

zones:
  cn-mainland: {{countries: [CN]}}       # Hong Kong, Macao and Taiwan have codes of their own
  elsewhere:   {{countries: ["*"]}}

providers:
  {telecom}:
    operator: China Telecom
    zone: cn-mainland
    endpoints: ["https://127.0.0.1:{telecom_port}"]
    tls: {{ca: ca.pem, server_name: storage.ct.example}}
  {ours}:
    operator: Example Inc
    zone: elsewhere
    endpoints: ["https://127.0.0.1:{ours_port}"]
    tls: {{ca: ca.pem, server_name: storage.example}}

subject:
  trusted_proxies: [127.0.0.0/8]        # so that X-Forwarded-For can stand for clients in the world
  sources:
    - jwt: {{jwks: jwks.json, issuer: "{issuer}", audience: {audience}, home_claim: residency}}

rules:
  - name: mainland
    because: PIPL art. 40, CSL art. 37
    when: {{home: cn-mainland}}
    allow: {{zones: [cn-mainland], operators: [China Telecom]}}
  - name: everyone-else
    because: our privacy policy
    when: {{home: elsewhere}}
    allow: {{zones: [elsewhere], operators: [Example Inc]}}

guarantees:                              # proved for every request there can be, or the file does not load
  - {{when: {{home: cn-mainland}}, only: {{zones: [cn-mainland], operators: [China Telecom]}}}}
  - {{unless: {{home: cn-mainland}}, never: {{operators: [China Telecom]}}}}

listeners:
  - name: edge
    bind: "127.0.0.1:0"
    tls: {{certificates: [{{certificate: edge.pem, key: edge.key}}]}}

timeouts: {{connect: {connect:g}s, drain: 1s}}
log: {{path: access.log}}
admin: {{bind: "127.0.0.1:0"}}
"""


def policy_text(telecom_port: int, ours_port: int) -> str:
    """The policy file. Its folder holds ca.pem, edge.pem, edge.key and jwks.json; access.log will be there."""
    return _TEXT.format(
        telecom=TELECOM,
        ours=OURS,
        telecom_port=telecom_port,
        ours_port=ours_port,
        issuer=ISSUER,
        audience=AUDIENCE,
        connect=CONNECT,
    )


def write_policy(folder: Path, telecom_port: int, ours_port: int) -> Path:
    path = folder / "policy.yaml"
    path.write_text(policy_text(telecom_port, ours_port), encoding="utf-8")
    return path
