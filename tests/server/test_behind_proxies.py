"""The proxy as a process behind HAProxy and nginx: who the client is survives the way, and cannot be made up.

127.0.1.1, 127.0.1.2 and 127.0.1.3 stand for clients in mainland China, Hong Kong and Germany (`geoip.overrides`). The
proxies in front connect from 127.0.0.1, which is trusted; clients that come past them do not.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from proxy.wire.proxy_header import proxy_header, proxy_line
from tests.authority import Authority, make_authority
from tests.config_examples.recipients import Recipient, recipient
from tests.identity.mmdb_files import mmdb
from tests.peers.haproxy import haproxy
from tests.peers.nginx import nginx
from tests.peers.process import free_port
from tests.running import Running, start

pytestmark = pytest.mark.debian

PATIENCE = 20.0
CLIENTS = {"127.0.1.1": "cn", "127.0.1.2": "hk", "127.0.1.3": "rest"}
MADE = 1_780_000_000

POLICY = """
version: 1
zones:
  cn-mainland: {{countries: [CN]}}
  hong-kong: {{countries: [HK]}}
  elsewhere: {{countries: ["*"]}}
{geoip}
providers:
{providers}
subject:
  trusted_proxies: [127.0.0.1]
{subject}
  sources: [{{location: {{}}}}]
rules:
  - {{name: mainland, when: {{home: cn-mainland}}, allow: {{providers: cn}}}}
  - {{name: hong-kong, when: {{home: hong-kong}}, allow: {{providers: hk}}}}
  - {{name: everyone-else, when: {{home: elsewhere}}, allow: {{providers: rest}}}}
listeners:
  - {{name: plain, bind: "127.0.0.1:0", proxy_protocol: required}}
  - {{name: mixed, bind: "127.0.0.1:0", proxy_protocol: optional}}
  - {{name: web, bind: "127.0.0.1:0"}}
  - name: secure
    bind: "127.0.0.1:0"
    proxy_protocol: required
    tls: {{certificates: [{{certificate: edge.pem, key: edge.key}}]}}
timeouts: {{head: 5s}}
"""
OVERRIDES = """geoip:
  overrides:
    - {network: 127.0.1.1, country: CN}
    - {network: 127.0.1.2, country: HK}
    - {network: 127.0.1.3, country: DE}
"""


class Stage:
    """A running proxy, its providers by name, and the authority of its certificate."""

    def __init__(self, proxy: Running, providers: dict[str, Recipient], authority: Authority) -> None:
        self.proxy = proxy
        self.providers = providers
        self.trust = ssl.create_default_context(cafile=str(authority.certificate))

    def port(self, listener: str) -> int:
        return int(self.proxy.addresses[listener][0].rpartition(":")[2])

    def ask(
        self, port: int, client: str, *fields: str, before: bytes = b"", tls: bool = False, path: str = "/"
    ) -> tuple[int, str]:
        """Status and body of one request; (0, "") for a connection that is closed without an answer."""
        sock = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(client, 0))
        try:
            sock.sendall(before)
            if tls:
                # Python 3.11 leaves its TLS socket open when it wraps one that was reset before.
                sock.getpeername()
                sock = self.trust.wrap_socket(sock, server_hostname="storage.example")
            lines = (f"GET {path} HTTP/1.1", "Host: storage.example", "Connection: close", *fields, "", "")
            sock.sendall("\r\n".join(lines).encode())
            data = b""
            while piece := sock.recv(65536):
                data += piece
        except OSError:
            return 0, ""
        finally:
            sock.close()
        head, _, body = data.partition(b"\r\n\r\n")
        return (int(head.split()[1]) if head else 0), body.decode()

    def told(self, provider: str) -> dict[str, str]:
        """The fields of the last request that a provider had."""
        return self.providers[provider].requests[-1].headers

    def refused(self, listener: str, cause: str) -> float:
        return self.proxy.metric(f'domicile_connections_refused_total{{cause="{cause}",listener="{listener}"}}')


@contextmanager
def running(folder: Path, *, subject: str = "", geoip: str = OVERRIDES) -> Iterator[Stage]:
    authority = make_authority(folder)
    issued = authority.issue(["storage.example"])
    files = {"edge.pem": issued.certificate.read_bytes(), "edge.key": issued.key.read_bytes()}
    zones = {"cn": "cn-mainland", "hk": "hong-kong", "rest": "elsewhere"}
    with ExitStack() as stack:
        providers = {name: stack.enter_context(recipient(name)) for name in zones}
        lines = "\n".join(
            f'  {name}: {{operator: {name}, zone: {zone}, endpoints: ["{providers[name].origin}"]}}'
            for name, zone in zones.items()
        )
        policy = POLICY.format(providers=lines, subject=subject, geoip=geoip)
        yield Stage(stack.enter_context(start(policy, folder, files)), providers, authority)


HAPROXY = """
global
    log stdout format raw local0
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
"""


def relay(name: str, port: int, to: int, options: str, *more: str) -> str:
    body = "\n    ".join((f"bind 127.0.0.1:{port}", *more, f"server domicile 127.0.0.1:{to} {options}"))
    return f"listen {name}\n    {body}\n"


VERSIONS = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2",
    "v2 with all of its fields": (
        "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority,ssl,cert-cn,ssl-cipher,cert-sig,cert-key"
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_haproxy_passes_connections_on(tmp_path: Path, version: str) -> None:
    plain, secure, mixed = free_port(), free_port(), free_port()
    options = VERSIONS[version]
    unique = "unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid"
    with running(tmp_path) as stage:
        configuration = HAPROXY + "".join(
            relay(name, port, stage.port(name), options, unique)
            for name, port in (("plain", plain), ("secure", secure), ("mixed", mixed))
        )
        with haproxy(configuration, [plain, secure, mixed], tmp_path / "haproxy"):
            for client, provider in CLIENTS.items():
                for port, tls in ((plain, False), (mixed, False), (secure, True)):
                    assert stage.ask(port, client, tls=tls) == (200, provider)
                    assert stage.told(provider)["x-forwarded-for"] == client
                    assert stage.told(provider)["x-forwarded-proto"] == ("https" if tls else "http")
            # The client speaks for itself behind the header: what it says of others is not believed.
            for field in ("X-Forwarded-For: 127.0.1.1", "Forwarded: for=127.0.1.1", "CF-Connecting-IP: 127.0.1.1"):
                assert stage.ask(plain, "127.0.1.3", field) == (200, "rest")
            assert stage.told("rest")["x-forwarded-for"] == "127.0.1.3"
            assert stage.ask(plain, "127.0.1.3", before=proxy_line((ip_address("127.0.1.1"), 1), EDGE))[0] == 400
            # Nobody has a country whose address is nobody's.
            assert stage.ask(plain, "127.0.1.9")[0] == 451
        assert stage.refused("plain", "proxy-malformed") == stage.refused("secure", "proxy-malformed") == 0


EDGE = ip_address("192.0.2.1"), 443


def test_haproxy_that_ends_tls_and_speaks_http(tmp_path: Path) -> None:
    """One connection to us for each client, though HAProxy keeps and shares them."""
    front = free_port()
    with running(tmp_path) as stage:
        bundle = tmp_path / "bundle.pem"
        bundle.write_bytes((tmp_path / "edge.pem").read_bytes() + (tmp_path / "edge.key").read_bytes())
        configuration = HAPROXY + (
            f"listen front\n    mode http\n    option forwardfor\n    http-reuse always\n"
            f"    bind 127.0.0.1:{front} ssl crt {bundle}\n"
            f"    server domicile 127.0.0.1:{stage.port('plain')} {VERSIONS['v2 with all of its fields']}\n"
            "    unique-id-format %[uuid]\n"
        )
        with haproxy(configuration, [front], tmp_path / "haproxy"):
            for client, provider in (*CLIENTS.items(), *reversed(CLIENTS.items()), *CLIENTS.items()):
                assert stage.ask(front, client, "X-Forwarded-For: 127.0.1.1", tls=True) == (200, provider)
                # HAProxy's own word for the client is not a trusted proxy's here: the client's connection bears it.
                assert stage.told(provider)["x-forwarded-for"] == client


def test_haproxys_own_connections_are_its_own(tmp_path: Path) -> None:
    """Health checks come with LOCAL (v2): they are served as from HAProxy, which has no country."""
    front = free_port()
    with running(tmp_path) as stage:
        check = (
            "option httpchk GET /alive",
            "http-check send hdr Host storage.example",
            "http-check expect status 451",
        )
        options = "send-proxy-v2 check check-send-proxy inter 100 fall 1 rise 1"
        configuration = HAPROXY + relay("front", front, stage.port("plain"), options, *check)
        with haproxy(configuration, [front], tmp_path / "haproxy") as peer:
            deadline = time.monotonic() + PATIENCE
            while not any(record["status"] == 451 for record in stage.proxy.records()):
                assert time.monotonic() < deadline, (peer.folder / "haproxy.out").read_text()
                time.sleep(0.05)
            # A check that fails would have taken the server out within a turn.
            assert stage.ask(front, "127.0.1.2") == (200, "hk")
        checked = [record for record in stage.proxy.records() if record["status"] == 451]
        assert {(record["country"], record["listener"]) for record in checked} == {("unknown", "plain")}
        assert stage.refused("plain", "proxy-missing") == 0


# The reset may come between the look and the wrapping.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_who_comes_past_them_is_not_believed(tmp_path: Path) -> None:
    lie = (ip_address("127.0.1.1"), 40000)
    with running(tmp_path) as stage:
        headers = proxy_line(lie, EDGE), proxy_header(lie, EDGE)
        assert stage.ask(stage.port("plain"), "127.0.0.1", before=headers[1]) == (200, "cn"), "were it a trusted proxy"
        heard = {name: each.heard for name, each in stage.providers.items()}
        for before in (b"", *headers):
            assert stage.ask(stage.port("plain"), "127.0.1.3", before=before) == (0, "")
            assert stage.ask(stage.port("secure"), "127.0.1.3", before=before, tls=True) == (0, "")
        for before in headers:
            assert stage.ask(stage.port("mixed"), "127.0.1.3", before=before)[0] == 400
        assert stage.ask(stage.port("plain"), "127.0.0.1") == (0, ""), "a trusted proxy that sends none"
        assert stage.ask(stage.port("plain"), "127.0.0.1", before=headers[1][:-1] + b"x") == (0, "")
        assert {name: each.heard for name, each in stage.providers.items()} == heard
        assert stage.ask(stage.port("mixed"), "127.0.1.3") == (200, "rest"), "who sends none is itself"
        assert stage.ask(stage.port("mixed"), "127.0.1.1") == (200, "cn")
        assert stage.refused("plain", "proxy-untrusted") == stage.refused("secure", "proxy-untrusted") == 3
        assert stage.refused("plain", "proxy-missing") == stage.refused("plain", "proxy-malformed") == 1


def test_nginx_adds_to_x_forwarded_for(tmp_path: Path) -> None:
    front, cdn = free_port(), free_port()
    header = "  client_header: {name: CF-Connecting-IP, from: 127.0.0.5}"
    with running(tmp_path, subject=header) as stage:
        to = f"http://127.0.0.1:{stage.port('web')}"
        http = f"""
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    server {{
        listen 127.0.0.1:{front};
        location / {{
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_pass {to};
        }}
    }}
    server {{
        listen 127.0.0.1:{cdn};
        location / {{
            proxy_bind 127.0.0.5;
            proxy_set_header CF-Connecting-IP $remote_addr;
            proxy_pass {to};
        }}
    }}
"""
        with nginx(http, [front, cdn], tmp_path / "nginx"):
            for client, provider in CLIENTS.items():
                for lie in CLIENTS:
                    assert stage.ask(front, client, f"X-Forwarded-For: {lie}") == (200, provider)
                    assert stage.told(provider)["x-forwarded-for"] == f"{lie}, {client}, 127.0.0.1"
                    assert stage.ask(front, client, f"CF-Connecting-IP: {lie}") == (200, provider)
                    assert "cf-connecting-ip" not in stage.told(provider)
                    assert stage.ask(cdn, client, f"CF-Connecting-IP: {lie}", f"X-Forwarded-For: {lie}") == (
                        200,
                        provider,
                    )
                    assert stage.told(provider)["cf-connecting-ip"] == client
            # Past both, from an address that is neither's.
            assert stage.ask(stage.port("web"), "127.0.1.3", "CF-Connecting-IP: 127.0.1.1") == (200, "rest")
            assert stage.ask(stage.port("web"), "127.0.1.3", "X-Forwarded-For: 127.0.1.1") == (200, "rest")
            assert "cf-connecting-ip" not in stage.told("rest")


def test_nginx_passes_connections_on(tmp_path: Path) -> None:
    plain, secure = free_port(), free_port()
    with running(tmp_path) as stage:
        stream = f"""
    server {{
        listen 127.0.0.1:{plain};
        proxy_protocol on;
        proxy_pass 127.0.0.1:{stage.port("plain")};
    }}
    server {{
        listen 127.0.0.1:{secure};
        proxy_protocol on;
        proxy_pass 127.0.0.1:{stage.port("secure")};
    }}
"""
        with nginx("", [plain, secure], tmp_path / "nginx", stream=stream):
            for client, provider in CLIENTS.items():
                assert stage.ask(plain, client, "X-Forwarded-For: 127.0.1.1") == (200, provider)
                assert stage.ask(secure, client, tls=True) == (200, provider)
                assert stage.told(provider)["x-forwarded-for"] == client


def test_a_database_is_replaced_while_it_serves(tmp_path: Path) -> None:
    path = tmp_path / "country.mmdb"

    def put(content: bytes) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.rename(path)

    def saying(code: str, built: int) -> bytes:
        return mmdb({"114.0.0.0/8": {"country": {"iso_code": code}}}, built)

    header = proxy_header((ip_address("114.114.114.114"), 1), EDGE)
    asked = 0

    def where(stage: Stage) -> str:
        nonlocal asked
        asked += 1  # heads that were seen before are remembered for a minute
        status, provider = stage.ask(stage.port("plain"), "127.0.0.1", before=header, path=f"/{asked}")
        assert status == 200
        return provider

    def until_said(stage: Stage, line: str, *providers: str) -> None:
        """Ask on until it says so; nothing fails, and nobody else is reached in the meantime."""
        before = len(stage.proxy.said)
        deadline = time.monotonic() + PATIENCE
        while not any(line in said for said in stage.proxy.said[before:]):
            assert time.monotonic() < deadline, stage.proxy.said
            assert where(stage) in providers

    put(saying("CN", MADE))
    with running(tmp_path, geoip="geoip: {database: country.mmdb, max_age: none}") as stage:
        assert where(stage) == "cn"
        put(saying("HK", MADE + 60))
        until_said(stage, "country data: country.mmdb of 2026-05-28T20:27:40Z is in use", "cn", "hk")
        assert where(stage) == "hk"
        put(saying("CN", MADE))
        until_said(stage, "it is older than the database in use", "hk")
        put(b"no database")
        until_said(stage, "not a readable MMDB file", "hk")
        assert where(stage) == "hk"
        # A reload does not take a step back either, and goes on counting.
        put(saying("CN", MADE + 30))
        assert stage.proxy.reload()
        assert where(stage) == "hk"
        until_said(stage, "it is older than the database in use", "hk")
        assert stage.proxy.metric('domicile_geoip_replacements_total{database="country.mmdb",result="loaded"}') == 1
        assert stage.proxy.metric('domicile_geoip_replacements_total{database="country.mmdb",result="refused"}') == 3
        age = stage.proxy.metric('domicile_geoip_age_seconds{database="country.mmdb"}')
        assert abs(age - (time.time() - MADE - 60)) < 60
