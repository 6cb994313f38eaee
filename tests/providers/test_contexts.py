"""A provider's TLS context, what may be wrong with its files, and how a change of them is seen."""

import ssl

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from proxy.policy.settings import ProviderTls
from proxy.providers.contexts import UnusableFiles, client_certificate_expiry, fingerprint, provider_context
from tests.providers.peers import a_place


def secure(**tls):
    return a_place("storage.example", 443, scheme="https", tls=ProviderTls(**tls))


def test_always_verifies(authority, monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    for provider in (secure(), secure(ca=authority.certificate)):
        context = provider_context(provider)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert not context.hostname_checks_common_name
        assert context.keylog_filename is None
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION


@pytest.mark.parametrize(("least", "version"), [("1.2", ssl.TLSVersion.TLSv1_2), ("1.3", ssl.TLSVersion.TLSv1_3)])
def test_least_version(least, version):
    assert provider_context(secure(min_version=least)).minimum_version is version


def test_ciphers_are_forward_secret_and_authenticated():
    for cipher in provider_context(secure()).get_ciphers():
        assert cipher["name"].startswith(("TLS_", "ECDHE-", "DHE-")), cipher["name"]
        assert cipher["auth"] != "auth-null"
        assert cipher["strength_bits"] >= 128


@pytest.mark.parametrize("scheme", ["http", "tls", "tcp"])
def test_no_context_for_other_schemes(scheme):
    assert provider_context(a_place("storage.example", 443, scheme=scheme)) is None


def test_an_own_ca_is_the_only_ca(authority):
    certificates = provider_context(secure(ca=authority.certificate)).get_ca_certs()
    assert len(certificates) == 1


def test_unusable_files(authority, tmp_path):
    issued = authority.issue(client=True)
    other = authority.issue(client=True)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    binary = tmp_path / "binary"
    binary.write_bytes(bytes(range(256)))
    empty = tmp_path / "empty"
    empty.touch()
    locked = tmp_path / "locked"
    key = load_pem_private_key(issued.key.read_bytes(), None)
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    missing = tmp_path / "missing"

    cases = [
        ({"ca": missing}, "ca", "no such file or directory"),
        ({"ca": tmp_path}, "ca", "is a directory"),
        ({"ca": garbage}, "ca", "holds no certificate"),
        ({"ca": binary}, "ca", "holds no certificate"),
        ({"ca": empty}, "ca", "holds no certificate"),
        ({"ca": issued.key}, "ca", "holds no certificate"),
        ({"client_certificate": missing, "client_key": issued.key}, "client_certificate", "no such file or directory"),
        ({"client_certificate": issued.certificate, "client_key": missing}, "client_key", "no such file or directory"),
        ({"client_certificate": issued.certificate, "client_key": other.key}, "client_key", "is not the certificate's"),
        ({"client_certificate": issued.certificate, "client_key": locked}, "client_key", "unencrypted"),
        ({"client_certificate": issued.certificate, "client_key": empty}, "client_key", "unencrypted"),
        ({"client_certificate": garbage, "client_key": issued.key}, "client_certificate", "is not a certificate"),
        ({"client_certificate": issued.certificate}, "client_certificate", "unencrypted"),
    ]
    for tls, name, what in cases:
        with pytest.raises(UnusableFiles) as caught:
            provider_context(secure(**tls))
        (fault,) = caught.value.faults
        assert (fault.provider, fault.key) == ("storage", name), tls
        assert what in fault.what, tls
        assert str(caught.value).startswith(f"provider storage: tls.{name}: ")


def test_comments_in_a_ca_file_may_be_in_any_script(authority, tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes("# 中国电信 Türk\n".encode() + authority.certificate.read_bytes())
    assert len(provider_context(secure(ca=bundle)).get_ca_certs()) == 1


def test_certificate_and_key_in_one_file(authority, tmp_path):
    issued = authority.issue(client=True)
    both = tmp_path / "both.pem"
    both.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
    assert provider_context(secure(client_certificate=both)) is not None


def test_fingerprint_sees_contents_and_nothing_else(authority, tmp_path):
    issued = authority.issue(client=True)
    paths = {"ca": tmp_path / "ca", "client_certificate": tmp_path / "certificate", "client_key": tmp_path / "key"}
    sources = {"ca": authority.certificate, "client_certificate": issued.certificate, "client_key": issued.key}
    for key, path in paths.items():
        path.write_bytes(sources[key].read_bytes())
    provider = secure(**paths)
    before = fingerprint(provider)
    for key, path in paths.items():
        path.write_bytes(sources[key].read_bytes())  # touched, and the same
        assert fingerprint(provider) == before
        path.write_bytes(sources[key].read_bytes() + b"\n")
        assert fingerprint(provider) != before
        path.unlink()
        assert fingerprint(provider) != before
        path.write_bytes(sources[key].read_bytes())
    assert fingerprint(provider) == before


def test_fingerprint_sees_the_systems_authorities(authority, tmp_path, monkeypatch):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    before = fingerprint(secure())
    assert len(provider_context(secure()).get_ca_certs()) == 1
    bundle.write_bytes(b"")
    assert fingerprint(secure()) != before


def test_expiry_of_what_we_show(authority, tmp_path):
    issued = authority.intermediate("short").issue(client=True)
    provider = secure(client_certificate=issued.certificate, client_key=issued.key)
    assert client_certificate_expiry(provider) == issued.parsed.not_valid_after_utc.timestamp()
    assert client_certificate_expiry(secure()) is None
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"nothing")
    with pytest.raises(UnusableFiles, match="is not a certificate"):
        client_certificate_expiry(secure(client_certificate=garbage))
