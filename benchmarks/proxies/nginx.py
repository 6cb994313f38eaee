"""nginx as a reverse proxy that writes what Domicile writes: the same headers, the same log fields.

Compression, buffering of uploads and spilling of answers to disk are off, the log is written in blocks and connections
to the provider are kept. What holds a body on its way is as shipped (4 to 8 KiB a piece), and in the tuned one as large
as helps.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks.proxies.lane import Lane
from benchmarks.work import HOST
from tests.peers.nginx import nginx
from tests.peers.process import Peer

_HTTP = """
    log_format json escape=json '{{"time":"$time_iso8601","request_id":"$request_id","listener":"$server_port",'
        '"method":"$request_method","host":"$host","status":$status,"reason":"","home":"elsewhere","country":"unknown",'
        '"zone":"elsewhere","provider":"$proxy_host","rules":"everyone-else","client":"$remote_addr",'
        '"from_client":$request_length,"to_client":$bytes_sent,"duration":$request_time,'
        '"connect":"$upstream_connect_time","first_byte":"$upstream_header_time","attempts":"$upstream_addr"}}';
    access_log {lane.folder}/access.log json buffer=64k flush=1s;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    set_real_ip_from 127.0.0.0/8;
    real_ip_header X-Forwarded-For;
    real_ip_recursive on;
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
{buffers}    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $host;
    proxy_set_header Forwarded "for=$remote_addr;host=$host;proto=$scheme";
    proxy_set_header Via "1.1 nginx";
    proxy_set_header X-Request-Id $request_id;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {lane.certificates.authority};
    proxy_ssl_name {host};
    proxy_ssl_server_name on;
    proxy_ssl_protocols TLSv1.2 TLSv1.3;
    upstream plain {{ server 127.0.0.1:{lane.provider.plain}; keepalive 64; keepalive_requests 1000000000; }}
    upstream secure {{ server 127.0.0.1:{lane.provider.tls}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{lane.listen.plain} backlog=4096;
        location / {{ proxy_pass http://plain; }}
    }}
    server {{
        listen 127.0.0.1:{lane.listen.tls} ssl backlog=4096;
        ssl_certificate {lane.certificates.certificate};
        ssl_certificate_key {lane.certificates.key};
        ssl_protocols TLSv1.2 TLSv1.3;
        location / {{ proxy_pass https://secure; }}
    }}
"""


_LARGE_BUFFERS = """\
    client_body_buffer_size 128k;
    proxy_buffers 8 32k;
    proxy_busy_buffers_size 64k;
"""


@contextmanager
def nginx_proxy(lane: Lane, buffers: str = "") -> Iterator[Peer]:
    """Run it until the block is left."""
    http = _HTTP.format(lane=lane, host=HOST, buffers=buffers)
    # One for the client and one for the provider, and some that nginx has for itself.
    connections = 2 * lane.connections + 64
    with nginx(http, lane.listens, lane.folder, before=lane.before, connections=connections) as peer:
        yield peer


def tuned_nginx_proxy(lane: Lane) -> AbstractContextManager[Peer]:
    """The same with large buffers for bodies, which nginx does not ship with."""
    return nginx_proxy(lane, _LARGE_BUFFERS)
