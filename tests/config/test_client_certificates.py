"""Clients' certificates in the policy file: what it becomes, and what is refused."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_crl

from proxy.config import Note, load
from proxy.config.clients import FIELDS
from proxy.identity import certificate_fields
from proxy.policy.settings import Certificate
from proxy.policy.subject import CertificatePlace, ClientCertificate
from tests.authority import Authority, make_authority
from tests.config.marked import assert_marked, completed, loaded, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A server's certificate `us`, authorities `ca` and `old`, lists of theirs, and an intermediate alone."""
    ca = make_authority(tmp_path, "ca")
    us = ca.issue(names=["a.example"])
    us.certificate.rename(tmp_path / "us.pem")
    us.key.rename(tmp_path / "us.key")
    ca.revocation_list(stem="ca")
    (tmp_path / "der.crl").write_bytes(load_pem_x509_crl((tmp_path / "ca.crl").read_bytes()).public_bytes(Encoding.DER))
    ca.revocation_list(stem="expired", expired=True)
    ca.revocation_list(stem="forged", key=ec.generate_private_key(ec.SECP256R1()))
    other = make_authority(tmp_path, "other")
    other.revocation_list(stem="other")
    (tmp_path / "both.pem").write_bytes(ca.certificate.read_bytes() + other.certificate.read_bytes())
    (tmp_path / "both.crl").write_bytes((tmp_path / "ca.crl").read_bytes() + (tmp_path / "other.crl").read_bytes())
    ca.intermediate("between").revocation_list(stem="between")
    (tmp_path / "old.pem").write_bytes(_old(tmp_path, ca))
    (tmp_path / "junk").write_bytes(b"junk")
    return tmp_path


def _old(folder: Path, ca: Authority) -> bytes:
    return ca.issue(common_name="old", client=True, life=timedelta(days=-1)).certificate.read_bytes()


def entry(rest: str) -> str:
    return (
        (
            'listeners:\n  - {name: edge, bind: "127.0.0.1:0", tls: {certificates: '
            f"[{{certificate: us.pem, key: us.key, {rest}}}]}}}}"
        )
        .replace("[{certificate", "[▲{certificate" if rest.startswith("▲▲") else "[{certificate")
        .replace("▲▲", "")
    )


def source(body: str, proxies: str = "") -> str:
    return f"subject:\n  sources: [{{client_certificate: {{{body}}}}}]\n{proxies}"


MISTAKES = [
    (entry("client_certificate: ▲maybe"), "is not among the choices"),
    (entry("client_ca: ▲gone.pem, client_certificate: required"), "cannot be read"),
    (entry("client_ca: ▲junk, client_certificate: required"), "holds no PEM certificates"),
    (entry("client_ca: ca.pem, client_certificate: required, crl: ▲gone.crl"), "cannot be read"),
    (entry("client_ca: ca.pem, client_certificate: required, crl: ▲junk"), "holds no revocation list"),
    (entry("client_ca: ca.pem, client_certificate: required, crl: [ca.crl, ▲us.pem]"), "holds no revocation list"),
    (entry("▲▲client_certificate: required"), "without `client_ca`"),
    (entry("▲▲client_ca: ca.pem"), "alone asks nobody"),
    (entry("▲▲client_ca: ca.pem, client_certificate: none"), "alone asks nobody"),
    (entry("▲▲crl: ca.crl"), "`crl` without `client_ca`"),
    (entry("▲▲client_ca: both.pem, client_certificate: optional, crl: ca.crl"), "no list of certificate 2"),
    (entry("▲▲client_ca: ca.pem, client_certificate: optional, crl: forged.crl"), "no list of certificate 1"),
    (
        entry("▲▲client_ca: ca-between.pem, client_certificate: optional, crl: [between.crl, ca.crl]"),
        "certificate 1 of `client_ca` has no issuer there",
    ),
    (source("home_from: ▲Country"), "is no field of a subject"),
    (source("home_from: ▲c"), "did you mean `C`?"),
    (source("subject_from: ▲[CN, OU]"), "expected a single value"),
    (source("subject_from: ▲{}"), "the place is not one"),
    (source("subject_from: ▲{uri: 'a{}', dns: '{}.b'}"), "the place is not one"),
    (source("subject_from: {uri: ▲'spiffe://example/'}"), "write {} once"),
    (source("subject_from: {uri: ▲'a{}b{}'}"), "write {} once"),
    (source("subject_from: {uri: ▲'a{b}{}'}"), "write {} once"),
    (source("subject_from: {uri: ▲'a {}'}"), "fits no name"),
    (source("subject_from: {dns: ▲'{}.bücher.example'}"), "fits no name"),
    (source("subject_from: {▲ip: '{}'}"), "unknown key"),
    (source("from_header: ▲true"), "believes nobody"),
    (source("from_header: ▲yes", "  trusted_proxies: 10.0.0.1"), "is neither true nor false"),
    ("subject:\n  sources: [{client_certificate: ▲{ca: ca.pem}}]", "`ca` without `from_header`"),
    (source("ca: ▲junk, from_header: true", "  trusted_proxies: 10.0.0.1"), "holds no PEM certificates"),
    (source("▲jwks: a"), "unknown key"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES)
def test_each_mistake_is_said_at_its_place(folder: Path, text: str, said: str) -> None:
    assert_marked(folder, text, said)


def test_what_an_entry_becomes(folder: Path) -> None:
    def becomes(rest: str) -> Certificate:
        listener = loaded(folder, entry(rest)).policy.listeners[0]
        return listener.certificates[0]

    pair = folder / "us.pem", folder / "us.key"
    assert becomes("client_certificate: none") == Certificate(*pair)
    assert becomes("client_ca: ca.pem, client_certificate: optional") == Certificate(
        *pair, folder / "ca.pem", "optional"
    )
    for lists in ("ca.crl", "[ca.crl]", "der.crl", "[der.crl, between.crl]"):
        found = becomes(f"client_ca: ca.pem, client_certificate: required, crl: {lists}")
        assert found.client_certificate == "required"
        assert found.crl == tuple(folder / name for name in lists.strip("[]").split(", "))
    becomes("client_ca: both.pem, client_certificate: required, crl: both.crl")


def test_what_a_source_becomes(folder: Path) -> None:
    def becomes(body: str, proxies: str = "") -> ClientCertificate:
        (found,) = loaded(folder, source(body, proxies)).policy.subject.sources
        assert isinstance(found, ClientCertificate)
        return found

    name = CertificatePlace("field", "CN")
    assert becomes("") == ClientCertificate(None, name, None, False, None, False)
    assert becomes("home_from: C, actor_from: OU, forward: true") == ClientCertificate(
        CertificatePlace("field", "C"), name, CertificatePlace("field", "OU"), False, None, True
    )
    found = becomes(
        "home_from: {uri: 'urn:residency:{}'}, subject_from: {dns: '{}.Clients.example'}, actor_from: {email: '{}@x'},"
        " from_header: true, ca: ca.pem",
        "  trusted_proxies: 10.0.0.1",
    )
    assert found == ClientCertificate(
        CertificatePlace("uri", "urn:residency:{}"),
        CertificatePlace("dns", "{}.clients.example"),
        CertificatePlace("email", "{}@x"),
        True,
        folder / "ca.pem",
        False,
    )


def test_the_fields_are_those_that_are_read() -> None:
    assert set(FIELDS) == set(certificate_fields.FIELDS)


def test_what_has_expired_is_a_finding(folder: Path) -> None:
    text = entry("client_ca: ▲old.pem, client_certificate: optional")
    (note,) = _aged(folder, text)
    assert "has expired" in note.what
    assert (note.line, note.column) == (2, text.splitlines()[1].index("▲") + 1)
    for lists in ("▲expired.crl", "[ca.crl, ▲expired.crl]"):
        text = entry(f"client_ca: ca.pem, client_certificate: optional, crl: {lists}")
        (note,) = _aged(folder, text)
        assert "the revocation list has expired" in note.what
        assert (note.line, note.column) == (2, text.splitlines()[1].index("▲") + 1)


def _aged(folder: Path, text: str) -> tuple[Note, ...]:
    return load(write(folder, completed(text)), {}, time.time()).findings
