"""The provider: nginx with fixed bodies and an upload that is read to its end, plaintext and TLS."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.certificates import Certificates
from benchmarks.work import KIB, MIB
from tests.peers.nginx import nginx
from tests.peers.process import free_port

# An upload is answered only once nginx has read it all, hence the second server: `return` alone answers at once
# and reads the body afterwards, and an answer that comes early costs the connection on both sides of a proxy.
_HTTP = """
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16;
    keepalive_requests 1000000000;
    client_max_body_size 2m;
    client_body_buffer_size 2m;
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{plain} backlog=4096;
        listen 127.0.0.1:{tls} ssl backlog=4096;
        ssl_certificate {certificates.certificate};
        ssl_certificate_key {certificates.key};
        location = /12 {{ return 200 "hello, world"; }}
        location = /64k {{ alias {folder}/64k; }}
        location = /1m {{ alias {folder}/1m; }}
        location = /upload {{
            proxy_pass http://unix:{folder}/taken.sock;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }}
    }}
    server {{
        listen unix:{folder}/taken.sock;
        location / {{ return 200 "taken"; }}
    }}
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the provider listens, or where a proxy does."""

    plain: int
    tls: int


@contextmanager
def provider(folder: Path, certificates: Certificates, before: tuple[str, ...]) -> Iterator[Ports]:
    """Run the provider until the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in (("64k", 64 * KIB), ("1m", MIB)):
        (folder / name).write_bytes(b"x" * size)
    ports = Ports(free_port(), free_port())
    http = _HTTP.format(plain=ports.plain, tls=ports.tls, folder=folder, certificates=certificates)
    with nginx(http, (ports.plain, ports.tls), folder, before=before):
        yield ports
