"""What a client's certificate says of its subject and home, and what is never believed."""

import subprocess
import time
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.identity.answers import Home, Invalid, Silent
from proxy.identity.certificate_fields import FIELDS
from proxy.identity.client_certificate import ClientCertificateSource, open_client_certificate
from proxy.identity.evidence import Evidence
from proxy.policy.subject import CertificatePlace, ClientCertificate
from tests.authority import Authority, Issued, make_authority

NOBODY = Silent()
C, CN, OU = (CertificatePlace("field", name) for name in ("C", "CN", "OU"))
NAMES = {"C": NameOID.COUNTRY_NAME, "CN": NameOID.COMMON_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def source(
    home: CertificatePlace | None = C,
    subject: CertificatePlace = CN,
    actor: CertificatePlace | None = OU,
    *,
    header: bool = False,
    ca: Path | None = None,
    forward: bool = False,
) -> ClientCertificateSource:
    definition = ClientCertificate(home, subject, actor, header, ca, forward)
    return open_client_certificate(definition, frozenset({"support"}))


def named(*fields: tuple[str, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(NAMES[field], value) for field, value in fields])


def der(issued: Issued) -> bytes:
    return issued.parsed.public_bytes(Encoding.DER)


def asked(
    asking: ClientCertificateSource, certificate: bytes | None, now: float | None = None
) -> Home | Silent | Invalid:
    # At the moment of asking: a certificate may have been made a second ago, and the tests run for minutes.
    moment = time.time() + 1 if now is None else now
    return asking.answer(Evidence((), client_certificate=certificate), NOBODY, moment)


def subject_answer(authority: Authority, *fields: tuple[str, str]) -> Home | Silent | Invalid:
    return asked(source(), der(authority.issue(client=True, name=named(*fields))))


def test_a_certificate_names_its_subject_and_home(authority: Authority) -> None:
    issued = authority.issue(client=True, common_name="alice", subject={"C": "DE"})
    until = issued.parsed.not_valid_after_utc.timestamp()
    assert asked(source(), der(issued)) == Home("DE", "alice", "subject", until)
    assert asked(source(home=None), der(issued)) == Silent("alice", "subject", until)
    assert asked(source(), None) == NOBODY


def test_without_the_home_it_is_silent_and_without_the_subject_invalid(authority: Authority) -> None:
    answer = subject_answer(authority, ("CN", "bob"))
    assert isinstance(answer, Silent)
    assert (answer.subject, answer.actor) == ("bob", "subject")
    assert subject_answer(authority, ("C", "DE")) == Invalid("client_certificate", "subject")
    assert asked(source(), der(authority.issue(client=True, name=x509.Name([])))) == Invalid(
        "client_certificate", "subject"
    )


def test_staff_have_no_home_of_their_own(authority: Authority) -> None:
    answer = subject_answer(authority, ("CN", "carol"), ("C", "DE"), ("OU", "support"))
    assert isinstance(answer, Silent)
    assert (answer.subject, answer.actor) == ("carol", "support")
    for kind in ("sales", "subject", "unknown", "Support"):
        found = subject_answer(authority, ("CN", "carol"), ("C", "DE"), ("OU", kind))
        assert found == Invalid("client_certificate", "actor")


@pytest.mark.parametrize("field", ["C", "CN", "OU"])
def test_a_field_that_is_there_twice_says_nothing(authority: Authority, field: str) -> None:
    fields = [("C", "DE"), ("CN", "alice"), ("OU", "support")]
    for again in ("DE", "FR"):
        assert subject_answer(authority, *fields, (field, again)) == Invalid("client_certificate", "ambiguous")
    # Fields that nobody asks for may be there as often as they like.
    asking = source(home=C, subject=CN, actor=None)
    certificate = authority.issue(client=True, name=named(*fields, ("OU", "again")))
    assert isinstance(asked(asking, der(certificate)), Home)


def test_two_fields_in_one_set_are_two(authority: Authority) -> None:
    pair = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NAMES["CN"], "alice"), x509.NameAttribute(NAMES["OU"], "support")]
    )
    answer = asked(source(), der(authority.issue(client=True, name=x509.Name([pair]))))
    assert isinstance(answer, Silent)
    assert (answer.subject, answer.actor) == ("alice", "support")
    twice = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NAMES["CN"], "alice"), x509.NameAttribute(NAMES["CN"], "bob")]
    )
    assert asked(source(), der(authority.issue(client=True, name=x509.Name([twice])))) == Invalid(
        "client_certificate", "ambiguous"
    )


@pytest.mark.parametrize(
    "value",
    [
        "alice\0",
        "alice\0.example",
        "al\nice",
        "al\tice",
        "\x7f",
        "\x9b31m",
        "al\u202eice",
        "a\u2066b",
        "a\u200bb",
        "\ufeffalice",
        "a\xadb",
        "a\ue000",
        "a\u2028b",
        " alice",
        "alice ",
        "alice\xa0",
        " ",
        "x" * 513,
        "é" * 257,
    ],
)
@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_what_people_and_programs_read_differently_is_refused(authority: Authority, value: str) -> None:
    # UTF8String, of a length that the library would not write by itself
    attribute = x509.NameAttribute(NAMES["CN"], value, _validate=False)
    certificate = authority.issue(client=True, name=x509.Name([attribute]))
    assert asked(source(), der(certificate)) == Invalid("client_certificate", "malformed")


@pytest.mark.parametrize("value", ["alice", "Zoë Müller", "山田 太郎", "x" * 512, "a,b=c+d", "alice@example.com", "42"])
@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_any_script_is_a_name(authority: Authority, value: str) -> None:
    attribute = x509.NameAttribute(NAMES["CN"], value, _validate=False)
    answer = asked(source(), der(authority.issue(client=True, name=x509.Name([attribute]))))
    assert isinstance(answer, Silent)
    assert answer.subject == value


OPENSSL = """
[req]
prompt = no
distinguished_name = dn
{settings}
[dn]
{name}
"""


def made_by_openssl(folder: Path, name: str, settings: str = "string_mask = utf8only", *options: str) -> bytes:
    """A self-signed certificate, DER, with this distinguished name."""
    (folder / "odd.cnf").write_text(OPENSSL.format(settings=settings, name=name))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-config", "odd.cnf", "-keyout", "odd.key", "-outform", "DER", "-out", "odd.der", *options]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "odd.der").read_bytes()


def test_strings_of_other_types_are_refused(tmp_path: Path) -> None:
    good = made_by_openssl(tmp_path, "C = DE\nCN = alice\n")
    assert isinstance(asked(source(), good), Home)
    for mask in ("nombstr", "MASK:0x800", "MASK:0x4", "MASK:0x100"):  # T61String, BMPString, UniversalString
        odd = made_by_openssl(tmp_path, "CN = zoë-alice\n", f"string_mask = {mask}\nutf8 = yes")
        assert asked(source(), odd) == Invalid("client_certificate", "malformed"), mask
        # What nobody asks for is nobody's business.
        other = made_by_openssl(tmp_path, "C = DE\nO = zoë\nCN = alice\n", "utf8 = yes\nstring_mask = utf8only")
        assert isinstance(asked(source(), other), Home)


def test_a_bmp_string_hides_nothing(tmp_path: Path) -> None:
    # Read as bytes it is \\0a\\0d\\0m\\0i\\0n; read as UTF-8 it is a name with NULs
    odd = made_by_openssl(tmp_path, "CN = admin\n", "string_mask = MASK:0x800")
    assert b"\x1e\x0a\x00a\x00d\x00m\x00i\x00n" in odd
    assert asked(source(), odd) == Invalid("client_certificate", "malformed")


def test_multi_valued_sets_of_openssl(tmp_path: Path) -> None:
    odd = made_by_openssl(tmp_path, "C = DE\nCN = alice\n+OU = support\n")
    answer = asked(source(), odd)
    assert isinstance(answer, Silent)
    assert (answer.subject, answer.actor) == ("alice", "support")
    odd = made_by_openssl(tmp_path, "0.CN = alice\n1.CN = bob\nC = DE\n")
    assert asked(source(), odd) == Invalid("client_certificate", "ambiguous")


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_that_a_policy_may_name_is_openssls(tmp_path: Path, field: str) -> None:
    value = "DE" if field == "C" else "there"
    odd = made_by_openssl(tmp_path, f"{field} = {value}\n")
    answer = asked(source(home=None, subject=CertificatePlace("field", field), actor=None), odd)
    assert isinstance(answer, Silent), answer
    assert answer.subject == value


URI, DNS, EMAIL = x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name


@pytest.mark.parametrize(
    ("place", "names", "value"),
    [
        (CertificatePlace("uri", "spiffe://example/{}"), [URI("spiffe://example/ns/a/sa/b")], "ns/a/sa/b"),
        (CertificatePlace("uri", "urn:residency:{}"), [URI("urn:residency:DE"), URI("urn:other:CN")], "DE"),
        (CertificatePlace("uri", "urn:{}:de"), [URI("urn:x:de"), URI("URN:y:de"), URI("urn:y:DE")], "x"),
        (CertificatePlace("dns", "{}.clients.example"), [DNS("Alice.Clients.example"), DNS("a.b.example")], "alice"),
        (CertificatePlace("dns", "{}.clients.example"), [DNS("a.b.clients.example")], None),
        (CertificatePlace("email", "{}@example.com"), [EMAIL("alice@example.com"), EMAIL("a@example.org")], "alice"),
        (CertificatePlace("uri", "urn:residency:{}"), [URI("urn:residency:")], None),
        (CertificatePlace("uri", "ab{}ba"), [URI("aba")], None),
        (CertificatePlace("uri", "urn:residency:{}"), [DNS("urn.residency.de")], None),
        (CertificatePlace("uri", "urn:residency:{}"), [], None),
    ],
)
def test_alternative_names(
    authority: Authority, place: CertificatePlace, names: list[x509.GeneralName], value: str | None
) -> None:
    certificate = authority.issue(client=True, common_name="fallback", alternatives=names)
    answer = asked(source(home=place), der(certificate))
    if value is None:
        assert isinstance(answer, Silent)
        assert answer.subject == "fallback"
    else:
        assert isinstance(answer, Home)
        assert answer.home == value


def test_two_alternative_names_that_fit_say_nothing(authority: Authority) -> None:
    names = [URI("urn:residency:DE"), URI("urn:residency:CN")]
    place = CertificatePlace("uri", "urn:residency:{}")
    assert asked(source(home=place), der(authority.issue(client=True, alternatives=names))) == Invalid(
        "client_certificate", "ambiguous"
    )


def test_time_is_compared_at_every_request(authority: Authority) -> None:
    issued = authority.issue(client=True, common_name="alice", subject={"C": "DE"})
    asking = source()
    since, until = (
        issued.parsed.not_valid_before_utc.timestamp(),
        issued.parsed.not_valid_after_utc.timestamp(),
    )
    assert isinstance(asked(asking, der(issued), until - 1), Home)  # remembered from here on
    assert asked(asking, der(issued), until) == Invalid("client_certificate", "expired")
    assert asked(asking, der(issued), since - 1) == Invalid("client_certificate", "not-yet")
    assert isinstance(asked(asking, der(issued), since), Home)
    assert asked(source(), der(issued), until) == Invalid("client_certificate", "expired")


# Forwarded by a trusted proxy


def sequence(data: bytes) -> bytes:
    return b":%b:" % b64encode(data)


def forwarding(
    asking: ClientCertificateSource,
    *fields: tuple[bytes, bytes],
    trusted: bool = True,
    own: bytes | None = None,
    now: float | None = None,
) -> Home | Silent | Invalid:
    moment = time.time() + 1 if now is None else now
    return asking.answer(Evidence(fields, client_certificate=own, trusted=trusted), NOBODY, moment)


def test_only_a_trusted_proxys_field_is_read(authority: Authority) -> None:
    alice = authority.issue(client=True, common_name="alice", subject={"C": "DE"})
    proxy = authority.issue(client=True, common_name="proxy", subject={"C": "FR"})
    field = (b"client-cert", sequence(der(alice)))
    answer = forwarding(source(header=True), field, own=der(proxy))
    assert isinstance(answer, Home)
    assert (answer.home, answer.subject) == ("DE", "alice")
    # The proxy's own certificate says who the proxy is.
    assert forwarding(source(header=True), own=der(proxy)) == NOBODY
    # Anybody else's field is nothing, whatever it holds; their own certificate is theirs.
    assert forwarding(source(header=True), field, trusted=False) == NOBODY
    assert forwarding(source(header=True), (b"client-cert", b"junk"), trusted=False) == NOBODY
    answer = forwarding(source(header=True), field, trusted=False, own=der(proxy))
    assert isinstance(answer, Home)
    assert answer.subject == "proxy"
    # Nor is it read where the policy does not say so.
    assert forwarding(source(), field) == NOBODY


def test_a_forwarded_chain_is_verified_again_where_there_is_a_ca(authority: Authority, tmp_path: Path) -> None:
    between = authority.intermediate()
    alice = between.issue(client=True, common_name="alice", subject={"C": "DE"})
    chain = (b"client-cert-chain", sequence(between.parsed.public_bytes(Encoding.DER)))
    asking = source(header=True, ca=authority.certificate)
    leaf = (b"client-cert", sequence(der(alice)))
    answer = forwarding(asking, leaf, chain)
    assert isinstance(answer, Home)
    assert answer.subject == "alice"
    issuer = Invalid("client_certificate", "issuer")
    assert forwarding(asking, leaf) == issuer  # remembered by the whole chain, not by the leaf
    stranger = make_authority(tmp_path, "stranger")
    for other in (
        stranger.issue(client=True, common_name="alice", subject={"C": "DE"}),
        authority.issue(common_name="alice", subject={"C": "DE"}),  # for servers
    ):
        assert forwarding(asking, (b"client-cert", sequence(der(other)))) == issuer
        # A proxy that alone is believed has looked at that itself.
        assert isinstance(forwarding(source(header=True), (b"client-cert", sequence(der(other)))), Home)
    # A leaf does not vouch for others.
    leafs = authority.issue(client=True, common_name="bob")
    forged = Authority(tmp_path, "forged", leafs.certificate, leafs.parsed, ec.generate_private_key(ec.SECP256R1()))
    under = forged.issue(client=True, common_name="alice", subject={"C": "DE"})
    assert forwarding(asking, (b"client-cert", sequence(der(under))), (b"client-cert-chain", sequence(der(leafs)))) == (
        issuer
    )


EXTENSIONS = "basicConstraints = CA:FALSE\nextendedKeyUsage = clientAuth\nauthorityKeyIdentifier = keyid\n"


def test_what_openssl_makes_is_verified_too(tmp_path: Path) -> None:
    def openssl(*command: str) -> None:
        subprocess.run(["openssl", *command], cwd=tmp_path, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=root")
    openssl("req", *key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/C=DE/CN=alice")
    (tmp_path / "extensions").write_text(EXTENSIONS)
    signing = ("-CA", "root.pem", "-CAkey", "root.key", "-extfile", "extensions", "-outform", "DER")
    openssl("x509", "-req", "-in", "leaf.csr", *signing, "-out", "leaf.der")
    leaf = (tmp_path / "leaf.der").read_bytes()
    answer = forwarding(source(header=True, ca=tmp_path / "root.pem"), (b"client-cert", sequence(leaf)))
    assert isinstance(answer, Home), answer


def test_what_the_provider_is_told(authority: Authority) -> None:
    alice = der(authority.issue(client=True, common_name="alice"))
    shown = Evidence((), client_certificate=alice)
    line = b"Client-Cert: %b\r\n" % sequence(alice)
    both = frozenset({b"client-cert", b"client-cert-chain"})
    assert (source().added(shown), source().withheld(())) == (b"", both)
    assert (source(forward=True).added(shown), source(forward=True).withheld(())) == (line, both)
    through = source(header=True, forward=True)
    assert (through.added(shown), through.withheld(())) == (line, frozenset())
    assert through.added(Evidence((), client_certificate=alice, trusted=True)) == b""
    assert through.added(Evidence(())) == b""


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_certificate_that_was_changed_says_something_else_quietly(data: st.DataObject) -> None:
    """A certificate with one byte changed is read as a certificate or refused; nothing is raised."""
    whole = _changed_certificate()
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    assert isinstance(asked(source(), changed), Home | Silent | Invalid)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert asked(source(), cut) == Invalid("client_certificate", "malformed")


def _changed_certificate() -> bytes:
    if not _KEPT:
        key = ec.generate_private_key(ec.SECP256R1())
        name = named(("C", "DE"), ("CN", "alice"), ("OU", "support"))
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now - timedelta(1), now + timedelta(1))
        from cryptography.hazmat.primitives import hashes

        signed = builder.add_extension(x509.SubjectAlternativeName([URI("urn:residency:DE")]), critical=False)
        _KEPT.append(signed.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    return _KEPT[0]


_KEPT: list[bytes] = []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_field_that_was_changed_is_read_as_another_certificate(data: st.DataObject) -> None:
    whole = sequence(_changed_certificate())
    asking = source(header=True)
    good = forwarding(asking, (b"client-cert", whole))
    assert isinstance(good, Silent)
    at = data.draw(st.integers(0, len(whole) - 1))
    inserted = data.draw(st.binary(max_size=3))
    changed = whole[:at] + inserted + whole[at + data.draw(st.integers(0, 3)) :]
    answer = forwarding(asking, (b"client-cert", changed), (b"x-other", b""))
    assert changed == whole or isinstance(answer, Invalid | Silent | Home)
    if len(changed) != len(whole) and not isinstance(answer, Invalid):
        # What still is one has the bytes of one: nothing was skipped on the way.
        assert sequence(b64decode(changed[1:-1], validate=True)) == changed
