"""Contexts of TLS listeners: which name gets which certificate, and what the operator is told."""

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.policy.settings import Certificate, Listener, TcpBind
from proxy.server.certificates import CertificateError, open_certificates
from tests.server.minted import END, mint


def listener(*certificates: Certificate, name: str = "edge", min_version: str = "1.2") -> Listener:
    assert min_version in ("1.2", "1.3")
    return Listener(name, (TcpBind("127.0.0.1", 0),), "http", certificates, min_version)  # type: ignore[arg-type]


def test_names_choose(tmp_path: Path) -> None:
    first = mint(tmp_path, "first", "first.example", serial=1)
    wild = mint(tmp_path, "wild", "*.app.example", "app.example", serial=2)
    exact = mint(tmp_path, "exact", "EXACT.app.example", "exact.app.example", serial=3)
    again = mint(tmp_path, "again", "app.example", "*.app.example", serial=4)
    nobody = mint(tmp_path, "nobody", serial=5)
    opened, _ = open_certificates([listener(first, wild, exact, again, nobody)])
    certificates = opened["edge"]
    for name, index in {
        None: 0,
        "first.example": 0,
        "app.example": 1,
        "a.app.example": 1,
        "exact.app.example": 2,
        "a.b.app.example": 0,
        "example": 0,
        "other.example": 0,
        "xapp.example": 0,
    }.items():
        assert certificates.choose(name) == index, name


def test_contexts_are_modern_and_apart(tmp_path: Path) -> None:
    one, two = mint(tmp_path, "one", "one.example", serial=1), mint(tmp_path, "two", "two.example", serial=2)
    opened, _ = open_certificates([listener(one, two, min_version="1.3"), listener(one, name="other")])
    contexts = [*opened["edge"].contexts, *opened["other"].contexts]
    assert len(set(map(id, contexts))) == 3
    for context in contexts:
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION
    assert [context.minimum_version for context in contexts] == [
        ssl.TLSVersion.TLSv1_3,
        ssl.TLSVersion.TLSv1_3,
        ssl.TLSVersion.TLSv1_2,
    ]


def test_plain_listeners_have_none(tmp_path: Path) -> None:
    assert open_certificates([listener()]) == ({}, {})


def test_expiries_are_named_by_file(tmp_path: Path) -> None:
    sooner = datetime.datetime(2027, 6, 1, tzinfo=datetime.UTC)
    (tmp_path / "other").mkdir()
    lone = mint(tmp_path, "lone", "a.example", serial=1, until=sooner)
    one = mint(tmp_path, "same", "b.example", serial=2)
    two = mint(tmp_path / "other", "same", "c.example", serial=3)
    _, expiries = open_certificates([listener(lone, one), listener(two, one, name="other")])
    assert expiries == {
        "lone.pem": sooner.timestamp(),
        str(tmp_path / "same.pem"): END.timestamp(),
        str(tmp_path / "other" / "same.pem"): END.timestamp(),
    }


def test_every_mistake_is_told(tmp_path: Path) -> None:
    good, other = mint(tmp_path, "good", "a.example", serial=1), mint(tmp_path, "other", "b.example", serial=2)
    junk = tmp_path / "junk.pem"
    junk.write_text("not a certificate")
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(CertificateError) as caught:
        open_certificates(
            [
                listener(
                    good,
                    Certificate(tmp_path / "gone.pem", good.key),
                    Certificate(junk, good.key),
                    Certificate(good.certificate, other.key),
                    Certificate(good.certificate, junk),
                    Certificate(good.certificate, locked),
                    Certificate(good.certificate, tmp_path / "gone.key"),
                )
            ]
        )
    told = [mistake.removeprefix("listener edge: ") for mistake in caught.value.mistakes]
    assert told == [
        f"{tmp_path}/gone.pem: no such file or directory",
        f"{junk}: not a PEM certificate",
        f"{other.key}: is not the key of {good.certificate}",
        f"{good.certificate} with {junk}: cannot be used (no PEM key)",
        f"{locked}: is encrypted",
        f"{tmp_path}/gone.key: no such file or directory",
    ]
