"""A second opinion on request heads that go to a provider: it shares no code with what writes them.

`Sent` splits bytes in the plainest way; `broken_invariants` names what must not be seen on the wire.
"""

from dataclasses import dataclass

TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
HOPS = {
    *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"),
    *("proxy-connection", "proxy-authenticate", "proxy-authorization"),
}
OURS_ONCE = ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via", "x-request-id"]


def folded(name: str) -> str:
    """As CGI-like readers fold a name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


@dataclass(frozen=True)
class Sent:
    """method, target, and (lower-cased name, value) of each line in order."""

    method: str
    target: str
    fields: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        return [value for found, value in self.fields if found == name]


def sent(data: bytes) -> Sent:
    """Read a whole head; AssertionError if it is not one in the strictest sense."""
    assert data.endswith(b"\r\n\r\n")
    assert data.find(b"\r\n\r\n") == len(data) - 4, "an empty line in the head"
    assert data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n"), "a bare CR or LF"
    assert not set(data) & (set(range(32)) - {9, 10, 13} | {127}), "a control"
    first, *lines = data[:-4].split(b"\r\n")
    words = first.split(b" ")
    assert len(words) == 3
    assert words[2] == b"HTTP/1.1"
    assert set(words[0]) <= TOKEN
    assert words[1]
    assert all(0x21 <= byte <= 0x7E and byte != ord("#") for byte in words[1])
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        assert colon
        assert name
        assert set(name) <= TOKEN
        fields.append((name.decode().lower(), value.strip(b" \t").decode("latin-1")))
    return Sent(words[0].decode(), words[1].decode(), fields)


def broken_invariants(head: Sent, listed: frozenset[str], withheld: frozenset[str]) -> list[str]:
    """What of "Invariants on every byte sent to a provider" a head breaks.

    listed: what the client's Connection named. withheld: names of consumed credentials. Both lower-cased.
    """
    broken = []
    lengths, codings = head.values("content-length"), head.values("transfer-encoding")
    if len(lengths) + len(codings) > 1:
        broken.append("framing twice")
    if codings not in ([], ["chunked"]):
        broken.append("a coding other than chunked")
    if lengths and not (lengths[0].isascii() and lengths[0].isdigit() and str(int(lengths[0])) == lengths[0]):
        broken.append("a length that is not canonical")
    upgrades, connections = head.values("upgrade"), head.values("connection")
    if (upgrades or connections) and not (len(upgrades) == 1 and connections == ["upgrade"]):
        broken.append("a hop-by-hop field")
    if upgrades and (lengths or codings or "h2c" in upgrades[0].lower()):
        broken.append("an upgrade that must not be")
    broken += [f"not exactly one {name}" for name in OURS_ONCE if len(head.values(name)) != 1]
    known = {folded(name) for name in (*OURS_ONCE, *HOPS, "content-length", "expect")}
    for name, _ in head.fields:
        if name in HOPS - {"connection", "upgrade", "transfer-encoding"}:
            broken.append(f"hop-by-hop {name}")
        if folded(name) in known and "-".join(folded(name).split("_")) != name:
            broken.append(f"a twin: {name}")
        if name in listed and name not in {*OURS_ONCE, *HOPS, "content-length", "expect"}:
            broken.append(f"listed by Connection: {name}")
        if folded(name) in {folded(other) for other in withheld}:
            broken.append(f"withheld: {name}")
    if len(head.values("expect")) > 1 or any(value != "100-continue" for value in head.values("expect")):
        broken.append("an expectation")
    return broken
