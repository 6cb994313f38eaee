"""Keys that no directory can be asked about."""

from pathlib import Path

from tests.cli.directories import import_text, policy_with_directory
from tests.http1.staging import request
from tests.identity.bad_inputs.table import Table, rows
from tests.identity.house import PROXY

SOURCES = """  sources:
    - directory: {sqlite: made/directory.db, key: %s}
    - location: {accounts: true}
"""
ACCOUNT = "X-Account: acct-7f3a"


def write(folder: Path) -> None:
    (folder / "made").mkdir()
    import_text(policy_with_directory(folder / "made"), "subject,home\nacct-7f3a,eu\n")


def sent(headers: str) -> bytes:
    return request("/", xff=None, headers=headers)


HEADERS = {
    "twice": f"{ACCOUNT}\r\n{ACCOUNT}",
    "twice, another": f"{ACCOUNT}\r\nx-account: acct-other",
    "twice, one of them empty": f"X-Account:\r\n{ACCOUNT}\r\nX-Account: ",
    "beside a twin": f"{ACCOUNT}\r\nX_Account: acct-other",
    "a twin alone": "X_Account: acct-7f3a",
    "another twin alone": "X.Account: acct-7f3a",
    "too long": "X-Account: " + "a" * 513,
    "too long in bytes": "X-Account: " + ("é" * 257).encode().decode("latin-1"),
    "not UTF-8": "X-Account: acct\xe9",
    "an overlong form": "X-Account: acct\xc0\xaf",
    "half a surrogate pair": "X-Account: acct\xed\xa0\x80",
    "a C1 control": "X-Account: acct\xc2\x85",
    "a tab": "X-Account: acct\t7f3a",
    "a line separator": "X-Account: acct\xe2\x80\xa8",
    "an override of direction": "X-Account: acct\xe2\x80\xae",
    "a private character": "X-Account: acct\xee\x80\x80",
}
MALFORMED = {
    "a NUL": "X-Account: acct\0",
    "a bare CR": "X-Account: acct\rX",
    "an escape": "X-Account: acct\x1b[2J",
    "white space before the colon": "X-Account : acct-7f3a",
    "a folded line": "X-Account: acct\r\n -7f3a",
}
PATHS = {
    "a dot segment": "/t/acct-7f3a/../other",
    "an encoded dot segment": "/t/%2e%2e/t/acct-7f3a",
    "an encoded slash": "/t/acct%2F7f3a",
    "two slashes": "//t/acct-7f3a",
    "a parameter": "/t/acct-7f3a;x/a",
    "an escape of an escape": "/t/acct%252F7f3a",
    "an encoded control": "/t/acct%0A7f3a",
    "not UTF-8": "/t/acct%E9",
}

TABLES = [
    Table(
        "directory by header",
        SOURCES % "{header: X-Account}",
        lambda: sent(ACCOUNT),
        rows(401, {name: lambda text=text: sent(text) for name, text in HEADERS.items()})
        | rows(400, {name: lambda text=text: sent(text) for name, text in MALFORMED.items()}),
        write,
        source=PROXY,
    ),
    Table(
        "directory by path",
        SOURCES % '{path: "/t/{}/*"}',
        lambda: request("/t/acct-7f3a/x", xff=None),
        rows(400, {name: lambda text=text: request(text, xff=None) for name, text in PATHS.items()})
        | rows(401, {"too long": lambda: request("/t/" + "a" * 513, xff=None)}),
        write,
    ),
]
