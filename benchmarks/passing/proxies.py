"""The proxies that are compared: what each is told, with a record of every connection in JSON.

HAProxy moves bytes in the kernel both ways, by pipes as large as ours. nginx copies: it has nothing else.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proxies import DOMICILE
from benchmarks.proxies.domicile import domicile
from tests.peers.haproxy import haproxy
from tests.peers.nginx import nginx
from tests.peers.process import Peer, free_port


@dataclass(frozen=True, slots=True)
class PassingLane:
    """One proxy's place in a run. listen, provider: ports; the rest as a Lane has it."""

    listen: int
    provider: int
    folder: Path
    before: tuple[str, ...]
    connections: int = 4096


# The law of the HTTP benchmark: the client's home is unknown, and the last rule grants it.
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
    endpoints: ["tcp://127.0.0.1:1"]
  own-eu:
    operator: Example Inc
    zone: eu
    endpoints: ["tcp://127.0.0.1:1"]
  own-cloud:
    operator: Example Inc
    zone: elsewhere
    endpoints: ["tcp://127.0.0.1:{lane.provider}"]

subject:
  sources:
    - location: {{}}

rules:
  - name: mainland
    because: PIPL art. 40, CSL art. 37
    when: {{home: cn-mainland}}
    allow: {{zones: [cn-mainland], operators: [China Telecom]}}
  - name: europe
    when: {{home: eu}}
    allow: [eu]
  - name: everyone-else
    when: {{home: [elsewhere, unknown]}}
    allow: [elsewhere]

guarantees:
  - {{when: {{home: cn-mainland}}, only: {{zones: [cn-mainland], operators: [China Telecom]}}}}
  - {{unless: {{home: cn-mainland}}, never: {{operators: [China Telecom]}}}}

listeners:
  - name: raw
    bind: "127.0.0.1:{lane.listen}"
    protocol: tcp

workers: 1
limits: {{connections: {lane.connections}}}
timeouts: {{idle: 10m}}
log: {{path: "{lane.folder}/access.log"}}
admin: {{bind: "127.0.0.1:{admin}"}}
"""

_HAPROXY_LOG = (
    '{"time":"%t","request_id":"%[uuid()]","listener":"%ft","method":null,"host":null,"status":0,"reason":"%ts",'
    '"home":"elsewhere","country":"unknown","zone":"elsewhere","provider":"%b/%s","rules":"everyone-else",'
    '"client":"%ci","from_client":%U,"to_client":%B,"duration":%Tt,"connect":%Tc,"attempts":%rc}'
).replace('"', '\\"')

_HAPROXY = """
global
    nbthread 1
    maxconn {lane.connections}
    tune.pipesize 1048576
    maxpipes 64
    log stdout len 2048 format raw local0

defaults
    mode tcp
    log global
    log-format "{log}"
    option splice-request
    option splice-response
    timeout connect 3s
    timeout client 600s
    timeout server 600s

frontend raw
    bind 127.0.0.1:{lane.listen} backlog 4096
    default_backend own-cloud

backend own-cloud
    server provider 127.0.0.1:{lane.provider}
"""

_NGINX = """
    log_format json escape=json '{{"time":"$time_iso8601","request_id":"$connection","listener":"$server_port",'
        '"method":null,"host":null,"status":$status,"reason":"","home":"elsewhere","country":"unknown",'
        '"zone":"elsewhere","provider":"$upstream_addr","rules":"everyone-else","client":"$remote_addr",'
        '"from_client":$bytes_received,"to_client":$bytes_sent,"duration":$session_time,'
        '"connect":"$upstream_connect_time","first_byte":"$upstream_first_byte_time"}}';
    access_log {lane.folder}/access.log json buffer=64k flush=1s;
    server {{
        listen 127.0.0.1:{lane.listen} backlog=4096;
        proxy_connect_timeout 3s;
        proxy_timeout 600s;
        proxy_pass 127.0.0.1:{lane.provider};
    }}
"""


@contextmanager
def domicile_passing(lane: PassingLane) -> Iterator[Peer]:
    """Run it until the block is left."""
    lane.folder.mkdir(parents=True, exist_ok=True)
    policy = _POLICY.format(lane=lane, admin=free_port())
    with domicile(policy, [lane.listen], lane.folder, lane.before) as peer:
        yield peer


@contextmanager
def haproxy_passing(lane: PassingLane) -> Iterator[Peer]:
    """Run it until the block is left."""
    configuration = _HAPROXY.format(lane=lane, log=_HAPROXY_LOG)
    with haproxy(configuration, [lane.listen], lane.folder, before=lane.before) as peer:
        yield peer


@contextmanager
def nginx_passing(lane: PassingLane) -> Iterator[Peer]:
    """Run it until the block is left."""
    stream, connections = _NGINX.format(lane=lane), 2 * lane.connections + 64
    with nginx("", [lane.listen], lane.folder, before=lane.before, stream=stream, connections=connections) as peer:
        yield peer


PASSING_PROXIES: dict[str, Callable[[PassingLane], AbstractContextManager[Peer]]] = {
    DOMICILE: domicile_passing,
    "HAProxy": haproxy_passing,
    "nginx": nginx_passing,
}
"""By the names that the table and `--only` use."""
