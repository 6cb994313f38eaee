"""The access log's record: valid JSON, whatever the values hold, and only what it may hold."""

import json
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.record import cut, line, static_part

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
SECONDS = st.floats(0, 1e6, allow_nan=False)
ADDRESSES = st.ip_addresses()


def a_static_part(**changed):
    fields = {
        "listener": "edge",
        "method": "GET",
        "host": "storage.example",
        "home": "cn-mainland",
        "source": "jwt",
        "country": "CN",
        "zone": "cn-mainland",
        "provider": "china-telecom",
        "rules": ("mainland",),
        "client": ip_address("203.0.113.77"),
    }
    return static_part(**{**fields, **changed})


def a_line(static=None, **changed):
    values = {
        "time": 1767225600.25,
        "request_id": b"4bf92f3577b34da6",
        "status": 200,
        "reason": None,
        "to_provider": 0,
        "to_client": 12,
        "duration": 0.0015,
        "first_byte": 0.001,
        "connect": None,
        "attempts": 1,
    }
    return line(a_static_part() if static is None else static, **{**values, **changed})


def test_a_record_reads_back_as_it_was_given():
    assert json.loads(a_line()) == {
        "time": "2026-01-01T00:00:00.250Z",
        "id": "4bf92f3577b34da6",
        "status": 200,
        "reason": None,
        "to_provider": 0,
        "to_client": 12,
        "duration": 0.0015,
        "first_byte": 0.001,
        "connect": None,
        "attempts": 1,
        "listener": "edge",
        "method": "GET",
        "host": "storage.example",
        "home": "cn-mainland",
        "source": "jwt",
        "country": "CN",
        "zone": "cn-mainland",
        "provider": "china-telecom",
        "rules": ["mainland"],
        "client": "203.0.113.0/24",
    }


@given(host=st.binary(max_size=60), method=st.binary(max_size=20), request_id=st.binary(max_size=60))
def test_any_bytes_come_back(host, method, request_id):
    record = a_line(a_static_part(host=host, method=method), request_id=request_id)

    assert record.count(b"\n") == 1
    assert record.endswith(b"\n")
    read = json.loads(record)
    assert read["host"].encode("latin-1") == host
    assert read["method"].encode("latin-1") == method
    assert read["id"].encode("latin-1") == request_id


@given(host=st.text(max_size=40), subject=st.text(max_size=40), rules=st.lists(st.text(max_size=20), max_size=4))
def test_any_text_comes_back(host, subject, rules):
    read = json.loads(a_line(a_static_part(host=host, subject=subject, rules=rules)))

    assert (read["host"], read["subject"], read["rules"]) == (host, subject, rules)


@given(
    time=st.floats(0, 4e9),
    status=st.integers(0, 599),
    reason=st.none() | st.sampled_from(["no-zone", "unavailable", 'quoted "word"']),
    to_provider=st.integers(0, 2**63),
    to_client=st.integers(0, 2**63),
    duration=SECONDS,
    first_byte=st.none() | SECONDS,
    connect=st.none() | SECONDS,
    attempts=st.integers(0, 100),
)
def test_every_value_comes_back(**values):
    read = json.loads(a_line(**values))

    began = datetime.strptime(read["time"], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()
    assert 0 <= values["time"] - began < 0.0011
    for name in ("status", "reason", "to_provider", "to_client", "attempts"):
        assert read[name] == values[name]
    for name in ("duration", "first_byte", "connect"):
        if values[name] is None:
            assert read[name] is None
        else:
            assert read[name] == pytest.approx(values[name], abs=1.1e-6)


def test_the_time_follows_the_clock_forwards_and_back():
    times = [1767225600.999, 1767225601.0, 1767225600.5, 1893456000.0015]

    read = [json.loads(a_line(time=time))["time"] for time in times]

    assert read == [
        datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(time % 1 * 1000):03d}Z"
        for time in times
    ]


def test_what_reached_no_provider_says_so():
    read = json.loads(a_line(a_static_part(zone=None, provider=None, host=None, client=None, rules=())))

    assert [read[name] for name in ("zone", "provider", "host", "client", "rules")] == [None, None, None, None, []]


def test_the_subject_is_there_only_if_given():
    assert "subject" not in json.loads(a_line())
    assert json.loads(a_line(a_static_part(subject="alice")))["subject"] == "alice"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1234:5678::9", "2001:db8:1234::/48"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("2002:cb00:714d:1::1", "2002:cb00:7100::/40"),  # 6to4: 203.0.113.77 stands in the first 48 bits
        ("fe80::1%eth0", "fe80::/48"),
        ("0.0.0.0", "0.0.0.0/24"),
        ("::", "::/48"),
    ],
)
def test_a_client_is_cut_to_its_network(address, network):
    assert cut(ip_address(address)) == network


@given(ADDRESSES)
def test_a_cut_client_is_a_network_that_held_it(address):
    network = ip_network(cut(address))

    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    assert address in network
    assert network.num_addresses >= 256 if isinstance(address, IPv4Address) else network.prefixlen <= 48
