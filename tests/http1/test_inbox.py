"""What waits its turn: however it is cut, the same heads come out, and nothing is looked through twice."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.http1.inbox import Inbox
from proxy.policy.settings import Limits
from proxy.wire.refusal import Refusal

LIMITS = Limits(head=64, headers=10, target=20, body=None, pipelined=3, connections=1)
HEADS = st.lists(
    st.sampled_from([b"GET / HTTP/1.1\r\nA: b\r\n\r\n", b"PUT /x HTTP/1.1\r\n\r\n", b"G / H\r\nLonger: field\r\n\r\n"])
)


def come_out(inbox: Inbox) -> list[bytes | Refusal]:
    """All heads that are whole, or the end of it."""
    out: list[bytes | Refusal] = []
    while inbox.waiting and (head := inbox.next_head(LIMITS)) is not None:
        out.append(head)
        if isinstance(head, Refusal):
            break
    return out


@given(HEADS, st.lists(st.booleans()), st.data())
def test_the_same_heads_come_out_however_they_are_cut(
    heads: list[bytes], blanks: list[bool], data: st.DataObject
) -> None:
    stream = b"".join(
        b"\r\n" * blank + head for head, blank in zip(heads, [*blanks, *[False] * len(heads)], strict=False)
    )
    inbox, out = Inbox(), list[bytes | Refusal]()
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        inbox.put(stream[:size])
        stream = stream[size:]
        out += come_out(inbox)
    assert out == heads
    assert inbox.waiting == 0


@given(st.binary(max_size=100), st.data())
def test_a_refusal_does_not_depend_on_the_cuts_but_for_how_soon_it_comes(rest: bytes, data: st.DataObject) -> None:
    """A head that comes whole is judged by its reader; in pieces, it may be refused before."""
    stream = b"G" + rest
    whole = Inbox()
    whole.put(stream)
    at_once = come_out(whole)
    inbox, out = Inbox(), list[bytes | Refusal]()
    while stream and not (out and isinstance(out[-1], Refusal)):
        size = data.draw(st.integers(1, len(stream)))
        inbox.put(stream[:size])
        stream = stream[size:]
        out += come_out(inbox)
    heads = [head for head in out if isinstance(head, bytes)]
    assert at_once[: len(heads)] == heads
    if out == heads:
        assert at_once == heads
        assert inbox.waiting == whole.waiting


def refusal(*pieces: bytes) -> Refusal | None:
    inbox = Inbox()
    for piece in pieces:
        inbox.put(piece)
        head = inbox.next_head(LIMITS)
        assert not isinstance(head, bytes)
        if head is not None:
            return head
    return None


def test_what_can_become_no_head_is_refused_at_once() -> None:
    malformed = Refusal(400, "head-malformed")
    assert refusal(b"\x16\x03\x01") == malformed
    assert refusal(b"GET / HTTP/1.1\n") == malformed
    assert refusal(b"GET / HTTP/1.1\r", b"A") is None
    assert refusal(b"GET / HTTP/1.1\r", b"\n", b"\n") == malformed
    assert refusal(b"GET /\0") == malformed
    assert refusal(b"", b"\r\n", b"G", b"E") is None


def test_what_is_too_large_is_told_apart() -> None:
    assert refusal(b"GET /" + b"x" * 20, b"x" * 40) == Refusal(414, "target-too-long")
    assert refusal(b"GET / HTTP/1.1\r\n", b"A: " + b"x" * 60) == Refusal(431, "head-too-large")
    assert refusal(b"GET / HTTP/1.1\r\nA: " + b"x" * 60 + b"\r\n\r\n") == Refusal(431, "head-too-large")
    # Of what waits behind it nothing counts.
    inbox = Inbox()
    inbox.put(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100)
    assert inbox.next_head(LIMITS) == b"GET / HTTP/1.1\r\n\r\n"
    assert inbox.waiting == 100


def test_it_is_full_by_bytes_or_by_requests() -> None:
    inbox = Inbox()
    assert not inbox.full(LIMITS)
    inbox.put(b"x" * LIMITS.head)
    assert not inbox.full(LIMITS)
    inbox.put(b"x")
    assert inbox.full(LIMITS)
    assert inbox.take() == b"x" * (LIMITS.head + 1)
    assert not inbox.full(LIMITS)
    inbox.put(b"G\r\n\r\n" * (LIMITS.pipelined - 1))
    assert not inbox.full(LIMITS)
    inbox.put(b"G\r\n\r\n")
    assert inbox.full(LIMITS)
    assert inbox.next_head(LIMITS) == b"G\r\n\r\n"
    assert not inbox.full(LIMITS)


def test_a_head_that_comes_byte_by_byte_is_looked_through_once() -> None:
    """Not by the clock: by what is asked of the bytes."""
    asked = 0

    class Counted(bytes):
        def find(self, *args: object) -> int:
            nonlocal asked
            start = args[1] if len(args) > 1 else 0
            assert isinstance(start, int)
            asked += len(self) - start
            return super().find(*args)  # type: ignore[arg-type]

    inbox, head = Inbox(), b"GET / HTTP/1.1\r\nA: " + b"x" * 30 + b"\r\n\r\n"
    for at in range(len(head)):
        inbox.put(head[at : at + 1])
        inbox._bytes = Counted(inbox._bytes)
        found = inbox.next_head(LIMITS)
    assert found == head
    assert asked <= 4 * len(head)
