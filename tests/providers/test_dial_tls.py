"""The dial under TLS: every fault of a certificate is a failure before the caller's protocol can send a byte."""

import asyncio
import contextlib
import socket
import ssl

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.policy.settings import ProviderTls
from proxy.providers.failure import CAUSES, DialFailure
from tests.authority import self_signed
from tests.providers.peers import Eager, a_place, alerting, black_hole, hang_up, listening, names, reach, server_context

HOST = "storage.example"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture(params=list(VERSIONS))
def version(request):
    """Each test runs with a provider that speaks this version alone."""
    return VERSIONS[request.param]


@pytest.fixture(scope="session")
def issued(authority):
    return authority.issue(names=[HOST], ips=["127.0.0.1"])


def secure(port, ca, *, host=HOST, dial=("127.0.0.0/8",), connect=5.0, **tls):
    return a_place(host, port, scheme="https", dial=dial, connect=connect, tls=ProviderTls(ca=ca, **tls))


def resolver():
    return names(storage_example=["127.0.0.1"], other_example=["127.0.0.1"])


async def reaches(place):
    transport, caller = await reach(place, resolver(), Eager)
    session = transport.get_extra_info("ssl_object")
    await hang_up(transport, caller)
    return session


async def fails(place, cause):
    with pytest.raises(DialFailure) as caught:
        await reach(place, resolver(), Eager)
    assert (caught.value.kind, caught.value.cause) == ("tls", cause)
    assert str(caught.value) == f"provider storage: {place.endpoints[0].host}: tls: {cause}"
    assert cause in CAUSES


@contextlib.asynccontextmanager
async def serving(issued, version, **more):
    """A TLS provider; at the end, nobody has sent it anything but what `reaches` sends."""
    context = server_context(issued, minimum=version, maximum=version, **more)
    async with listening(context=context) as provider:
        yield provider


async def test_a_good_certificate(issued, authority, version):
    async with serving(issued, version) as provider:
        session = await reaches(secure(provider.port, authority.certificate))
        assert session.version() == ("TLSv1.2" if version == VERSIONS["1.2"] else "TLSv1.3")
        assert session.selected_alpn_protocol() == "http/1.1"
        await provider.heard.wait()
        assert provider.received == b"secret of the subject"


async def test_bytes_that_a_provider_sends_with_its_handshake_are_kept(issued, authority, version):
    context = server_context(issued, minimum=version, maximum=version)
    async with listening(context=context, greeting=b"early") as provider:
        transport, caller = await reach(secure(provider.port, authority.certificate), resolver(), Eager)
        await caller.arrived.wait()
        assert caller.received == b"early"
        assert caller.events[:2] == ["made", "data"]
        await hang_up(transport, caller)


async def test_the_servers_name_may_be_another_than_the_endpoints(issued, authority, version):
    async with serving(issued, version) as provider:
        place = secure(provider.port, authority.certificate, host="other.example", server_name=HOST)
        await reaches(place)
        await fails(secure(provider.port, authority.certificate, host="other.example"), "certificate for another name")


async def test_an_address_is_verified_as_an_address(issued, authority, version):
    async with serving(issued, version) as provider:
        await reaches(secure(provider.port, authority.certificate, host="127.0.0.1"))
    unnamed = authority.issue(names=[HOST, "127.0.0.1"])
    async with serving(unnamed, version) as provider:
        place = secure(provider.port, authority.certificate, host="127.0.0.1")
        await fails(place, "certificate for another name")
        assert provider.received == b""


async def test_ipv6_address(authority, version):
    issued = authority.issue(ips=["::1"])
    async with listening("::1", context=server_context(issued, minimum=version, maximum=version)) as provider:
        await reaches(secure(provider.port, authority.certificate, host="::1", dial=()))


async def test_wildcards(authority, version):
    place = {"host": "other.example", "server_name": "eu.storage.example"}
    async with serving(authority.issue(names=["*.storage.example"]), version) as provider:
        await reaches(secure(provider.port, authority.certificate, **place))
    narrow = authority.issue(names=["*.eu.storage.example", "e*.storage.example", "*", "*.example"])
    async with serving(narrow, version) as provider:
        await fails(secure(provider.port, authority.certificate, **place), "certificate for another name")


FAULTS = {
    "expired": (lambda a, s, d: a.issue(names=[HOST], expired=True), "certificate expired"),
    "early": (lambda a, s, d: a.issue(names=[HOST], early=True), "certificate not yet valid"),
    "other name": (lambda a, s, d: a.issue(names=["other.example"]), "certificate for another name"),
    "no name": (lambda a, s, d: a.issue(), "certificate for another name"),
    "name in the subject alone": (lambda a, s, d: a.issue(common_name=HOST), "certificate for another name"),
    "other authority": (lambda a, s, d: s.issue(names=[HOST]), "certificate of an unknown authority"),
    "self-signed": (lambda a, s, d: self_signed(d, names=[HOST]), "certificate of an unknown authority"),
    "for clients": (lambda a, s, d: a.issue(names=[HOST], client=True), "certificate not acceptable"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_a_bad_certificate_gets_no_byte(fault, authority, stranger, tmp_path, version):
    make, cause = FAULTS[fault]
    async with serving(make(authority, stranger, tmp_path), version) as provider:
        await fails(secure(provider.port, authority.certificate), cause)
        assert provider.received == b""


async def test_an_own_ca_is_the_only_ca(issued, authority, stranger, version):
    async with serving(issued, version) as provider:
        await reaches(secure(provider.port, authority.certificate))
        await fails(secure(provider.port, stranger.certificate), "certificate of an unknown authority")
        await fails(secure(provider.port, None), "certificate of an unknown authority")
        assert provider.received == b"secret of the subject"


async def test_a_chain_through_an_intermediate(authority, version):
    intermediate = authority.intermediate()
    async with serving(intermediate.issue(names=[HOST]), version) as provider:
        await reaches(secure(provider.port, authority.certificate))
        await reaches(secure(provider.port, intermediate.certificate))  # an intermediate may be the anchor


async def test_pins(issued, authority, version):
    other = b"\0" * 32
    async with serving(issued, version) as provider:
        await reaches(secure(provider.port, authority.certificate, pins=frozenset({issued.pin})))
        await reaches(secure(provider.port, authority.certificate, pins=frozenset({other, issued.pin})))
        await provider.heard.wait()
        provider.received.clear()
        await fails(secure(provider.port, authority.certificate, pins=frozenset({other})), "public key not pinned")
        authority_pin = authority.issue(key=authority.private).pin  # the pin is the leaf's, not of its chain
        await fails(
            secure(provider.port, authority.certificate, pins=frozenset({authority_pin})), "public key not pinned"
        )
        await fails(
            secure(provider.port, None, pins=frozenset({issued.pin})), "certificate of an unknown authority"
        )  # a pin replaces no verification
        assert provider.received == b""


async def test_a_renewed_certificate_of_the_same_key_keeps_its_pin(authority, version):
    first = authority.issue(names=[HOST])
    second = authority.issue(names=[HOST], key=load_pem_private_key(first.key.read_bytes(), None))
    assert second.certificate.read_bytes() != first.certificate.read_bytes()
    async with serving(second, version) as provider:
        await reaches(secure(provider.port, authority.certificate, pins=frozenset({first.pin})))


async def test_least_version(issued, authority):
    old = server_context(issued, maximum=VERSIONS["1.2"])
    async with alerting(old) as port:
        await reaches(secure(port, authority.certificate, min_version="1.2"))
    async with alerting(old) as port:
        await fails(secure(port, authority.certificate, min_version="1.3"), "protocol version not accepted")
    async with serving(issued, VERSIONS["1.3"]) as provider:
        await reaches(secure(provider.port, authority.certificate, min_version="1.3"))


async def test_a_client_certificate_is_shown_when_demanded(issued, authority, stranger, version):
    ours = authority.issue(client=True, common_name="domicile")
    async with serving(issued, version, client_ca=authority.certificate) as provider:
        place = secure(provider.port, authority.certificate, client_certificate=ours.certificate, client_key=ours.key)
        await reaches(place)
        await provider.heard.wait()
        assert provider.received == b"secret of the subject"


@pytest.mark.parametrize("shown", ["none", "stranger's", "expired"])
async def test_a_client_certificate_that_is_not_accepted(issued, authority, stranger, shown):
    """TLS 1.2: the handshake fails. (In 1.3 the server judges after our side is done: see the next test.)"""
    bad = {
        "none": None,
        "stranger's": stranger.issue(client=True),
        "expired": authority.issue(client=True, expired=True),
    }[shown]
    tls = {} if bad is None else {"client_certificate": bad.certificate, "client_key": bad.key}
    async with alerting(server_context(issued, client_ca=authority.certificate, maximum=VERSIONS["1.2"])) as port:
        cause = "handshake failed" if bad is None else "client certificate demanded or not accepted"
        await fails(secure(port, authority.certificate, **tls), cause)


async def test_in_tls_1_3_a_client_certificate_is_refused_after_the_handshake(issued, authority):
    async with serving(issued, VERSIONS["1.3"], client_ca=authority.certificate) as provider:
        with contextlib.suppress(DialFailure):
            _, caller = await reach(secure(provider.port, authority.certificate), resolver(), Eager)
            await caller.ended.wait()
        assert provider.received == b""


async def test_not_tls_at_all(authority):
    async with listening(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as provider:
        await fails(secure(provider.port, authority.certificate), "handshake failed")


async def test_closed_in_the_handshake(authority):
    async with listening(hang_up=True) as provider:
        with pytest.raises(DialFailure) as caught:
            await reach(secure(provider.port, authority.certificate), resolver(), Eager)
        assert (caught.value.kind, caught.value.cause) in {
            ("tls", "closed in the handshake"),
            ("refused", "connection reset"),  # the reset came before the handshake began
        }


async def test_a_handshake_that_does_not_go_on_is_within_the_connect_time(authority):
    async with listening() as provider:
        with pytest.raises(DialFailure) as caught:
            await reach(secure(provider.port, authority.certificate, connect=0.2), resolver(), Eager)
        assert (caught.value.kind, caught.value.cause) == ("timeout", "too slow")
        await provider.left.wait()


async def test_a_black_hole_is_within_the_connect_time(authority):
    with black_hole() as port:
        with pytest.raises(DialFailure) as caught:
            await reach(secure(port, authority.certificate, connect=0.2), resolver(), Eager)
        assert caught.value.kind == "timeout"


async def test_cancelled_in_the_handshake(authority):
    async with listening() as provider:
        dialling = asyncio.create_task(reach(secure(provider.port, authority.certificate), resolver(), Eager))
        await provider.heard.wait()  # the ClientHello
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        await provider.left.wait()


async def test_cancelled_at_every_step(issued, authority, version):
    async with serving(issued, version) as provider:
        place = secure(provider.port, authority.certificate)
        for steps in range(40):
            dialling = asyncio.create_task(reach(place, resolver(), Eager))
            for _ in range(steps):
                await asyncio.sleep(0)
            dialling.cancel()
            try:
                transport, caller = await dialling
            except asyncio.CancelledError:
                continue
            await hang_up(transport, caller)


def test_the_listener_of_these_tests_speaks_tls(issued, authority):
    """What is refused above is refused for its fault, not because the authority's certificates do not work."""
    client = ssl.create_default_context(cafile=authority.certificate)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = server_context(issued).wrap_bio(incoming, outgoing, server_side=True)
        back, forth = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = client.wrap_bio(back, forth, server_hostname=HOST)
        done = set()
        while len(done) < 2:
            for side, take, give in ((session, forth, incoming), (server, outgoing, back)):
                try:
                    side.do_handshake()
                    done.add(side)
                except ssl.SSLWantReadError:
                    pass
                give.write(take.read())
        assert session.getpeercert()["subjectAltName"] == (("DNS", HOST), ("IP Address", "127.0.0.1"))
