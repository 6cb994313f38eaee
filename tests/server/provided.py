"""A provider in threads, for tests of the proxy as a process: /slow answers in two halves, between which it waits."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

POLICY = """
version: 1
zones:
  here: {{countries: ["*"]}}
providers:
  own: {{operator: Example Inc, zone: here, endpoints: ["http://127.0.0.1:{port}"]}}
subject:
  sources: [{{location: {{accounts: false}}}}]
  stated: [{{when: {{}}, home: here}}]
rules:
  - {{name: all, when: {{home: here}}, allow: [here]{rule}}}
listeners:
{listeners}
{more}
"""

EDGE = '  - {name: edge, bind: "127.0.0.1:0"}'

WAIT = 30.0


class Provider(ThreadingHTTPServer):
    """begun: a slow answer's first half was sent; go: lets its second half follow. served: requests so far."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.begun = Event()
        self.go = Event()
        self.served = 0

    def policy(self, listeners: str = EDGE, more: str = "", rule: str = "") -> str:
        """One zone, to which everything may go."""
        return POLICY.format(port=self.server_address[1], listeners=listeners, more=more, rule=rule)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def do_GET(self) -> None:
        self.server.served += 1
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        if self.path == "/slow":
            self.wfile.write(b"first")
            self.wfile.flush()
            self.server.begun.set()
            self.server.go.wait(WAIT)
            self.wfile.write(b"-last")
        else:
            self.wfile.write(b"0123456789")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def provider(tls: ssl.SSLContext | None = None) -> Iterator[Provider]:
    with Provider() as running:
        if tls is not None:
            running.socket = tls.wrap_socket(running.socket, server_side=True)
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield running
        finally:
            running.go.set()
            running.shutdown()
            thread.join()


def get(port: int, path: str = "/", host: str = "127.0.0.1") -> tuple[int, bytes]:
    """One request on a connection of its own."""
    connection = HTTPConnection(host, port, timeout=WAIT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Asking:
    """A client that asks again and again on one kept connection, until told to stop; every answer has to be right."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self._stop = Event()
        self.answers = 0
        self.trouble: str | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        stream = self._socket.makefile("rb")
        try:
            while not self._stop.is_set():
                self._socket.sendall(b"GET / HTTP/1.1\r\nHost: edge.example\r\n\r\n")
                status = stream.readline()
                if not status.startswith(b"HTTP/1.1 200 "):
                    self.trouble = f"after {self.answers} answers: {status!r}"
                    return
                while (line := stream.readline().lower()) not in (b"\r\n", b""):
                    if line.startswith(b"connection: close"):
                        self.trouble = f"after {self.answers} answers: told to leave"
                if stream.read(10) != b"0123456789":
                    self.trouble = f"after {self.answers} answers: another body"
                    return
                self.answers += 1
        except OSError as error:
            self.trouble = f"after {self.answers} answers: {error!r}"
        finally:
            stream.close()
            self._socket.close()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
