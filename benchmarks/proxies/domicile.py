"""Domicile on a policy with several rules and a route, metrics and access log on."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.proxies.lane import Lane
from benchmarks.work import HOST
from tests.peers.process import READY_WITHIN, Peer, PeerFailed, free_port, running

_ROOT = Path(__file__).parents[2]

# The model case's law, with the home by location: the load's client is in no country's register (203.0.113.0/24 is
# for documentation), so its home is unknown, and the last rule grants it. Every rule is asked about every request.
_POLICY = """\
version: 1

zones:
  cn-mainland: {{countries: [CN]}}
  eu: {{countries: [EEA]}}
  elsewhere: {{countries: ["*"]}}

providers:
  china-telecom:
    operator: China Telecom
    zone: cn-mainland
    endpoints: ["https://127.0.0.1:1"]
  own-eu:
    operator: Example Inc
    zone: eu
    endpoints: ["https://127.0.0.1:1"]
  own-cloud:
    operator: Example Inc
    zone: elsewhere
    endpoints: ["http://127.0.0.1:{lane.provider.plain}"]
  own-cloud-tls:
    operator: Example Inc
    zone: elsewhere
    endpoints: ["https://127.0.0.1:{lane.provider.tls}"]
    tls: {{ca: "{lane.certificates.authority}", server_name: {host}}}

subject:
  trusted_proxies: [127.0.0.0/8]
  sources:
    - location: {{}}

classes:
  - {{class: payment, when: {{path: /pay/*}}}}

rules:
  - name: mainland
    because: PIPL art. 40, CSL art. 37
    when: {{home: cn-mainland}}
    allow: {{zones: [cn-mainland], operators: [China Telecom]}}
  - name: europe
    when: {{home: eu}}
    allow: [eu]
  - name: european-payments
    when: {{home: eu, class: payment}}
    only: [eu]
  - name: everyone-else
    when: {{home: [elsewhere, unknown]}}
    allow: [elsewhere]
  - name: no-writes-to-archive
    when: {{host: archive.example, method: write}}
    forbid: any

routes:
  - when: {{listener: secure}}
    only: {{providers: [own-cloud-tls]}}
  - when: {{listener: plain}}
    only: {{providers: [own-cloud]}}

guarantees:
  - {{when: {{home: cn-mainland}}, only: {{zones: [cn-mainland], operators: [China Telecom]}}}}
  - {{unless: {{home: cn-mainland}}, never: {{operators: [China Telecom]}}}}

listeners:
  - name: plain
    bind: "127.0.0.1:{lane.listen.plain}"
    protocol: http
  - name: secure
    bind: "127.0.0.1:{lane.listen.tls}"
    protocol: http
    tls:
      certificates:
        - {{certificate: "{lane.certificates.certificate}", key: "{lane.certificates.key}"}}

workers: {workers}
limits: {{connections: {lane.connections}}}
log: {{path: "{lane.folder}/access.log"}}
admin: {{bind: "127.0.0.1:{admin}"}}
"""


@contextmanager
def domicile_proxy(lane: Lane, workers: int = 1) -> Iterator[Peer]:
    """Run it until the block is left."""
    lane.folder.mkdir(parents=True, exist_ok=True)
    policy = _POLICY.format(lane=lane, host=HOST, admin=free_port(), workers=workers)
    with domicile(policy, lane.listens, lane.folder, lane.before) as peer:
        yield peer


@contextmanager
def domicile(policy: str, ports: Sequence[int], folder: Path, before: tuple[str, ...]) -> Iterator[Peer]:
    """Run it on a policy that listens on these ports, until the block is left. Entered once its workers serve."""
    path = folder / "policy.yaml"
    path.write_text(policy, encoding="utf-8")
    command = [*before, sys.executable, "-m", "proxy.cli", "serve", path]
    with running("domicile", command, folder, ports, environ={"PYTHONPATH": str(_ROOT)}) as peer:
        _await_workers(folder / "domicile.out")
        yield peer


def _await_workers(said: Path) -> None:
    # The master opens the sockets, and they accept before there is anybody who would serve.
    deadline = time.monotonic() + READY_WITHIN
    while "info serving " not in said.read_text(encoding="utf-8"):
        if time.monotonic() > deadline:
            raise PeerFailed(f"domicile does not serve: {said.read_text(encoding='utf-8')[-2000:]}")
        time.sleep(0.02)
