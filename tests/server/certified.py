"""Clients with certificates in front of a proxy that runs as a process, and providers that say who they are.

SETTING: two names of one listener, of which `staff.example` demands what `open.example` does not, or the like; two
providers, one in each of two zones, which answer with their own name and keep the heads that they were sent.
"""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.authority import Authority, Issued, make_authority

WAIT = 30.0

POLICY = """
version: 1
zones:
  de: {{countries: [DE]}}
  elsewhere: {{countries: ["*"]}}
providers:
  home: {{operator: Example GmbH, zone: de, endpoints: ["http://127.0.0.1:{home}"]}}
  away: {{operator: Example Inc, zone: elsewhere, endpoints: ["http://127.0.0.1:{away}"]}}
subject:
  trusted_proxies: [127.0.0.2/32]
  sources: [{{client_certificate: {source}}}]
  stated: [{{when: {{path: /public}}, home: elsewhere}}]
  actors: [support]
rules:
  - {{name: germany, when: {{home: de}}, allow: [de]}}
  - {{name: others, when: {{home: elsewhere}}, allow: [elsewhere]}}
  - {{name: staff-reads, when: {{home: unknown, actor: support, method: read}}, allow: [elsewhere]}}
guarantees:
  - {{when: {{home: de}}, only: {{zones: [de]}}}}
listeners:
  - name: edge
    bind: "127.0.0.1:0"
    tls:
      certificates:
{certificates}
"""

SOURCE = "{home_from: C, subject_from: CN, actor_from: OU}"


class Provider(ThreadingHTTPServer):
    """Answers every request with its name. heads: what it was sent."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name = name
        self.heads: list[dict[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
        body = self.server.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@dataclass
class Setting:
    """authority: of clients; its list is `crl`. other: of nobody here. server: of the proxy's own certificates."""

    folder: Path
    home: Provider
    away: Provider
    authority: Authority
    other: Authority
    server: Authority

    def entry(self, name: str, demand: str = "") -> str:
        """One item of `certificates`, for this name. demand: further keys."""
        issued = self.server.issue(names=[name], common_name=name)
        return f"        - {{certificate: {issued.certificate.name}, key: {issued.key.name}{demand}}}"

    def policy(self, *entries: str, source: str = SOURCE) -> str:
        home, away = self.home.server_address[1], self.away.server_address[1]
        return POLICY.format(home=home, away=away, source=source, certificates="\n".join(entries))

    def demanding(self, mode: str, more: str = "") -> str:
        """The keys that ask for certificates of `authority`."""
        return f", client_ca: {self.authority.certificate.name}, client_certificate: {mode}{more}"

    def touched(self) -> int:
        """How many requests reached a provider."""
        return len(self.home.heads) + len(self.away.heads)

    def client(
        self,
        shown: Issued | None = None,
        version: ssl.TLSVersion | None = None,
    ) -> ssl.SSLContext:
        """A client that verifies the proxy, shows this certificate and speaks this version alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.server.certificate)
        context.check_hostname = False
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context


@contextlib.contextmanager
def setting(folder: Path) -> Iterator[Setting]:
    with contextlib.ExitStack() as stack:
        providers = []
        for name in ("home", "away"):
            provider = stack.enter_context(Provider(name))
            thread = Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(provider.shutdown)
            providers.append(provider)
        home, away = providers
        clients, strangers, servers = (make_authority(folder, name) for name in ("clients", "strangers", "servers"))
        yield Setting(folder, home, away, clients, strangers, servers)


class Refused(Exception):
    """The connection ended, or never was, and no answer came."""


class Asking:
    """A client on one connection. sni: the name it greets with, None for none. source: the address it has."""

    def __init__(
        self,
        context: ssl.SSLContext,
        port: int,
        sni: str | None,
        session: ssl.SSLSession | None = None,
        source: str = "127.0.0.1",
    ) -> None:
        self._raw = socket.create_connection(("127.0.0.1", port), timeout=WAIT, source_address=(source, 0))
        try:
            self.tls = context.wrap_socket(self._raw, server_hostname=sni, session=session)
        except OSError as error:
            self._raw.close()
            raise Refused(str(error)) from error

    def ask(
        self, host: str, path: str = "/", method: str = "GET", headers: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, header fields and body. Raises Refused."""
        try:
            self.tls.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode())
            stream = self.tls.makefile("rb")
            line = stream.readline()
            if not line:
                raise Refused("closed")
            fields: dict[str, str] = {}
            while (each := stream.readline()) not in (b"\r\n", b""):
                name, _, value = each.decode().partition(":")
                fields[name.lower()] = value.strip()
            return int(line.split()[1]), fields, stream.read(int(fields["content-length"]))
        except OSError as error:
            raise Refused(str(error)) from error

    def closed(self) -> bool:
        """Whether the proxy closes, with nothing further said."""
        try:
            return self.tls.recv(1) == b""
        except OSError:
            return True

    def close(self) -> None:
        self.tls.close()

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
