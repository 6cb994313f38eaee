"""What a listener believes about its clients: files that cannot serve, what is asked of sessions and certificates."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.http1.demands import NOTHING
from proxy.policy.settings import Certificate
from proxy.server.client_trust import UnusableTrust, open_client_trust
from tests.authority import Authority, Issued, make_authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


def demanding(ca: Path, *lists: Path) -> Certificate:
    return Certificate(Path("a.pem"), Path("a.key"), ca, "required", lists)


def der(issued: Issued) -> bytes:
    return issued.parsed.public_bytes(Encoding.DER)


def test_a_list_names_certificates_of_its_own_issuer(authority: Authority, tmp_path: Path) -> None:
    other = make_authority(tmp_path, "other")
    bad, good, others = authority.issue(client=True), authority.issue(client=True), other.issue(client=True)
    lists = (authority.revocation_list([bad, others]), other.revocation_list())
    revoked = open_client_trust(demanding(authority.certificate, *lists)).demand.revoked
    assert revoked(der(bad))
    assert not revoked(der(good))
    assert not revoked(der(others))  # whose serial number another's list has


def test_a_session_holds_while_everything_it_rests_on_does(authority: Authority) -> None:
    now = time.time()
    issued = authority.issue(client=True, life=timedelta(hours=1))
    for lists, until in (((), 3600.0), ((authority.revocation_list(),), 3600.0)):
        resumes = open_client_trust(demanding(authority.certificate, *lists)).demand.resumes
        assert resumes(der(issued), now + 60)
        assert not resumes(der(issued), now + until + 60)
        assert not resumes(der(issued), now - 40 * 86400)
        assert resumes(None, now)
    long = authority.issue(client=True)
    assert open_client_trust(demanding(authority.certificate)).demand.resumes(der(long), now + 2 * 86400)
    with_list = open_client_trust(demanding(authority.certificate, authority.revocation_list())).demand
    assert not with_list.resumes(der(long), now + 2 * 86400)


def test_files_decide_the_demand(authority: Authority, tmp_path: Path) -> None:
    assert open_client_trust(Certificate(Path("a.pem"), Path("a.key"))).demand is NOTHING
    crl = authority.revocation_list()
    one = open_client_trust(demanding(authority.certificate, crl))
    assert one.demand == open_client_trust(demanding(authority.certificate, crl)).demand
    assert one.expiries.keys() == {authority.certificate, crl}
    authority.revocation_list([authority.issue(client=True)])
    assert one.demand != open_client_trust(demanding(authority.certificate, crl)).demand


def test_files_that_cannot_serve_are_named(authority: Authority, tmp_path: Path) -> None:
    junk, gone = tmp_path / "junk", tmp_path / "gone"
    junk.write_bytes(b"junk")
    for certificate, said in (
        (demanding(gone), "gone: no such file"),
        (demanding(junk), "junk: not PEM certificates"),
        (demanding(authority.certificate, gone), "gone: no such file"),
        (demanding(authority.certificate, junk), "junk: not revocation lists"),
        (demanding(authority.certificate, authority.certificate), "not revocation lists"),
    ):
        with pytest.raises(UnusableTrust, match=said):
            open_client_trust(certificate)
