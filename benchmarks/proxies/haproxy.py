"""HAProxy as a reverse proxy that writes what Domicile writes: the same headers, the same log fields."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.proxies.lane import Lane
from benchmarks.work import HOST
from tests.peers.haproxy import haproxy
from tests.peers.process import Peer

_LOG = (
    '{"time":"%tr","request_id":"%ID","listener":"%ft","method":"%HM","host":"%[capture.req.hdr(0),json(utf8s)]",'
    '"status":%ST,"reason":"%tsc","home":"elsewhere","country":"unknown","zone":"elsewhere","provider":"%b/%s",'
    '"rules":"everyone-else","client":"%ci","from_client":%U,"to_client":%B,"duration":%Ta,"connect":%Tc,'
    '"first_byte":%Tr,"attempts":%rc}'
).replace('"', '\\"')

_CONFIGURATION = """
global
    nbthread 1
    maxconn {lane.connections}
    no strict-limits
    log stdout len 2048 format raw local0
    ssl-default-bind-options ssl-min-ver TLSv1.2
    ssl-default-server-options ssl-min-ver TLSv1.2

defaults
    mode http
    log global
    log-format "{log}"
    unique-id-format %[uuid()]
    unique-id-header X-Request-Id
    option http-keep-alive
    http-reuse always
    timeout connect 3s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 75s

frontend plain
    bind 127.0.0.1:{lane.listen.plain} backlog 4096
    {rules}
    default_backend plain

frontend secure
    bind 127.0.0.1:{lane.listen.tls} backlog 4096 ssl crt {lane.certificates.both}
    {rules}
    default_backend secure

backend plain
    server provider 127.0.0.1:{lane.provider.plain}

backend secure
    server provider 127.0.0.1:{lane.provider.tls} ssl verify required ca-file {lane.certificates.authority} \
sni str({host}) verifyhost {host}
"""

# In each frontend, so that the header is formed once the client's address is known.
_RULES = """
    declare capture request len 64
    http-request set-src hdr_ip(x-forwarded-for) if { src 127.0.0.0/8 }
    http-request capture req.hdr(host) id 0
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-For %[req.hdr(x-forwarded-for)],%[src]
    http-request set-header Forwarded for=%[src];host=%[req.hdr(host)];proto=%[ssl_fc,iif(https,http)]
    http-request set-header Via "1.1 haproxy"
"""


@contextmanager
def haproxy_proxy(lane: Lane) -> Iterator[Peer]:
    """Run it until the block is left."""
    configuration = _CONFIGURATION.format(lane=lane, host=HOST, log=_LOG, rules=_RULES.strip())
    with haproxy(configuration, lane.listens, lane.folder, before=lane.before) as peer:
        yield peer
