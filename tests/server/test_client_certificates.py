"""Clients with certificates, over real TLS, through the whole proxy: who comes in by which name, and where they go."""

import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_crl

from tests.authority import Issued, self_signed
from tests.running import PATIENCE, Running, refused, start
from tests.server.certified import WAIT, Asking, Refused, Setting, setting

OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = pytest.mark.parametrize("version", [OLD, NEW], ids=["tls-1.2", "tls-1.3"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    with setting(tmp_path_factory.mktemp("certified")) as each:
        yield each


@pytest.fixture(scope="module")
def edge(made: Setting) -> Iterator[Running]:
    """`open.example` asks nobody and serves who names nobody; `staff.example` demands, `any.example` takes."""
    made.authority.revocation_list([revoked(made)], stem="clients")
    entries = (
        made.entry("open.example"),
        made.entry("staff.example", made.demanding("required", ", crl: clients.crl")),
        made.entry("any.example", made.demanding("optional", ", crl: [clients.crl]")),
        made.entry("*.open.example"),
    )
    with start(made.policy(*entries), made.folder) as running:
        yield running


_REVOKED: list[Issued] = []


def revoked(made: Setting) -> Issued:
    if not _REVOKED:
        _REVOKED.append(made.authority.issue(client=True, common_name="mallory", subject={"C": "DE"}))
    return _REVOKED[0]


def issued(made: Setting, name: str = "alice", country: str = "DE", **more: str) -> Issued:
    return made.authority.issue(client=True, common_name=name, subject={"C": country, **more})


def served(
    made: Setting,
    running: Running,
    host: str,
    shown: Issued | None,
    version: ssl.TLSVersion | None = None,
    sni: str | None = "",
) -> tuple[int, bytes]:
    """One request on a connection of its own. sni: the Host where it is empty. Raises Refused."""
    with Asking(made.client(shown, version), running.port("edge"), host if sni == "" else sni) as client:
        status, _, body = client.ask(host)
        return status, body


def reason(body: bytes) -> bytes:
    found = re.search(rb'"reason":"([^"]*)"', body)
    assert found is not None
    return found[1]


# Who comes in


@VERSIONS
def test_who_is_asked_for_a_certificate_shows_one_or_is_not_heard(
    made: Setting, edge: Running, version: ssl.TLSVersion
) -> None:
    alice = issued(made)
    for name in ("staff.example", "any.example"):
        assert served(made, edge, name, alice, version) == (200, b"home")
    before = made.touched()
    with pytest.raises(Refused):
        served(made, edge, "staff.example", None, version)
    status, body = served(made, edge, "any.example", None, version)
    assert (status, reason(body)) == (451, b"home-unknown")
    assert made.touched() == before


def bad_certificates(made: Setting) -> dict[str, Issued]:
    """Certificates that do not verify, by why."""
    between = made.authority.intermediate("unlisted")
    return {
        "other authority": made.other.issue(client=True, common_name="alice", subject={"C": "DE"}),
        "expired": made.authority.issue(client=True, common_name="alice", subject={"C": "DE"}, expired=True),
        "not yet valid": made.authority.issue(client=True, common_name="alice", subject={"C": "DE"}, early=True),
        "for servers": made.authority.issue(common_name="alice", subject={"C": "DE"}),
        "self-signed": self_signed(made.folder),
        "revoked": revoked(made),
        "of an authority without a list": between.issue(client=True, common_name="alice", subject={"C": "DE"}),
    }


@VERSIONS
def test_what_does_not_verify_is_not_heard(made: Setting, edge: Running, version: ssl.TLSVersion) -> None:
    assert served(made, edge, "any.example", issued(made), version) == (200, b"home")
    before = made.touched()
    for why, certificate in bad_certificates(made).items():
        for name in ("staff.example", "any.example"):
            with pytest.raises(Refused):
                assert served(made, edge, name, certificate, version), (why, name)
    assert made.touched() == before


def test_who_is_not_asked_is_not_known_by_a_certificate(made: Setting, edge: Running) -> None:
    status, body = served(made, edge, "open.example", issued(made))
    assert (status, reason(body)) == (451, b"home-unknown")


# Under which name


@VERSIONS
def test_a_host_is_held_to_what_its_own_name_demands(made: Setting, edge: Running, version: ssl.TLSVersion) -> None:
    alice = issued(made)
    before = made.touched()
    # Without a name the first certificate serves, and it asked nobody.
    for host in ("staff.example", "STAFF.example.:8443", "any.example"):
        for shown in (None, alice):
            status, body = served(made, edge, host, shown, version, sni=None)
            assert (status, reason(body)) == (421, b"host-demands-another-handshake"), host
    for sni, host in (("open.example", "staff.example"), ("any.example", "staff.example")):
        status, body = served(made, edge, host, alice, version, sni=sni)
        assert (status, reason(body)) == (421, b"host-disagrees-with-sni")
    assert made.touched() == before
    # Names that demand the same are served without one.
    for host in ("open.example", "a.open.example", "nobody.example", "127.0.0.1"):
        status, body = served(made, edge, host, None, version, sni=None)
        assert (status, reason(body)) == (451, b"home-unknown"), host


def test_who_names_nobody_is_held_to_the_first_certificates_demand(made: Setting, tmp_path: Path) -> None:
    with setting(tmp_path) as strict:
        entries = (strict.entry("staff.example", strict.demanding("required")), strict.entry("open.example"))
        with start(strict.policy(*entries), tmp_path) as running:
            with pytest.raises(Refused):
                served(strict, running, "staff.example", None, sni=None)
            alice = issued(strict)
            assert served(strict, running, "staff.example", alice, sni=None) == (200, b"home")
            # Under the other name nobody is asked, so nobody is known by a certificate of the first.
            status, body = served(strict, running, "open.example", alice, sni=None)
            assert (status, reason(body)) == (421, b"host-demands-another-handshake")


@VERSIONS
def test_no_session_is_resumed_under_another_name(made: Setting, edge: Running, version: ssl.TLSVersion) -> None:
    names = ("open.example", "any.example", "staff.example")
    alice = made.client(issued(made), version)
    stranger = made.client(None, version)

    def session_of(context: ssl.SSLContext, name: str, session: ssl.SSLSession | None = None) -> tuple[object, bool]:
        with Asking(context, edge.port("edge"), name, session) as client:
            client.ask(name)
            return client.tls.session, bool(client.tls.session_reused)

    for first in names:
        for context in (alice, stranger):
            if (first, context) == ("staff.example", stranger):
                continue
            session, _ = session_of(context, first)
            assert isinstance(session, ssl.SSLSession)
            for second in names:
                if first == second:
                    continue
                if (second, context) == ("staff.example", stranger):
                    with pytest.raises(Refused):
                        session_of(context, second, session)
                else:
                    assert not session_of(context, second, session)[1], (first, second)
            # Only so does the test mean something: what is not refused for its name is resumed.
            resumable = first == "open.example" or version == OLD
            assert session_of(context, first, session)[1] is resumable, first


def test_a_resumed_session_is_still_somebodys(made: Setting, edge: Running) -> None:
    context = made.client(issued(made), OLD)
    with Asking(context, edge.port("edge"), "staff.example") as client:
        session = client.tls.session
        assert client.ask("staff.example")[2] == b"home"
    with Asking(context, edge.port("edge"), "staff.example", session) as client:
        assert client.tls.session_reused
        assert client.ask("staff.example")[2] == b"home"


def test_what_has_expired_is_not_resumed_and_no_longer_believed(made: Setting, edge: Running) -> None:
    """A certificate ends while its connection lives: 401. Its session ends with it."""
    short = made.authority.issue(client=True, common_name="s", subject={"C": "DE"}, life=timedelta(seconds=4))
    context = made.client(short, OLD)
    with Asking(context, edge.port("edge"), "staff.example") as client:
        session = client.tls.session
        assert client.ask("staff.example")[2] == b"home"
        with Asking(context, edge.port("edge"), "staff.example", session) as again:
            assert again.tls.session_reused
            assert again.ask("staff.example")[2] == b"home"
        deadline = time.monotonic() + WAIT
        while (status := client.ask("staff.example")[0]) == 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert status == 401
        before = made.touched()
        with pytest.raises(Refused), Asking(context, edge.port("edge"), "staff.example", session) as late:
            late.ask("staff.example")
        assert made.touched() == before


def test_authorities_are_not_named_to_clients(made: Setting, edge: Running) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port('edge')}", "-servername", "any.example"]
    for version in ("-tls1_2", "-tls1_3"):
        run = subprocess.run([*command, version], input=b"", capture_output=True, check=False, timeout=PATIENCE)
        assert b"No client certificate CA names sent" in run.stdout, run.stdout
        assert b"Acceptable client certificate CA names" not in run.stdout


# Real clients


def curl(made: Setting, running: Running, name: str, *options: str) -> "subprocess.CompletedProcess[str]":
    port = running.port("edge")
    command = ["curl", "-sS", "--cacert", str(made.server.certificate), "--resolve", f"{name}:{port}:127.0.0.1"]
    return subprocess.run(
        [*command, *options, f"https://{name}:{port}/"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl(made: Setting, edge: Running, version: str) -> None:
    alice = issued(made)
    only = (f"--tlsv{version}", "--tls-max", version)
    shown = ("--cert", str(alice.certificate), "--key", str(alice.key))
    assert curl(made, edge, "staff.example", *only, *shown).stdout == "home"
    before = made.touched()
    assert curl(made, edge, "staff.example", *only).returncode != 0
    stranger = made.other.issue(client=True, common_name="alice", subject={"C": "DE"})
    shown = ("--cert", str(stranger.certificate), "--key", str(stranger.key))
    assert curl(made, edge, "staff.example", *only, *shown).returncode != 0
    assert made.touched() == before


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_s_client(made: Setting, edge: Running, version: str) -> None:
    alice = issued(made)
    command = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{edge.port('edge')}", version]
    command += ["-servername", "staff.example", "-CAfile", str(made.server.certificate)]
    request = b"GET / HTTP/1.1\r\nHost: staff.example\r\nConnection: close\r\n\r\n"

    def said(*options: str) -> bytes:
        return subprocess.run(
            [*command, *options], input=request, capture_output=True, timeout=PATIENCE, check=False
        ).stdout

    assert said("-cert", str(alice.certificate), "-key", str(alice.key)).endswith(b"home")
    before = made.touched()
    assert b"HTTP/1.1" not in said()
    bad = revoked(made)
    assert b"HTTP/1.1" not in said("-cert", str(bad.certificate), "-key", str(bad.key))
    assert made.touched() == before


# Where they go


def test_a_certificate_decides_where_data_goes(made: Setting, edge: Running) -> None:
    for country, provider in (("DE", b"home"), ("de", b"home"), ("US", b"away"), ("HK", b"away")):
        assert served(made, edge, "staff.example", issued(made, country=country)) == (200, provider)
    status, body = served(made, edge, "staff.example", issued(made, country="EU"))
    assert (status, reason(body)) == (401, b"credential-invalid")


def test_staff_read_and_may_not_write_abroad(made: Setting, edge: Running) -> None:
    """Their own certificate says Germany; that is where they are from, and nothing of whom they look after."""
    carol = issued(made, "carol", OU="support")
    with Asking(made.client(carol), edge.port("edge"), "staff.example") as client:
        assert client.ask("staff.example")[2] == b"away"
        before = made.touched()
        status, _, body = client.ask("staff.example", method="POST", headers="Content-Length: 0\r\n")
        assert (status, reason(body)) == (451, b"home-unknown")
        assert made.touched() == before
        assert client.ask("staff.example")[2] == b"away"
    status, body = served(made, edge, "staff.example", issued(made, "dave", OU="sales"))
    assert (status, reason(body)) == (401, b"credential-invalid")


def test_neither_log_nor_metrics_name_anybody(made: Setting, edge: Running) -> None:
    served(made, edge, "staff.example", issued(made, "a-very-private-name"))
    page = edge.get("/metrics")[1].decode()
    assert "a-very-private-name" not in page
    for record in edge.records():
        assert "a-very-private-name" not in str(record)
    assert not [line for line in edge.said if "private" in line]
    assert f'name="{made.authority.certificate.name}"' in page
    assert 'name="clients.crl"' in page


def test_what_a_stranger_says_of_certificates_reaches_nobody(made: Setting, edge: Running) -> None:
    headers = "Client-Cert: :AAAA:\r\nclient_cert: x\r\nClient-Cert-Chain: x\r\nX-SSL-Client-Cert: x\r\n"
    with Asking(made.client(issued(made)), edge.port("edge"), "staff.example") as client:
        assert client.ask("staff.example", headers=headers)[2] == b"home"
    sent = made.home.heads[-1]
    assert not [name for name in sent if "cert" in name]


# Chains


def test_chains(tmp_path: Path) -> None:
    """Intermediates come from the client, or stand in `client_ca`, with their root or instead of it."""
    with setting(tmp_path) as made:
        between = made.authority.intermediate()
        below = between.intermediate("lower")
        long, short = (each.issue(client=True, common_name="a", subject={"C": "DE"}) for each in (below, between))
        alone = tmp_path / "alone.pem"
        alone.write_bytes(short.certificate.read_bytes().partition(b"-----END CERTIFICATE-----\n")[0])
        alone.write_bytes(alone.read_bytes() + b"-----END CERTIFICATE-----\n")
        leaf = Issued(alone, short.key, short.pin, short.parsed)
        both, root = tmp_path / "both.pem", made.authority.certificate
        both.write_bytes(b"# \xc3\x89dith's\n" + root.read_bytes() + between.certificate.read_bytes())
        entries = [
            made.entry("root.example", made.demanding("required")),
            made.entry("both.example", ", client_ca: both.pem, client_certificate: required"),
            made.entry("between.example", f", client_ca: {between.certificate.name}, client_certificate: required"),
        ]
        with start(made.policy(*entries), tmp_path) as running:
            for name, comes_in, stays_out in (
                ("root.example", (long, short), (leaf,)),
                ("both.example", (long, short, leaf), ()),
                ("between.example", (long, short, leaf), (issued(made),)),
            ):
                for certificate in comes_in:
                    assert served(made, running, name, certificate) == (200, b"home"), name
                for certificate in stays_out:
                    with pytest.raises(Refused):
                        served(made, running, name, certificate)


# Lists, and reloads


def der(path: Path) -> None:
    path.write_bytes(load_pem_x509_crl(path.read_bytes()).public_bytes(Encoding.DER))


def test_lists_are_of_the_whole_chain_and_reread(tmp_path: Path) -> None:
    with setting(tmp_path) as made:
        between = made.authority.intermediate()
        alice = between.issue(client=True, common_name="alice", subject={"C": "DE"})
        bob = issued(made, "bob")
        made.authority.revocation_list(stem="root")
        der(made.authority.revocation_list(stem="root"))
        between.revocation_list(stem="between")
        policy = made.policy(
            made.entry("open.example"),
            made.entry("staff.example", made.demanding("required", ", crl: [root.crl, between.crl]")),
        )

        def heard(certificate: Issued) -> bool:
            try:
                return served(made, running, "staff.example", certificate) == (200, b"home")
            except Refused:
                return False

        with start(policy, tmp_path) as running:
            assert (heard(alice), heard(bob)) == (True, True)
            with (
                Asking(made.client(alice), running.port("edge"), "staff.example") as hers,
                Asking(made.client(bob), running.port("edge"), "staff.example") as his,
                Asking(made.client(bob), running.port("edge"), "staff.example") as idle,
                Asking(made.client(), running.port("edge"), "open.example") as nobodys,
            ):
                assert hers.ask("staff.example")[2] == his.ask("staff.example")[2] == b"home"
                assert idle.ask("staff.example")[2] == b"home"
                assert nobodys.ask("open.example")[0] == 451
                between.revocation_list([alice], stem="between")
                assert running.reload()
                # Who is on a list now is heard no more, on what connection ever; others go on, and greet anew.
                before = made.touched()
                status, _, body = hers.ask("staff.example")
                assert (status, reason(body)) == (421, b"host-demands-another-handshake")
                assert made.touched() == before
                status, fields, body = his.ask("staff.example")
                assert (status, fields.get("connection"), body) == (200, "close", b"home")
                assert idle.closed()
                status, fields, _ = nobodys.ask("open.example")
                assert (status, fields.get("connection")) == (451, None)
            assert (heard(alice), heard(bob)) == (False, True)

            between.revocation_list(stem="between")
            made.authority.revocation_list([_as_issued(between.parsed)], stem="root")
            assert running.reload()
            assert (heard(alice), heard(bob)) == (False, True)

            made.authority.revocation_list(stem="root")
            assert running.reload()
            assert (heard(alice), heard(bob)) == (True, True)

            for kind in ("expired", "early"):  # nobody is judged by it, and so nobody comes in
                made.authority.revocation_list(stem="root", **{kind: True})  # type: ignore[arg-type]
                assert running.reload()
                assert (heard(alice), heard(bob)) == (False, False), kind
            assert any("the revocation list has expired" in line for line in running.said)

            # A list of another key's is no list, and a policy that could only refuse everybody is none.
            made.authority.revocation_list(stem="root", key=ec.generate_private_key(ec.SECP256R1()))
            assert not running.reload()
            assert any("`crl` has no list of certificate 1" in line for line in running.said)


def _as_issued(parsed: object) -> Issued:
    return Issued(Path(), Path(), b"", parsed)  # type: ignore[arg-type]


def test_a_reload_reads_the_authorities_again(tmp_path: Path) -> None:
    with setting(tmp_path) as made:
        alice, stranger = issued(made), made.other.issue(client=True, common_name="x", subject={"C": "US"})
        policy = made.policy(made.entry("staff.example", made.demanding("required")))
        with start(policy, tmp_path) as running:
            assert served(made, running, "staff.example", alice) == (200, b"home")
            with pytest.raises(Refused):
                served(made, running, "staff.example", stranger)
            made.authority.certificate.write_bytes(made.other.certificate.read_bytes())
            assert running.reload()
            with pytest.raises(Refused):
                served(made, running, "staff.example", alice)
            assert served(made, running, "staff.example", stranger) == (200, b"away")


def test_a_demand_that_a_reload_brings_holds_for_living_connections(tmp_path: Path) -> None:
    with setting(tmp_path) as made:
        entry = made.entry("open.example")
        with start(made.policy(entry), tmp_path) as running:
            with Asking(made.client(), running.port("edge"), "open.example") as client:
                assert client.ask("open.example", "/public")[2] == b"away"
                assert running.reload(made.policy(entry.replace("}", made.demanding("required") + "}")))
                before = made.touched()
                status, _, body = client.ask("open.example", "/public")
                assert (status, reason(body)) == (421, b"host-demands-another-handshake")
                assert made.touched() == before
            with Asking(made.client(issued(made)), running.port("edge"), "open.example") as client:
                assert client.ask("open.example", "/public")[2] == b"away"


def test_a_connection_from_before_the_listener_spoke_tls_has_met_no_demand(tmp_path: Path) -> None:
    with setting(tmp_path) as made:
        guarded = made.policy(made.entry("open.example", made.demanding("required")))
        plain = guarded[: guarded.index("    tls:\n")]
        with (
            start(plain, tmp_path) as running,
            socket.create_connection(("127.0.0.1", running.port("edge")), timeout=WAIT) as client,
        ):
            answers = client.makefile("rb")
            for status in (b"200", b"421"):
                before = made.touched()
                client.sendall(b"GET /public HTTP/1.1\r\nHost: open.example\r\n\r\n")
                assert answers.readline().split()[1] == status
                while (line := answers.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                answers.read(length)
                assert made.touched() == before + (status == b"200")
                assert running.reload(guarded)


def test_a_file_that_holds_no_list_keeps_it_from_starting(tmp_path: Path) -> None:
    with setting(tmp_path) as made:
        made.authority.revocation_list(stem="root")
        policy = made.policy(made.entry("a.example", made.demanding("required", ", crl: root.crl")))
        (tmp_path / "root.crl").write_bytes(b"junk")
        said = "\n".join(refused(policy, tmp_path).said)
        assert "`root.crl` holds no revocation list" in said
