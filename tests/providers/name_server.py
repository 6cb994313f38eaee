"""A name server on loopback, over UDP and TCP: it answers what a test says, and writes down questions."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

A, CNAME, AAAA = 1, 5, 28
SERVFAIL, NXDOMAIN = 2, 3


@dataclass
class Answers:
    """What is said of one name: its records with their time to live, in the order of the answer."""

    addresses: list[tuple[str, int]] = field(default_factory=list)
    alias: tuple[str, int] | None = None
    failure: int = 0
    silent: bool = False
    truncated: bool = False


class NameServer:
    """records: by name. asked: name and type of each question, in their order. port: of both transports."""

    def __init__(self):
        self.records: dict[str, Answers] = {}
        self.asked: list[tuple[str, int]] = []
        self.over_tcp = 0
        self.heard = asyncio.Event()

    def answer(self, packet, *, tcp=False):
        """The answer to one packet; None where nothing is said."""
        name, kind, question = _question(packet)
        self.asked.append((name, kind))
        self.heard.set()
        said = self.records.get(name, Answers(failure=NXDOMAIN))
        if said.silent:
            return None
        truncated = said.truncated and not tcp
        records = [] if said.failure or truncated else list(self._records(said, kind))
        flags = 0x8180 | said.failure | (0x0200 if truncated else 0)
        return packet[:2] + struct.pack(">5H", flags, 1, len(records), 0, 0) + question + b"".join(records)

    def _records(self, said, kind):
        owner = b"\xc0\x0c"  # the question's name
        if said.alias is not None:
            target, ttl = said.alias
            owner = _name(target)
            yield b"\xc0\x0c" + struct.pack(">HHIH", CNAME, 1, ttl, len(owner)) + owner
            said = self.records[target]
        for text, ttl in said.addresses:
            address = ip_address(text)
            if isinstance(address, IPv4Address if kind == A else IPv6Address):
                yield owner + struct.pack(">HHIH", kind, 1, ttl, len(address.packed)) + address.packed

    @contextlib.asynccontextmanager
    async def running(self):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Stream(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=("127.0.0.1", self.port), family=socket.AF_INET
        )
        try:
            yield self
        finally:
            transport.close()
            server.close()
            await server.wait_closed()
            await asyncio.sleep(0)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server):
        self._server = server

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, data, addr):
        answer = self._server.answer(data)
        if answer is not None:
            self._transport.sendto(answer, addr)


class _Stream(asyncio.Protocol):
    def __init__(self, server):
        self._server = server
        self._data = bytearray()

    def connection_made(self, transport):
        self._transport = transport
        self._server.over_tcp += 1

    def data_received(self, data):
        self._data += data
        while len(self._data) >= 2 and len(self._data) >= (end := 2 + int.from_bytes(self._data[:2], "big")):
            answer = self._server.answer(bytes(self._data[2:end]), tcp=True)
            del self._data[:end]
            if answer is not None:
                self._transport.write(len(answer).to_bytes(2, "big") + answer)


def _question(packet):
    labels, place = [], 12
    while size := packet[place]:
        labels.append(packet[place + 1 : place + 1 + size].decode())
        place += 1 + size
    return ".".join(labels).lower(), int.from_bytes(packet[place + 1 : place + 3], "big"), packet[12 : place + 5]


def _name(text):
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"
