"""One message, read by us, by h11 and by llhttp: what each takes it to be, and where each sees it end."""

from dataclasses import dataclass
from typing import Any

import h11
import httptools

from proxy.wire.body import Body, ChunkedBody, FramingError, LengthBody
from proxy.wire.request_head import HeadLimits, RequestHead, read_request_head
from proxy.wire.response_head import Ends, ResponseHead, read_response_head

LIMITS = HeadLimits(fields=100, target=8192)

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Message:
    """start: method and target, or the status. consumed: bytes up to its end; None where it is not over yet."""

    start: tuple[bytes, bytes] | int
    fields: Fields
    body: bytes
    consumed: int | None


class Disagreement(AssertionError):
    """Another reader refuses what we accept, or sees something else in it."""


def head_of(data: bytes) -> bytes:
    """The head that data begins with, as the plane finds it: up to the first empty line."""
    end = data.find(b"\r\n\r\n") + 4
    return data[:end] if end > 3 else data


def our_request(data: bytes) -> tuple[RequestHead, Message] | None:
    """Our reading of a request and its body; None if we refuse it."""
    head_bytes = head_of(data)
    head = read_request_head(head_bytes, LIMITS)
    if not isinstance(head, RequestHead):
        return None
    body = ChunkedBody() if head.length is None else LengthBody(head.length)
    # h11 reports the coding in lower case, so all do.
    fields = [(name, value.lower() if name == b"transfer-encoding" else value) for name, value, _ in head.lines]
    start = (head.method.encode(), head_bytes.split(b" ")[1])
    found = _content(start, fields, body, data, len(head_bytes))
    return None if found is None else (head, found)


def our_response(data: bytes, to_head: bool) -> tuple[ResponseHead, Message] | None:
    """Our reading of a final response; None if we refuse it. A body that ends by close is never over."""
    head_bytes = head_of(data)
    head = read_response_head(head_bytes, to_head)
    if not isinstance(head, ResponseHead):
        return None
    fields = [(name.lower(), value.strip(b" \t")) for name, _, value in map(_parted, head.block.split(b"\r\n")[1:-1])]
    if head.ends is Ends.CLOSE:
        return head, Message(head.status, fields, data[len(head_bytes) :], None)
    body = ChunkedBody() if head.ends is Ends.CHUNKS else LengthBody(head.length or 0)
    if head.ends is Ends.NO_BODY:
        body = LengthBody(0)
    found = _content(head.status, fields, body, data, len(head_bytes))
    return None if found is None else (head, found)


def _parted(line: bytes) -> tuple[bytes, bytes, bytes]:
    return line.partition(b":")


def _content(start: tuple[bytes, bytes] | int, fields: Fields, body: Body, data: bytes, at: int) -> Message | None:
    try:
        payload = b"" if body.done else body.feed(data[at:])
    except FramingError:
        return None
    rest = (
        body.rest if body.rest or not body.done else data[at:] if isinstance(body, LengthBody) and not payload else b""
    )
    return Message(start, fields, payload, len(data) - len(rest) if body.done else None)


def h11_request(data: bytes) -> Message:
    return _h11(h11.Connection(h11.SERVER, max_incomplete_event_size=2**20), data)


def h11_response(data: bytes, to_head: bool) -> Message:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)
    connection.send(h11.Request(method=b"HEAD" if to_head else b"GET", target=b"/", headers=[(b"Host", b"a")]))
    connection.send(h11.EndOfMessage())
    return _h11(connection, data)


def _h11(connection: h11.Connection, data: bytes) -> Message:
    connection.receive_data(data)
    start: tuple[bytes, bytes] | int | None = None
    fields: Fields = []
    body = b""
    consumed = None
    try:
        while True:
            event: Any = connection.next_event()
            if isinstance(event, h11.Request):
                start, fields = (event.method, event.target), list(event.headers)
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                start, fields = event.status_code, list(event.headers)
                if isinstance(event, h11.InformationalResponse):
                    consumed = len(data) - len(connection.trailing_data[0])
                    break
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                consumed = len(data) - len(connection.trailing_data[0])
                break
            else:
                break
    except h11.RemoteProtocolError as error:
        raise Disagreement(f"h11 refuses: {error}") from None
    if start is None:
        raise Disagreement("h11 sees no head")
    return Message(start, fields, body, consumed)


class _Heard:
    """What llhttp reports."""

    def __init__(self) -> None:
        self.url = self.body = b""
        self.fields: Fields = []
        self.completed = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # and not in the trailers
            lowered, stripped = name.lower(), value.strip(b" \t")
            self.fields.append((lowered, stripped.lower() if lowered == b"transfer-encoding" else stripped))

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.completed += 1


def llhttp_request(data: bytes, consumed: int | None) -> Message:
    """llhttp's reading of data up to where we see the end. It must see it there, and not a byte earlier.

    llhttp cannot say where a message ended, so it is fed up to the last byte, and then the last byte.
    """
    heard = _Heard()
    parser = httptools.HttpRequestParser(heard)
    end = len(data) if consumed is None else consumed
    for piece in (data[: end - 1], data[end - 1 : end]):
        if heard.completed:
            raise Disagreement("llhttp sees the end before we do")
        try:
            parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise Disagreement(f"llhttp refuses: {error!r}") from None
    return Message(
        (parser.get_method(), heard.url), heard.fields, heard.body, consumed if heard.completed == 1 else None
    )
