"""Requests over TLS to a real process: names, refusals, and how a connection ends."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import make_authority
from tests.running import Running, start

POLICY = """
version: 1
zones: {everywhere: {countries: ["*"]}}
providers:
  own: {operator: Example Inc, zone: everywhere, endpoints: ["http://127.0.0.1:1"]}
subject: {trusted_proxies: [127.0.0.0/8], sources: [{location: {}}]}
rules: [{name: everyone, when: {home: everywhere}, allow: any}]
listeners:
  - name: edge
    bind: "127.0.0.1:0"
    tls:
      certificates:
        - {certificate: one.pem, key: one.key}
        - {certificate: two.pem, key: two.key}
log: {path: access.log}
admin: {bind: "127.0.0.1:0"}
"""


class Edge:
    def __init__(self, proxy: Running, trust: ssl.SSLContext) -> None:
        self.proxy = proxy
        self.trust = trust

    def ask(self, server_name: str, request: bytes) -> bytes:
        """All that the proxy says until it closes, which under TLS must be in order."""
        host, _, port = self.proxy.addresses["edge"][0].rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=20) as plain,
            self.trust.wrap_socket(plain, server_hostname=server_name) as client,
        ):
            client.sendall(request)
            said = b""
            while data := client.recv(65536):
                said += data
        return said


@pytest.fixture(scope="module", params=["TLSv1.2", "TLSv1.3"])
def edge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = make_authority(folder)
    files = {}
    for name in ("one", "two"):
        issued = authority.issue(names=[f"{name}.example"])
        files[f"{name}.pem"] = issued.certificate.read_bytes()
        files[f"{name}.key"] = issued.key.read_bytes()
    trust = ssl.create_default_context(cafile=str(authority.certificate))
    version = ssl.TLSVersion.TLSv1_2 if request.param == "TLSv1.2" else ssl.TLSVersion.TLSv1_3
    trust.minimum_version = trust.maximum_version = version
    with start(POLICY, folder, files) as proxy:
        yield Edge(proxy, trust)


def get(host: str, more: str = "") -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n".encode()


@pytest.mark.parametrize("host", ["one.example", "ONE.example.", "one.example:8443"])
def test_the_name_that_was_greeted_is_served(edge: Edge, host: str) -> None:
    assert edge.ask("one.example", get(host)).startswith(b"HTTP/1.1 451 ")


@pytest.mark.parametrize("host", ["two.example", "sub.one.example", "other.example"])
def test_a_host_that_disagrees_with_the_greeting_is_misdirected(edge: Edge, host: str) -> None:
    assert edge.ask("one.example", get(host)).startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize(
    "request_",
    [
        get("one.example", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: one.example\r\nContent-Length: 1000\r\nConnection: close\r\n\r\nsome",
        get("one.example"),
    ],
)
def test_a_connection_that_ends_ends_in_order(edge: Edge, request_: bytes) -> None:
    said = edge.ask("one.example", request_)
    assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 451 "))
    assert said.endswith(b"}")
