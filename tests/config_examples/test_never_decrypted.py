"""config/never-decrypted over real sockets: a client's TLS ends at its provider, and at no other."""

import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from proxy.wire.proxy_header import Fields, proxy_header
from tests.authority import Authority, Issued, make_authority
from tests.config_examples.moved import AMERICA, ANY_PORT, LOOPBACK_PROXIES, MAINLAND, NETHERLANDS, PRIVATE, moved
from tests.config_examples.receivers import PATIENCE, Receiver, receiver
from tests.running import Running, start

NAME = "storage.example.com"
EDGE = ip_address("192.0.2.1"), 8443
HOME = 0xE0
TOLD = ("own-eu", "own-cloud")
STORAGE = ("china-telecom", *TOLD)


@dataclass(frozen=True)
class Papers:
    """theirs: each provider's own certificate for our name, which no other end of the line has."""

    authority: Authority
    theirs: Mapping[str, Issued]


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    authority = make_authority(tmp_path_factory.mktemp("papers"), "public")
    names = [NAME, f"cdn.{NAME}", "other.example"]
    return Papers(authority, {each: authority.issue(names, ["127.0.0.1"]) for each in (*STORAGE, "broker-eu")})


@pytest.fixture(scope="module")
def providers(papers: Papers) -> Iterator[dict[str, Receiver]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(receiver(name, issued, told=name in TOLD))
            for name, issued in papers.theirs.items()
        }


@pytest.fixture(scope="module")
def proxy(
    papers: Papers, providers: dict[str, Receiver], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    policy = moved(
        "never-decrypted",
        {
            **LOOPBACK_PROXIES,
            "203.0.113.0/24": "127.0.0.0/8",
            "tls://storage.ct.example:443": providers["china-telecom"].endpoint,
            "tls://eu.storage.example.com:443": providers["own-eu"].endpoint,
            "tls://storage.example.com:443": providers["own-cloud"].endpoint,
            "tls://broker.eu.example.com:8883": providers["broker-eu"].endpoint,
            "0.0.0.0:8443": ANY_PORT,
            "127.0.0.1:1883": ANY_PORT,
        },
    )
    environ = {"SSL_CERT_FILE": str(papers.authority.certificate)}
    with start(policy, tmp_path_factory.mktemp("never-decrypted"), environ=environ) as running:
        yield running


@contextlib.contextmanager
def only(providers: Mapping[str, Receiver], name: str | None) -> Iterator[None]:
    """What happens here is one connection to that provider, and none to any other."""
    before = {each: receiver.connections for each, receiver in providers.items()}
    yield
    reached = {each: receiver.connections - before[each] for each, receiver in providers.items()}
    assert {each: count for each, count in reached.items() if count} == ({} if name is None else {name: 1})


def ask(proxy: Running, papers: Papers, client: str, name: str | None = NAME, told: Fields = ()) -> tuple[bytes, bytes]:
    """What a client hears through a load balancer that says this of it, and the certificate that it was shown."""
    context = ssl.create_default_context(cafile=papers.authority.certificate)
    context.check_hostname = name is not None
    with socket.create_connection(("127.0.0.1", proxy.port("edge")), PATIENCE) as sock:
        sock.sendall(proxy_header((ip_address(client), 50000), EDGE, told))
        with context.wrap_socket(sock, server_hostname=name) as tls:
            tls.sendall(b"a secret\n")
            shown = tls.getpeercert(binary_form=True)
            assert shown is not None
            with tls.makefile("rb") as lines:
                return lines.readline(), shown


# The client's address, what the load balancer says, who gets it.
HOMES = [
    (MAINLAND, (), "china-telecom"),
    (NETHERLANDS, (), "own-eu"),
    (AMERICA, (), "own-cloud"),
    (NETHERLANDS, ((HOME, b"cn-mainland"),), "china-telecom"),
    (MAINLAND, ((HOME, b"eu"),), "own-eu"),
    (MAINLAND, ((HOME, b"US"),), "own-cloud"),
    (PRIVATE, ((HOME, b"de"),), "own-eu"),
]


@pytest.mark.parametrize(("client", "told", "provider"), HOMES)
def test_a_connection_goes_home_and_its_tls_ends_there(
    proxy: Running, papers: Papers, providers: dict[str, Receiver], client: str, told: Fields, provider: str
) -> None:
    with only(providers, provider):
        said, certificate = ask(proxy, papers, client, told=told)
    assert said == provider.encode() + b"\n"
    theirs = papers.theirs[provider].certificate.read_text()
    assert certificate == ssl.PEM_cert_to_DER_cert(theirs[: theirs.index("-----END CERTIFICATE-----") + 26])
    assert providers[provider].lines[-1] == b"a secret\n"
    assert providers[provider].clients[-1] == (client if provider in TOLD else None)


@pytest.mark.parametrize(
    ("client", "name", "told"),
    [
        (PRIVATE, NAME, ()),
        (MAINLAND, "other.example", ()),
        (MAINLAND, None, ()),
        (MAINLAND, NAME, ((HOME, b"mars"),)),
        (MAINLAND, NAME, ((HOME, b"eu"), (HOME, b"eu"))),
    ],
)
def test_who_cannot_be_placed_reaches_nothing(
    proxy: Running, papers: Papers, providers: dict[str, Receiver], client: str, name: str | None, told: Fields
) -> None:
    with only(providers, None), pytest.raises((ssl.SSLError, ConnectionError)):
        ask(proxy, papers, client, name, told)


def test_a_star_covers_what_is_below_the_name(proxy: Running, papers: Papers, providers: dict[str, Receiver]) -> None:
    with only(providers, "own-eu"):
        assert ask(proxy, papers, NETHERLANDS, f"cdn.{NAME}")[0] == b"own-eu\n"


def test_a_device_speaks_in_the_clear_and_its_broker_hears_it_over_tls(
    proxy: Running, providers: dict[str, Receiver]
) -> None:
    with (
        only(providers, "broker-eu"),
        socket.create_connection(("127.0.0.1", proxy.port("devices-eu")), PATIENCE) as it,
    ):
        it.sendall(b"21.5\n")
        with it.makefile("rb") as lines:
            assert lines.readline() == b"broker-eu\n"
    assert providers["broker-eu"].lines[-1] == b"21.5\n"
