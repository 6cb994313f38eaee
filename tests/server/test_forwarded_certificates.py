"""Certificates that a trusted proxy forwards (RFC 9440), bad ones, and what providers are told of certificates."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.authority import Issued
from tests.identity.bad_inputs import certificates as bad
from tests.running import Running, start
from tests.server.certified import SOURCE, WAIT, Asking, Refused, Setting, setting

FROM_HEADER = "{from_header: true, home_from: C, subject_from: CN, actor_from: OU%s}"
PROXY = "127.0.0.2"
"""The trusted proxy's address."""


def plain(policy: str) -> str:
    """The policy with a listener that speaks plaintext."""
    return policy.partition("    tls:\n")[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    with setting(tmp_path_factory.mktemp("forwarded")) as each:
        (each.folder / "believed.pem").write_bytes(bad.clients().certificate.read_bytes())
        yield each


@pytest.fixture(scope="module")
def vouched(made: Setting) -> Iterator[Running]:
    """The proxy in front alone is believed."""
    with start(plain(made.policy(source=FROM_HEADER % "")), made.folder) as running:
        yield running


@pytest.fixture(scope="module")
def verified(made: Setting, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """What the proxy in front says is verified again, and passed on."""
    folder = tmp_path_factory.mktemp("verified")
    (folder / "believed.pem").write_bytes(bad.clients().certificate.read_bytes())
    with start(plain(made.policy(source=FROM_HEADER % ", ca: believed.pem, forward: true")), folder) as running:
        yield running


def asked(running: Running, request: bytes, source: str = PROXY) -> int:
    """The status of the answer to a raw request that comes from this address."""
    with socket.create_connection(("127.0.0.1", running.port("edge")), WAIT, (source, 0)) as client:
        client.sendall(request)
        return int(client.makefile("rb").readline().split()[1])


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_bad_certificates_are_401_and_reach_nobody(made: Setting, vouched: Running, verified: Running) -> None:
    for running in (vouched, verified):
        assert asked(running, bad.GOOD()) == 200
    before = made.touched()
    for name, request in bad.FORWARDED.items():
        for running in (vouched, verified):
            assert asked(running, request()) == 401, name
    for name, request in bad.UNVERIFIED.items():
        assert asked(verified, request()) == 401, name
    assert made.touched() == before
    assert asked(verified, bad.GOOD()) == 200


def test_without_the_ca_the_proxy_in_front_is_believed(made: Setting, vouched: Running) -> None:
    assert asked(vouched, bad.UNVERIFIED["of strangers"]()) == 200


def test_a_strangers_field_is_nothing(made: Setting, vouched: Running) -> None:
    before = made.touched()
    for request in (bad.GOOD(), bad.FORWARDED["two certificates"]()):
        assert asked(vouched, request, source="127.0.0.1") == 451
    assert made.touched() == before
    at_home = bad.GOOD().replace(b"GET /", b"GET /public", 1)
    assert asked(vouched, at_home, source="127.0.0.1") == 200
    assert "client-cert" not in made.away.heads[-1]


def test_what_is_consumed_is_passed_on_only_where_the_policy_says_so(
    made: Setting, vouched: Running, verified: Running
) -> None:
    between = bad.clients().intermediate("passed")
    alice = between.issue(client=True, common_name="alice", subject={"C": "DE"})
    fields = (
        b"Client-Cert: " + bad.sequence(bad.der(alice)),
        b"Client-Cert-Chain: " + bad.sequence(between.parsed.public_bytes(Encoding.DER)),
    )
    assert asked(vouched, bad.fields(*fields)) == 200
    assert not [name for name in made.home.heads[-1] if "cert" in name]
    assert asked(verified, bad.fields(*fields)) == 200
    sent = made.home.heads[-1]
    assert sent["client-cert"].encode() == bad.sequence(bad.der(alice))
    assert sent["client-cert-chain"].encode() == bad.sequence(between.parsed.public_bytes(Encoding.DER))


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_bad_certificates_in_a_handshake(tmp_path: Path) -> None:
    with setting(tmp_path) as made:
        (tmp_path / "believed.pem").write_bytes(bad.clients().certificate.read_bytes())
        demand = ", client_ca: believed.pem, client_certificate: required"
        with start(made.policy(made.entry("staff.example", demand)), tmp_path) as running:

            def status(shown: Issued) -> int | None:
                try:
                    with Asking(made.client(shown), running.port("edge"), "staff.example") as client:
                        return client.ask("staff.example")[0]
                except Refused:
                    return None

            assert status(bad.certificate(bad.GERMANY, bad.ALICE)) == 200
            before = made.touched()
            found = {name: status(shown()) for name, shown in bad.SHOWN.items()}
            assert made.touched() == before
            assert set(found.values()) == {None, 401}, found


def test_the_provider_is_told_what_was_shown_in_the_handshake(tmp_path: Path) -> None:
    with setting(tmp_path) as made:
        alice = made.authority.issue(client=True, common_name="alice", subject={"C": "DE"})
        entry = made.entry("staff.example", made.demanding("optional"))
        source = SOURCE.replace("}", ", forward: true}")
        with start(made.policy(entry, source=source), tmp_path) as running:
            forged = "Client-Cert: :AAAA:\r\nClient-Cert-Chain: :AAAA:\r\n"
            for address in ("127.0.0.1", PROXY):
                with Asking(made.client(alice), running.port("edge"), "staff.example", source=address) as client:
                    assert client.ask("staff.example", headers=forged)[2] == b"home"
                sent = made.home.heads[-1]
                (certificate,) = (value for name, value in sent.items() if "cert" in name)
                assert certificate.encode() == bad.sequence(alice.parsed.public_bytes(Encoding.DER))
                assert x509.load_pem_x509_certificate(alice.certificate.read_bytes()) == alice.parsed
            with Asking(made.client(), running.port("edge"), "staff.example") as client:
                assert client.ask("staff.example", "/public", headers=forged)[2] == b"away"
            assert not [name for name in made.away.heads[-1] if "cert" in name]


def test_what_a_proxy_shows_of_itself_is_not_its_clients(tmp_path: Path) -> None:
    with setting(tmp_path) as made:
        proxy = made.authority.issue(client=True, common_name="proxy", subject={"C": "US"})
        alice = made.other.issue(client=True, common_name="alice", subject={"C": "DE"})
        entry = made.entry("staff.example", made.demanding("required"))
        with start(made.policy(entry, source=FROM_HEADER % ""), tmp_path) as running:
            field = f"Client-Cert: {bad.sequence(bad.der(alice)).decode()}\r\n"
            with Asking(made.client(proxy), running.port("edge"), "staff.example", source=PROXY) as client:
                assert client.ask("staff.example", headers=field)[2] == b"home"
                assert client.ask("staff.example")[0] == 451
            # A client that comes directly is who its own certificate says.
            with Asking(made.client(proxy), running.port("edge"), "staff.example") as client:
                assert client.ask("staff.example", headers=field)[2] == b"away"
