"""Forwarding headers that leave nobody knowing where the client is, so that nothing is decided by where it is.

The trusted proxy's own word reaches the telecom for a client in mainland China. Each row says something that must not
be read as an address; its sender's home stays unknown, and no rule here lets an unknown home through.
"""

from collections.abc import Mapping

from tests.identity.bad_inputs.table import Bytes, Table, rows
from tests.identity.house import PROXY, STRANGER

LOCATION = "  sources: [{location: {}}]\n"
# 127.0.0.2 is the CDN in this table, and a trusted proxy too.
CDN = f"  client_header: {{name: CF-Connecting-IP, from: [{PROXY}, 198.41.128.0/17]}}\n" + LOCATION


def asking(*lines: str) -> Bytes:
    fields = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    return lambda: b"GET / HTTP/1.1\r\nHost: storage.example\r\n" + fields + b"\r\n"


def of(name: str, values: Mapping[str, str]) -> dict[str, Bytes]:
    return {f"{name}: {what}": asking(f"{name}: {value}") for what, value in values.items()}


UNREADABLE = {
    "empty": "",
    "unknown": "unknown",
    "a name": "client.example",
    "hidden": "_hidden",
    "no address at the end": "114.114.114.114, x",
    "an empty element at the end": "114.114.114.114,",
    "a leading zero": "114.114.114.014",
    "a number": "1920103026",
    "hexadecimal": "0x72727272",
    "three parts": "114.114.114",
    "a port of nothing": "114.114.114.114:",
    "a port too long": "114.114.114.114:123456",
    "brackets around IPv4": "[114.114.114.114]",
    "an open bracket": "[2001:da8::1",
    "a scope": "2001:da8::1%eth0",
    "quoted": '"114.114.114.114"',
    "two by a space": "114.114.114.114 114.114.114.114",
    "longer than is walked": "114.114.114.114" + f", {PROXY}" * 40,
    "private": "10.0.0.1",
    "mapped and private": "::ffff:10.0.0.1",
    "loopback": "127.0.0.1",
    "6to4 of one in China": "2002:7272:7272::1",
}

FORWARDED = {
    "unknown": "for=unknown",
    "hidden": "for=_hidden",
    "no for": "proto=https",
    "a bare address": "114.114.114.114",
    "IPv6 without quotes": "for=[2001:da8::1]",
    "an open quote": 'for="114.114.114.114',
    "for twice": "for=114.114.114.114;for=114.114.114.114",
    "a space around the equals": "for = 114.114.114.114",
    "an open quote of a stranger": 'for=", for=114.114.114.114',
}

TOLD = {
    "empty": "",
    "unknown": "unknown",
    "two": "114.114.114.114, 114.114.114.114",
    "a port": "114.114.114.114:80",
    "brackets": "[2001:da8::1]",
    "a leading zero": "114.114.114.014",
    "a number": "1920103026",
    "quoted": '"114.114.114.114"',
    "private": "192.168.0.1",
}

TABLES = [
    Table(
        "forwarding headers",
        LOCATION,
        asking("X-Forwarded-For: 114.114.114.114"),
        rows(
            451,
            of("X-Forwarded-For", UNREADABLE)
            | of("Forwarded", FORWARDED)
            | {
                "two that disagree": asking("X-Forwarded-For: 114.114.114.114", "Forwarded: for=8.8.8.8"),
                "two, one of them unreadable": asking("X-Forwarded-For: 114.114.114.114", "Forwarded: for=x y"),
                "a later line that cannot be read": asking("X-Forwarded-For: 114.114.114.114", "X-Forwarded-For: x"),
                "a twin": asking("X_Forwarded_For: 114.114.114.114"),
                "a CDN's, that nobody believes": asking("CF-Connecting-IP: 114.114.114.114"),
            },
        ),
        source=PROXY,
        rules="",
    ),
    Table(
        "headers of a CDN",
        CDN,
        asking("CF-Connecting-IP: 114.114.114.114"),
        rows(
            451,
            of("CF-Connecting-IP", TOLD)
            | {
                "twice": asking("CF-Connecting-IP: 114.114.114.114", "CF-Connecting-IP: 114.114.114.114"),
                "none, and another's": asking("X-Forwarded-For: 114.114.114.114"),
                "a twin": asking("CF_Connecting_IP: 114.114.114.114"),
                "a country": asking("CF-IPCountry: CN"),
            },
        ),
        source=PROXY,
        rules="",
    ),
    # The good one has to come from the mainland, and a stranger on loopback cannot: it states its home instead.
    Table(
        "forwarding headers of strangers",
        CDN + '  stated: [{when: {path: "/stated"}, home: cn-mainland}]\n',
        lambda: b"GET /stated HTTP/1.1\r\nHost: storage.example\r\n\r\n",
        rows(
            451,
            {
                "a chain": asking("X-Forwarded-For: 114.114.114.114"),
                "a chain through the proxy": asking(f"X-Forwarded-For: 114.114.114.114, {PROXY}"),
                "an element": asking("Forwarded: for=114.114.114.114"),
                "a CDN's": asking("CF-Connecting-IP: 114.114.114.114"),
                "a CDN's, through the CDN": asking(
                    "CF-Connecting-IP: 114.114.114.114", "X-Forwarded-For: 198.41.128.9"
                ),
                "a real address": asking("X-Real-IP: 114.114.114.114"),
            },
        ),
        source=STRANGER,
        rules="",
    ),
]
