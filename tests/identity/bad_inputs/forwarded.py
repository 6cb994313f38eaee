"""Bad certificates, as a trusted proxy forwards them."""

from pathlib import Path

from tests.identity.bad_inputs import certificates
from tests.identity.bad_inputs.table import Table, rows
from tests.identity.house import PROXY

SOURCES = """  sources:
    - client_certificate: {from_header: true, home_from: C, subject_from: CN, actor_from: OU%s}
    - location: {accounts: true}
"""


def write(folder: Path) -> None:
    (folder / "believed.pem").write_bytes(certificates.clients().certificate.read_bytes())


TABLES = [
    Table("forwarded certificates", SOURCES % "", certificates.GOOD, rows(401, certificates.FORWARDED), source=PROXY),
    Table(
        "forwarded certificates, verified again",
        SOURCES % ", ca: believed.pem",
        certificates.GOOD,
        rows(401, certificates.FORWARDED | certificates.UNVERIFIED),
        write,
        source=PROXY,
        credential=lambda: certificates.sequence(certificates.good())[1:-1],
    ),
]
