"""Providers of bare TLS that are told who connects, if they ask to be, and write down who it was.

    with receiver("own-eu", certificate, told=True) as own: ...

Each answers with its own name and a line feed.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.wire.proxy_header import Header, Incomplete, read_proxy_header
from tests.authority import Issued

PATIENCE = 30.0


@dataclass
class Receiver:
    """connections: accepted. clients: addresses by PROXY headers, None where none was due. lines: what was said."""

    name: str
    endpoint: str
    connections: int = 0
    clients: list[str | None] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)


@contextlib.contextmanager
def receiver(name: str, certificate: Issued, *, told: bool) -> Iterator[Receiver]:
    """A provider on a free port of loopback. told: a PROXY header comes before all else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Receiver(name, f"tls://127.0.0.1:{listening.getsockname()[1]}")

        def serve() -> None:
            while True:
                try:
                    sock, _ = listening.accept()
                except OSError:
                    return
                made.connections += 1
                with sock, contextlib.suppress(OSError):
                    sock.settimeout(PATIENCE)
                    made.clients.append(_client(sock) if told else None)
                    with context.wrap_socket(sock, server_side=True) as tls, tls.makefile("rb") as lines:
                        made.lines.append(lines.readline())
                        tls.sendall(name.encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield made
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def _client(sock: socket.socket) -> str | None:
    """The address that a PROXY header names, which is read to its last byte and no further."""
    header = b""
    while isinstance(read := read_proxy_header(header), Incomplete):
        more = sock.recv(read.needed - len(header))
        assert more, "it ended"
        header += more
    assert isinstance(read, Header), read
    return None if read.source is None else str(read.source[0])
