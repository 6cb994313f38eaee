"""The access log's record: one JSON line a request, or a connection that was passed on, as bytes.

- What a repeated decision repeats is formatted once (`static_part`); `line` adds what each request has of its own.
- Every value is escaped, whatever bytes it holds: bytes are written as the Latin-1 characters they are, so a
  reader gets each of them back.
- Durations are seconds, written as whole microseconds with an exponent (`1234e-6`): half the cost of `%.6f`.
- No query string, path, credential or full client address: a record has no place for them.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from time import gmtime, strftime

from proxy.policy.facts import Address

_SIX_TO_FOUR = 0x2002
_HEAD = b'{"time":"%b.%03dZ","id":"%b","status":%d,"reason":%b,"to_provider":%d,"to_client":%d,"duration":%de-6,'
_TAIL = b'"attempts":%d,%b'
_NEITHER = _HEAD + b'"first_byte":null,"connect":null,' + _TAIL
_FIRST = _HEAD + b'"first_byte":%de-6,"connect":null,' + _TAIL
_CONNECT = _HEAD + b'"first_byte":null,"connect":%de-6,' + _TAIL
_BOTH = _HEAD + b'"first_byte":%de-6,"connect":%de-6,' + _TAIL


def static_part(
    *,
    listener: str,
    method: str | bytes | None,
    host: str | bytes | None,
    home: str,
    source: str,
    country: str,
    zone: str | None,
    provider: str | None,
    rules: Sequence[str],
    client: Address | None,
    subject: str | None = None,
) -> bytes:
    """What all requests of one decision have in common, for `line`.

    method: None for what is no request. source: which kind gave the home, or ended the search without one. zone,
    provider: None where it reached none. client: is cut here. subject: only if the policy's `log.subject` asks for
    it; None leaves the field out.
    """
    fields: dict[str, object] = {
        "listener": listener,
        "method": None if method is None else _text(method),
        "host": None if host is None else _text(host),
        "home": home,
        "source": source,
        "country": country,
        "zone": zone,
        "provider": provider,
        "rules": list(rules),
        "client": cut(client),
    }
    if subject is not None:
        fields["subject"] = subject
    return json.dumps(fields, separators=(",", ":")).encode("ascii")[1:] + b"\n"


def line(
    static: bytes,
    time: float,
    request_id: bytes,
    status: int,
    reason: str | None,
    to_provider: int,
    to_client: int,
    duration: float,
    first_byte: float | None,
    connect: float | None,
    attempts: int,
) -> bytes:
    """One record, newline included.

    static: from `static_part`. time: when the request began, epoch seconds. status: 0 if no answer was begun.
    reason: why it was denied or failed, a word of a fixed list; None for none. to_provider, to_client: bytes of
    bodies. duration, first_byte, connect: seconds, the last two None where there was none (a pooled connection
    has no connect). attempts: tries at providers.
    """
    second = int(time)
    stamp = _stamp(second)
    ms = int((time - second) * 1000)
    quoted = request_id if request_id.isalnum() else _inside_quotes(request_id)
    why = b"null" if reason is None else _reason(reason)
    took = duration * 1e6
    # Four whole tuples: building one from parts costs as much as formatting two fields.
    if connect is None:
        if first_byte is None:
            return _NEITHER % (stamp, ms, quoted, status, why, to_provider, to_client, took, attempts, static)
        first = first_byte * 1e6
        return _FIRST % (stamp, ms, quoted, status, why, to_provider, to_client, took, first, attempts, static)
    dialled = connect * 1e6
    if first_byte is None:
        return _CONNECT % (stamp, ms, quoted, status, why, to_provider, to_client, took, dialled, attempts, static)
    first = first_byte * 1e6
    return _BOTH % (stamp, ms, quoted, status, why, to_provider, to_client, took, first, dialled, attempts, static)


def cut(client: Address | None) -> str | None:
    """The network that a record names in place of a client: /24 for IPv4, /48 for IPv6.

    An IPv4 address inside an IPv6 one (mapped, 6to4) is cut to its own 24 bits.
    """
    if client is None:
        return None
    if not isinstance(client, IPv4Address):
        if client.ipv4_mapped is None:
            bits = 40 if int(client) >> 112 == _SIX_TO_FOUR else 48
            return str(IPv6Network((int(client) >> (128 - bits) << (128 - bits), bits)))
        client = client.ipv4_mapped
    return str(IPv4Network((int(client) >> 8 << 8, 24)))


@lru_cache(maxsize=4)
def _stamp(second: int) -> bytes:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second)).encode("ascii")


@lru_cache(maxsize=256)
def _reason(reason: str) -> bytes:
    return json.dumps(reason).encode("ascii")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _inside_quotes(value: bytes) -> bytes:
    return json.dumps(value.decode("latin-1")).encode("ascii")[1:-1]
