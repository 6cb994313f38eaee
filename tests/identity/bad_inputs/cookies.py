"""Bad home cookies."""

import time
from pathlib import Path

from proxy.identity.home_cookie import HomeCookies
from tests.http1.staging import request
from tests.identity import tokens
from tests.identity.bad_inputs.table import Bytes, Table, rows

KEY = b"0123456789abcdefghijklmnopqrstuv"
MONTH = 30 * 86400.0
SOURCES = """  sources:
    - jwt: {jwks: jwks.json, issuer: 'https://id.example', audience: storage, home_claim: residency}
    - home_cookie: {keys: [home.key]}
    - location: {accounts: true}
"""


def made(home: str = "eu", *, key: bytes = KEY, host: str = "storage.example", name: str = "__Host-home") -> str:
    """A cookie's value, good but for these changes."""
    line = HomeCookies(name, (key,), MONTH).line(home, host, time.time()).decode()
    return line.removeprefix("Set-Cookie: ").partition(";")[0].partition("=")[2]


def sent(value: str) -> bytes:
    return request("/", xff=None, headers=f"Cookie: __Host-home={value}")


def changed(place: int, part: str) -> str:
    """With another part between its dots."""
    pieces = made().split(".")
    pieces[place] = part
    return ".".join(pieces)


BAD: dict[str, Bytes] = {
    "of a stranger's key": lambda: sent(made(key=KEY[::-1])),
    "a stranger's signature under our key's name": lambda: sent(changed(4, made(key=KEY[::-1]).split(".")[4])),
    "of another host": lambda: sent(made(host="other.example")),
    "of another cookie": lambda: sent(made(name="__Host-other")),
    "with another home": lambda: sent(changed(2, "cn-mainland")),
    "with a later end": lambda: sent(changed(3, "ffffffff")),
    "with an end beyond numbers": lambda: sent(changed(3, "f" * 40)),
    "of another version": lambda: sent(changed(0, "2")),
    "of another key's name": lambda: sent(changed(1, "00000000")),
    "a home of nowhere": lambda: sent(made("atlantis")),
    "a home that is unknown": lambda: sent(made("unknown")),
    "empty": lambda: sent(""),
    "a word": lambda: sent("eu"),
    "quoted": lambda: sent(f'"{made()}"'),
    "cut": lambda: sent(made()[:-1]),
    "longer": lambda: sent(made() + "A"),
    "very long": lambda: sent("1." * 2000),
    "bytes": lambda: sent("\xff\xfe"),
    "twice": lambda: sent(f"{made()}; __Host-home={made()}"),
    "a good one and a bad one": lambda: sent(f"{made()}; __Host-home=x"),
    "twice, in two fields": lambda: request(
        "/", xff=None, headers=f"Cookie: __Host-home={made()}\r\nCookie: __Host-home={made()}"
    ),
}


def write(folder: Path) -> None:
    tokens.written(folder, tokens.all_keys())
    (folder / "home.key").write_bytes(KEY)


TABLES = [
    Table(
        "home cookies",
        SOURCES,
        lambda: sent(made()),
        rows(401, BAD),
        write,
        credential=lambda: made().encode(),
    )
]
