"""The two ends of a dial: providers that listen on loopback and write down who came, and what a caller brings."""

import asyncio
import contextlib
import socket
import ssl
from ipaddress import ip_address, ip_network

from proxy.policy.decide import decide
from proxy.policy.facts import Facts
from proxy.policy.rules import Rule
from proxy.policy.settings import Endpoint, ProviderTimeouts, ProviderTls
from proxy.providers.breaker import BreakerState
from proxy.providers.contexts import provider_context
from proxy.providers.dial import dial
from proxy.providers.names import Answer
from proxy.providers.resolve import Resolver
from tests.policy.samples import ANY, a_policy, a_provider, some_zones, when


def a_law(*providers):
    """A policy under which all of these, and nothing else, are permitted to everybody of the EU."""
    return a_policy(some_zones(eu=("EEA",), elsewhere="*"), providers, [Rule("law", when(home="eu"), allow=ANY)])


def permit_for(*providers):
    permit = decide(a_law(*providers), Facts(time=0.0, home="eu"))
    assert permit.providers == providers
    return permit


def a_place(host, port, *, scheme="http", dial=(), connect=5.0, name="storage", tls=None, **changes):
    """A provider with one endpoint there. Plaintext is allowed everywhere, unless a test says otherwise."""
    return a_provider(
        name,
        "Example Inc",
        "eu",
        **{
            "endpoints": (Endpoint(scheme, host, port),),
            "dial": tuple(ip_network(network) for network in dial),
            "timeouts": ProviderTimeouts(connect, 30, 60),
            "plaintext": True,
            "tls": tls or ProviderTls(),
            **changes,
        },
    )


def names(**answers):
    """A resolver whose name service knows these names (`storage_example` for storage.example) and no other."""
    known = {name.replace("_", "."): [ip_address(a) for a in addresses] for name, addresses in answers.items()}

    async def lookup(name):
        if name not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return Answer(known[name], 30.0)

    return Resolver(lookup)


class Caller(asyncio.Protocol):
    """What a data plane puts on a connection; writes down all that it is told."""

    def __init__(self):
        self.events = []
        self.received = bytearray()
        self.arrived = asyncio.Event()
        self.ended = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def data_received(self, data):
        self.events.append("data")
        self.received += data
        self.arrived.set()

    def connection_lost(self, exc):
        self.events.append("lost")
        self.ended.set()


class Eager(Caller):
    """Writes as soon as it has a transport."""

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write(b"secret of the subject")


class Listening:
    """One listener: `accepted` counts connections, `received` holds what all of them sent."""

    def __init__(self, greeting=b"", hang_up=False):
        self.accepted = 0
        self.received = bytearray()
        self.came = asyncio.Event()
        self.heard = asyncio.Event()
        self.left = asyncio.Event()
        self.sockets = []
        self.greeting = greeting
        self.hang_up = hang_up

    def protocol(self):
        listening = self

        class Serving(asyncio.Protocol):
            def connection_made(self, transport):
                listening.accepted += 1
                listening.transport = transport
                listening.sockets.append(transport.get_extra_info("peername"))
                listening.came.set()
                if listening.greeting:
                    transport.write(listening.greeting)
                if listening.hang_up:
                    transport.abort()

            def data_received(self, data):
                listening.received += data
                listening.heard.set()

            def connection_lost(self, exc):
                listening.left.set()

        return Serving()


@contextlib.asynccontextmanager
async def listening(host="127.0.0.1", port=0, context=None, **behaviour):
    """A provider that listens; its port is `.port`."""
    recorder = Listening(**behaviour)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(recorder.protocol, host, port, ssl=context)
    recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        if getattr(recorder, "transport", None) is not None:
            recorder.transport.abort()
        server.close()
        await server.wait_closed()


def server_context(issued, *, client_ca=None, minimum=ssl.TLSVersion.TLSv1_2, maximum=ssl.TLSVersion.TLSv1_3):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    context.minimum_version, context.maximum_version = minimum, maximum
    context.set_alpn_protocols(["h2", "http/1.1"])
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.asynccontextmanager
async def alerting(context):
    """A TLS provider for one connection that, as most do and asyncio's do not, says in an alert why it refuses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve():
            sock, _ = server.accept()
            sock.settimeout(10)
            with sock, contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as secured:
                secured.recv(1)

        serving = asyncio.create_task(asyncio.to_thread(serve))
        yield server.getsockname()[1]
        await serving


async def reach(provider, resolver=None, factory=Caller):
    """Dials a provider's only endpoint with a permit for it."""
    return await dial(
        permit_for(provider),
        provider,
        provider.endpoints[0],
        factory,
        context=provider_context(provider),
        resolver=resolver or names(),
    )


async def hang_up(transport, protocol):
    transport.close()
    await protocol.ended.wait()


@contextlib.contextmanager
def black_hole(host="127.0.0.1"):
    """A port that answers no SYN: its listener's queue is full. Yields the port."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.settimeout(0.2)
            try:
                client.connect(address)
            except TimeoutError:
                break
        else:
            raise AssertionError("the queue never filled")
        yield address[1]


@contextlib.contextmanager
def refusing_port(host="127.0.0.1"):
    """A port where nobody listens and nobody else can: bound, not listening."""
    with socket.socket() as bound:
        bound.bind((host, 0))
        yield bound.getsockname()[1]


def take_out(place, now, until):
    """Opens an endpoint's breaker: nothing goes there before that time."""
    policy = place.health.breaker.breaker
    place.health.become(BreakerState(policy, "open", since=now, until=until, counts_from=now, trips=1))


def bring_back(place):
    """As if nothing had ever been wrong with an endpoint."""
    place.health.become(BreakerState(place.health.breaker.breaker))
