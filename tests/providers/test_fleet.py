"""The state of providers at run time: caps, marks, latency, and what survives a reload."""

import asyncio
import dataclasses
import time

import pytest

from proxy.policy.settings import Endpoint, ProviderTls, Secret
from proxy.providers import endpoint as endpoint_module
from proxy.providers.contexts import UnusableFiles
from proxy.providers.failure import DialFailure, DialMisuse
from proxy.providers.fleet import Fleet
from tests.providers.peers import (
    Caller,
    a_law,
    a_place,
    black_hole,
    hang_up,
    listening,
    names,
    permit_for,
    refusing_port,
)
from tests.providers.test_pool import Connection


def a_fleet(*providers, resolver=None):
    return Fleet.open(a_law(*providers), resolver or names())


def only(fleet):
    ((state,),) = (tuple(fleet.states.values()),)
    return state


def test_take_and_give():
    place = a_place("127.0.0.1", 1)
    endpoint = only(a_fleet(place)).endpoints[0]
    permit = permit_for(place)
    connection = Connection()
    assert endpoint.take(permit, 1.0) == (None, ())
    assert endpoint.give(connection, 1.0) == ()
    assert endpoint.take(permit, 2.0) == (connection, ())
    endpoint.give(connection, 2.0)
    assert endpoint.discard(connection)
    assert endpoint.take(permit, 2.0) == (None, ())


def test_the_providers_idle_time_bounds_the_pool():
    place = a_place("127.0.0.1", 1)
    fleet = a_fleet(place)
    endpoint = only(fleet).endpoints[0]
    endpoint.give(connection := Connection(), 0.0)
    assert fleet.expire(place.timeouts.idle - 1) == []
    assert fleet.expire(place.timeouts.idle) == [connection]


def test_nothing_is_taken_without_a_permit():
    place, other = a_place("127.0.0.1", 1), a_place("127.0.0.1", 1, name="other")
    endpoint = only(a_fleet(place)).endpoints[0]
    endpoint.give(Connection(), 0.0)
    with pytest.raises(DialMisuse, match="provider storage: no permit"):
        endpoint.take(permit_for(other), 0.0)
    assert endpoint.take(permit_for(other, place), 0.0)[0] is not None


async def test_nothing_is_connected_without_a_permit():
    async with listening() as provider:
        place, other = a_place("127.0.0.1", provider.port), a_place("127.0.0.1", provider.port, name="other")
        state = only(a_fleet(place))
        with pytest.raises(DialMisuse):
            await state.endpoints[0].connect(permit_for(other), Caller)
        assert (provider.accepted, state.open) == (0, 0)
        assert state.endpoints[0].health.steady  # a mistake of ours is no mark on the provider


def test_endpoints_do_not_share_connections():
    ports = tuple(Endpoint("http", "127.0.0.1", port) for port in (1, 2))
    place = a_place("127.0.0.1", 1, endpoints=ports)
    first, second = only(a_fleet(place)).endpoints
    first.give(Connection(), 0.0)
    assert second.take(permit_for(place), 0.0) == (None, ())


def test_keys_hold_what_the_provider_knows_us_by():
    place = a_place("storage.example", 443, scheme="https")
    key = only(a_fleet(place)).endpoints[0].key
    assert (key.zone, key.provider, key.server_name) == ("eu", "storage", "storage.example")
    named = dataclasses.replace(place, tls=ProviderTls(server_name="front.example"))
    assert only(a_fleet(named)).endpoints[0].key.server_name == "front.example"
    keys = {
        only(a_fleet(dataclasses.replace(place, headers=headers))).endpoints[0].key
        for headers in ((), (("X-Key", Secret("one")),), (("X-Key", Secret("two")),), (("X-Keyt", Secret("wo")),))
    }
    assert len(keys) == 4
    assert "two" not in repr(keys)
    assert only(a_fleet(a_place("storage.example", 80))).endpoints[0].key.server_name is None


async def test_the_cap_counts_connections_until_they_end():
    async with listening() as provider:
        place = a_place("127.0.0.1", provider.port, connections=2)
        state = only(a_fleet(place))
        endpoint, permit = state.endpoints[0], permit_for(place)
        first, second = [await endpoint.connect(permit, Caller) for _ in range(2)]
        assert (state.open, state.full) == (2, True)
        with pytest.raises(DialFailure) as caught:
            await endpoint.connect(permit, Caller)
        assert (caught.value.kind, caught.value.cause) == ("full", "connection limit of the policy")
        assert state.healthy(asyncio.get_running_loop().time())
        await hang_up(*first)
        state.closed()
        third = await endpoint.connect(permit, Caller)
        while provider.accepted < 3:  # connected is not yet accepted
            await asyncio.sleep(0)
        for each in (second, third):
            await hang_up(*each)


async def test_a_dial_that_ends_after_evidence_held_the_endpoint_is_given_to_nobody():
    async with listening() as provider:
        state = only(a_fleet(a_place("127.0.0.1", provider.port)))
        endpoint, permit = state.endpoints[0], permit_for(state.definition)
        await hang_up(*await endpoint.connect(permit, Caller))
        state.closed()
        caller = Caller()
        dialling = asyncio.create_task(endpoint.connect(permit, lambda: caller))
        await asyncio.sleep(0)
        endpoint.health.hold(True)
        with pytest.raises(DialFailure) as caught:
            await dialling
        assert (caught.value.kind, caught.value.cause) == ("outside", "address not allowed")
        async with asyncio.timeout(20):
            await caller.ended.wait()
        assert provider.received == b""


async def test_the_cap_holds_while_connections_are_being_made():
    with black_hole() as port:
        place = a_place("127.0.0.1", port, connections=1, connect=30)
        state = only(a_fleet(place))
        dialling = asyncio.create_task(state.endpoints[0].connect(permit_for(place), Caller))
        await asyncio.sleep(0)
        with pytest.raises(DialFailure, match="full"):
            await state.endpoints[0].connect(permit_for(place), Caller)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        assert state.open == 0
        assert state.endpoints[0].health.steady  # the client left: nothing is known of the provider


async def test_one_failed_connect_takes_that_endpoint_out_and_no_other():
    async with listening() as provider:
        with refusing_port() as port:
            bad, good = Endpoint("http", "127.0.0.1", port), Endpoint("http", "127.0.0.1", provider.port)
            place = a_place("127.0.0.1", port, endpoints=(bad, good))
            state = only(a_fleet(place))
            permit = permit_for(place)
            before = time.monotonic()
            with pytest.raises(DialFailure, match="connection refused"):
                await state.endpoints[0].connect(permit, Caller)
            after = time.monotonic()
            broken = state.endpoints[0].health.breaker
            assert broken.kind == "open"
            assert before + place.breaker.open <= broken.until <= after + place.breaker.open
            assert state.endpoints[1].health.steady
            assert state.healthy(after)
            assert state.open == 0
            await hang_up(*await state.endpoints[1].connect(permit, Caller))


async def test_our_own_want_of_descriptors_marks_nobody(monkeypatch):
    async def wanting(*arguments, **more):
        raise DialFailure("local", "storage", "127.0.0.1", "out of descriptors, ports or memory")

    monkeypatch.setattr(endpoint_module, "dial", wanting)
    place = a_place("127.0.0.1", 1)
    state = only(a_fleet(place))
    with pytest.raises(DialFailure):
        await state.endpoints[0].connect(permit_for(place), Caller)
    assert (state.open, state.endpoints[0].health.steady) == (0, True)


def test_latency_is_smoothed_and_pace_is_steady():
    state = only(a_fleet(a_place("127.0.0.1", 1)))
    assert state.latency is None
    state.first_byte(0.100, 1.0)
    assert (state.latency, state.pace, state.measured) == (0.100, 0.100, 1.0)
    state.first_byte(0.200, 2.0)
    assert state.latency == pytest.approx(0.110)
    assert state.pace == 0.100
    for second in range(20):
        state.first_byte(0.200, 3.0 + second)
    assert 0.18 < state.latency < 0.2
    assert state.pace > 0.125
    for second in range(100):
        state.first_byte(0.001, 30.0 + second)
    assert state.pace < 0.0013


def test_a_reload_keeps_what_is_unchanged():
    kept, changed, gone = (a_place("127.0.0.1", port, name=f"p{port}") for port in (1, 2, 3))
    old = a_fleet(kept, changed, gone)
    connections = {}
    for name, state in old.states.items():
        connections[name] = Connection(name)
        state.endpoints[0].give(connections[name], 0.0)
        state.first_byte(0.1, 0.0)
    same = dataclasses.replace(kept)
    changed_now = dataclasses.replace(changed, operator="Other Inc")
    added = a_place("127.0.0.1", 4, name="p4")
    new, retired = old.renewed(a_law(same, changed_now, added))

    assert list(new.states) == ["p1", "p2", "p4"]
    assert new.states["p1"] is old.states["p1"]
    assert new.states["p2"].definition is changed_now
    assert {state.definition.name for state in retired} == {"p2", "p3"}
    assert new.states["p2"].latency is None
    # Until the caller retires them, the old fleet serves on.
    assert old.states["p2"].endpoints[0].take(permit_for(changed), 1.0) == (connections["p2"], ())
    old.states["p2"].endpoints[0].give(connections["p2"], 1.0)
    assert [list(state.retire()) for state in retired] == [[connections["p2"]], [connections["p3"]]]
    # What an exchange of the old policy gives back afterwards is closed, not kept.
    late = Connection()
    assert old.states["p3"].endpoints[0].give(late, 2.0) == (late,)
    assert len(old.states["p3"].pool) == 0


def test_permits_of_either_policy_serve_a_state_that_outlived_a_reload():
    place = a_place("127.0.0.1", 1)
    old = a_fleet(place)
    same = dataclasses.replace(place)
    new, retired = old.renewed(a_law(same))
    assert retired == []
    endpoint = only(new).endpoints[0]
    for permit in (permit_for(place), permit_for(same)):
        endpoint.give(Connection(), 0.0)
        assert endpoint.take(permit, 0.0)[0] is not None
    for change in ({"zone": "cn"}, {"operator": "Other"}, {"headers": (("X", Secret("y")),)}, {"connections": 7}):
        with pytest.raises(DialMisuse):
            endpoint.take(permit_for(dataclasses.replace(place, **change)), 0.0)


def test_providers_verified_alike_share_a_context(authority, stranger):
    def secure(name, ca, **tls):
        return a_place("storage.example", 443, scheme="https", tls=ProviderTls(ca=ca, **tls), name=name)

    one, two = secure("one", authority.certificate), secure("two", authority.certificate, server_name="x.example")
    other, newer = secure("other", stranger.certificate), secure("newer", authority.certificate, min_version="1.3")
    plain = a_place("127.0.0.1", 1, name="plain")
    fleet = a_fleet(one, two, other, newer, plain)
    contexts = {name: state.contexts.get("https") for name, state in fleet.states.items()}
    assert contexts["one"] is contexts["two"]
    assert len({id(context) for context in contexts.values()}) == 4
    assert contexts["plain"] is None
    changed = dataclasses.replace(one, operator="Other Inc")
    renewed, _ = fleet.renewed(a_law(changed))
    assert renewed.states["one"] is not fleet.states["one"]
    assert renewed.states["one"].contexts["https"] is contexts["one"]


def test_a_changed_file_is_a_changed_provider(authority, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate.read_bytes())
    place = a_place("storage.example", 443, scheme="https", tls=ProviderTls(ca=ca))
    law = a_law(place)
    old = Fleet.open(law, names())
    assert old.renewed(law) == (Anything(), [])
    ca.write_bytes(ca.read_bytes() * 2)
    new, retired = old.renewed(law)
    assert retired == list(old.states.values())
    assert new.states["storage"].contexts["https"] is not old.states["storage"].contexts["https"]


class Anything:
    def __eq__(self, other):
        return True

    __hash__ = None


def test_a_reload_that_fails_changes_nothing(authority, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate.read_bytes())
    places = [
        a_place("storage.example", 443, scheme="https", tls=ProviderTls(ca=ca), name=name) for name in ("one", "two")
    ]
    law = a_law(*places)
    old = Fleet.open(law, names())
    states = dict(old.states)
    ca.write_bytes(b"broken")
    with pytest.raises(UnusableFiles) as caught:
        old.renewed(law)
    assert [fault.provider for fault in caught.value.faults] == ["one", "two"]
    assert old.states == states
    assert not any(state.retired for state in states.values())


def test_expiry_of_the_client_certificate(authority):
    issued = authority.issue(client=True)
    tls = ProviderTls(ca=authority.certificate, client_certificate=issued.certificate, client_key=issued.key)
    state = only(a_fleet(a_place("storage.example", 443, scheme="https", tls=tls)))
    assert state.client_expiry == issued.parsed.not_valid_after_utc.timestamp()
