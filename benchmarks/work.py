"""The work: what clients ask for, in each of the lines that the table has."""

from dataclasses import dataclass
from typing import Literal

KIB = 1024
MIB = 1024 * KIB

HOST = "storage.example"

CLIENT = "203.0.113.7"
"""Loopback has no country, so every request comes through a trusted proxy, which says who the client is."""

HEADERS = (
    ("Host", HOST),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.5"),
    ("Cookie", "session=6f1ed002ab5595859014ebf0951522d9; theme=dark"),
    ("Authorization", "Bearer " + "bW9kZWwtY2FzZQ" * 12),
    ("X-Forwarded-For", CLIENT),
)
"""What every request carries, in every line and to every proxy."""


@dataclass(frozen=True, slots=True)
class Work:
    """One line of the table.

    script: which of benchmarks/wrk/ drives wrk. connections: how many at once, each with one request in flight.
    tls: to the client and to the provider. keep_alive: false makes every request a new connection.
    think: milliseconds between an answer and the same connection's next request; 0 is as fast as it goes.
    brief: shorter rounds do.
    """

    name: str
    path: str
    connections: int
    script: Literal["get", "upload", "paced"] = "get"
    tls: bool = False
    keep_alive: bool = True
    think: int = 0
    brief: bool = False


COST = (
    Work("12 B", "/12", connections=16),
    Work("64 KiB", "/64k", connections=16),
    Work("1 MiB", "/1m", connections=4, brief=True),
    Work("1 MiB upload", "/upload", connections=4, script="upload", brief=True),
    Work("12 B, TLS both sides", "/12", connections=16, tls=True),
    Work("12 B, no keep-alive", "/12", connections=16, keep_alive=False, brief=True),
)
"""Measured in processor time a request."""

PACED = Work("12 B, paced", "/12", connections=32, script="paced", think=20, brief=True)
"""Measured in latency: at most 32 / 20 ms = 1,600 requests a second, which every proxy here can serve."""
