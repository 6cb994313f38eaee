"""Active checks: when, what is sent, what an answer is worth however it is cut, what results add up to."""

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.health import HealthCheck
from proxy.policy.settings import Endpoint, Secret
from proxy.providers.checks import (
    BODY_LIMIT,
    HEAD_LIMIT,
    Answer,
    Result,
    Standing,
    first_due,
    greeting,
    next_due,
    request,
    undialled,
)
from proxy.providers.failure import DialFailure
from tests.policy.samples import a_provider

HTTP = HealthCheck()
TEXT = HealthCheck(body="ready")
EDGE = Endpoint("https", "one.example", 443)
PROVIDER = a_provider("storage", "Example Inc", "eu")

OK = b"HTTP/1.1 200 OK\r\n"


# When


@pytest.mark.parametrize(
    ("jitter", "luck", "first", "following"),
    [(0.0, 0.0, 100.0, 105.0), (0.0, 0.99, 100.0, 105.0), (0.1, 0.0, 100.0, 104.5), (0.1, 0.5, 100.25, 105.0)],
)
def test_when_a_check_is_due(jitter, luck, first, following):
    check = HealthCheck(jitter=jitter)
    assert first_due(check, 100.0, luck) == pytest.approx(first)
    assert next_due(check, 100.0, luck) == pytest.approx(following)


@given(st.floats(0.001, 3600.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0, exclude_max=True))
def test_checks_come_within_their_jitter(interval, jitter, luck):
    check = HealthCheck(interval=interval, jitter=jitter)
    assert 0.0 <= first_due(check, 0.0, luck) <= interval * jitter
    after = next_due(check, 0.0, luck)
    assert interval * (1 - jitter) - 1e-6 <= after <= interval * (1 + jitter) + 1e-6


def test_how_soon_a_dead_endpoint_is_out():
    # What HealthCheck says of its defaults, at the worst: it died just after a check that began well.
    check, began, standing = HTTP, 0.0, Standing(True)
    while standing.up:
        began = next_due(check, began, 1.0)
        standing = standing.after(check, good=False)
    assert began + check.timeout == pytest.approx(18.5)


# What it sends


@pytest.mark.parametrize(
    ("check", "endpoint", "target", "host"),
    [
        (HTTP, EDGE, b"/", b"one.example"),
        (HealthCheck(path="/healthz?deep=1"), EDGE, b"/healthz?deep=1", b"one.example"),
        (HealthCheck(host="storage.example"), EDGE, b"/", b"storage.example"),
        (HTTP, Endpoint("https", "one.example", 8443), b"/", b"one.example:8443"),
        (HTTP, Endpoint("http", "127.0.0.1", 80), b"/", b"127.0.0.1"),
        (HTTP, Endpoint("http", "::1", 443), b"/", b"[::1]:443"),
    ],
)
def test_what_a_check_sends(check, endpoint, target, host):
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(request(check, PROVIDER, endpoint))
    heard = peer.next_event()
    assert (heard.method, heard.target, heard.http_version) == (b"GET", target, b"1.1")
    assert list(heard.headers) == [(b"host", host), (b"user-agent", b"domicile-check"), (b"connection", b"close")]
    assert isinstance(peer.next_event(), h11.EndOfMessage)


def test_it_sends_the_providers_fixed_headers_and_stays_recognizable():
    headers = (("X-Api-Key", Secret("k\xe9y")), ("User-Agent", Secret("traffic's")))
    sent = request(HTTP, a_provider("storage", "Example Inc", "eu", headers=headers), EDGE)
    assert sent == (
        b"GET / HTTP/1.1\r\nHost: one.example\r\nUser-Agent: domicile-check\r\nX-Api-Key: k\xe9y\r\n"
        b"Connection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("scheme", "send_proxy", "header"),
    [
        ("tcp", "none", b""),
        ("tls", "v1", b"PROXY UNKNOWN\r\n"),
        ("tcp", "v2", bytes.fromhex("0d0a0d0a000d0a515549540a20000000")),
        ("https", "v1", b""),
    ],
)
def test_who_is_told_clients_is_told_that_there_is_none(scheme, send_proxy, header):
    provider = a_provider("storage", "Example Inc", "eu", send_proxy=send_proxy)
    assert greeting(provider, Endpoint(scheme, "one.example", 443)) == header


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_check_of_the_connection_alone_sends_nothing_and_is_content(kind):
    check = HealthCheck(kind=kind)
    assert request(check, PROVIDER, EDGE) == b""
    answer = Answer(check)
    answer.received(b"SSH-2.0-x\r\n")
    answer.closed()
    assert answer.result == Result(None)


# What its answer is worth

ANSWERS = [
    (HTTP, OK + b"\r\n", None, 200),
    (HTTP, OK + b"Content-Length: 5\r\n\r\n", None, 200),
    (HTTP, b"HTTP/1.0 204 \r\n\r\n", None, 204),
    (HTTP, b"HTTP/1.1 301 Moved\r\nLocation: https://elsewhere.example/\r\n\r\n", "unexpected status", 301),
    (HTTP, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "unexpected status", 500),
    (HealthCheck(statuses=frozenset({401})), b"HTTP/1.1 401 No\r\n\r\n", None, 401),
    (HTTP, b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + OK + b"\r\n", None, 200),
    (HTTP, b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 503 No\r\n\r\n", "unexpected status", 503),
    # The first answer is the answer.
    (HTTP, OK + b"\r\nHTTP/1.1 500 No\r\n\r\n", None, 200),
    (TEXT, OK + b"Content-Length: 2\r\n\r\nno" + OK + b"Content-Length: 5\r\n\r\nready", "expected text missing", 200),
    # A text, wherever it is cut.
    (TEXT, OK + b"Content-Length: 11\r\n\r\nI am ready.", None, 200),
    (TEXT, OK + b"\r\nrereready", None, 200),
    (TEXT, OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nre\r\n3;x=y\r\nady\r\n0\r\n\r\n", None, 200),
    (TEXT, OK + b"Content-Length: 4\r\n\r\nread", "expected text missing", 200),
    (TEXT, OK + b"Content-Length: 0\r\n\r\n", "expected text missing", 200),
    (TEXT, OK + b"X: ready\r\n\r\n", "expected text missing", 200),
    (TEXT, b"HTTP/1.1 204 No\r\n\r\n", "expected text missing", 204),
    (TEXT, b"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nready", "unexpected status", 503),
    (HealthCheck(body="bereit é"), OK + b"\r\nbereit \xc3\xa9", None, 200),
    (HealthCheck(body=""), OK + b"\r\n", None, 200),
    # Whatever is behind a text that was found is not looked at; what comes before it is.
    (TEXT, OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nready\r\nzz\r\n", None, 200),
    (TEXT, OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nready\r\n", "no HTTP answer", 200),
    # Not HTTP, or not as we take it from providers.
    (HTTP, b"SSH-2.0-OpenSSH_9.6\r\n", "no HTTP answer", None),
    (HTTP, b"\x15\x03\x01\x00\x02\x02\x16", "no HTTP answer", None),
    (HTTP, b"HTTP/2.0 200 OK\r\n\r\n", "no HTTP answer", None),
    (HTTP, b"HTTP/1.1 099 OK\r\n\r\n", "no HTTP answer", None),
    (HTTP, b"HTTP/1.1 999 OK\r\n\r\n", "no HTTP answer", None),
    (HTTP, b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "no HTTP answer", None),
    (HTTP, b"HTTP/1.1 101 S\r\n\r\n" + OK + b"\r\n", "no HTTP answer", None),
    (HTTP, b"HTTP/1.1 101 S\r\n\r\n", "no HTTP answer", None),
    (HTTP, OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "no HTTP answer", None),
    (HTTP, OK + b"a\x00b: c\r\n\r\n", "no HTTP answer", None),
    (HTTP, b"GET / HTTP/1.1\r\n\r\n", "no HTTP answer", None),
    # Nothing, or not all of it.
    (HTTP, b"", "closed early", None),
    (HTTP, b"HTTP/1.1 20", "closed early", None),
    (HTTP, OK + b"Content-Length: 5\r\n", "closed early", None),
    (HTTP, b"HTTP/1.1 100 Continue\r\n\r\n", "closed early", None),
    # Too much.
    (HTTP, OK + b"X: " + b"x" * HEAD_LIMIT + b"\r\n\r\n", "answer too large", None),
    (HTTP, b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "answer too large", None),
    (HTTP, OK + b"X: " + b"x" * (HEAD_LIMIT - len(OK) - 7) + b"\r\n\r\n", None, 200),
    (HTTP, OK + b"X: " + b"x" * (HEAD_LIMIT - len(OK) - 6) + b"\r\n\r\n", "answer too large", None),
    (TEXT, OK + b"\r\n" + b"x" * (BODY_LIMIT - 5) + b"ready", None, 200),
    (TEXT, OK + b"\r\n" + b"x" * (BODY_LIMIT - 4) + b"ready", "answer too large", 200),
]  # fmt: skip

IDS = [f"{place}: {said[:40]!r}" for place, (_, said, _, _) in enumerate(ANSWERS)]


def judged(check, pieces):
    answer = Answer(check)
    for piece in pieces:
        answer.received(piece)
    answer.closed()
    return answer.result


@pytest.mark.parametrize(("check", "said", "cause", "status"), ANSWERS, ids=IDS)
def test_what_an_answer_is_worth(check, said, cause, status):
    result = judged(check, [said])
    assert result == Result(cause, status)
    assert result.good is (cause is None)


@pytest.mark.parametrize(("check", "said", "cause", "status"), ANSWERS, ids=IDS)
def test_however_it_is_cut(check, said, cause, status):
    wanted = Result(cause, status)
    assert judged(check, [said[at : at + 1] for at in range(len(said))]) == wanted
    cuts = range(len(said)) if len(said) < 1000 else [HEAD_LIMIT - 1, HEAD_LIMIT, HEAD_LIMIT + 1, len(said) - 3]
    for at in cuts:
        assert judged(check, [said[:at], said[at:]]) == wanted


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)), st.sampled_from([b"", OK, OK + b"\r\n"]))
def test_garbage_is_judged_and_never_raises(noise, cuts, start):
    said = start + noise
    places = sorted({0, *(cut for cut in cuts if cut < len(said)), len(said)})
    pieces = [said[begin:end] for begin, end in pairwise(places)]
    for check in (HTTP, TEXT):
        assert judged(check, pieces) == judged(check, [said])


def test_a_result_comes_as_soon_as_it_can():
    answer = Answer(HTTP)
    answer.received(OK + b"Content-Length: 1000000\r\n")
    assert answer.result is None
    answer.received(b"\r\n")
    assert answer.result == Result(None, 200)
    answer = Answer(TEXT)
    answer.received(OK + b"Content-Length: 1000000\r\n\r\nread")
    assert answer.result is None
    answer.received(b"y")
    assert answer.result == Result(None, 200)


def test_a_result_stands():
    answer = Answer(HTTP)
    answer.overdue()
    answer.received(OK + b"\r\n")
    answer.closed()
    assert answer.result == Result("too slow")


def test_an_endless_answer_holds_little():
    answer = Answer(TEXT)
    answer.received(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(300):
        answer.received(b"400\r\n" + b"x" * 1024 + b"\r\n")
    assert answer.result == Result("answer too large", 200)
    assert len(answer._content) == BODY_LIMIT


@pytest.mark.parametrize(
    ("kind", "cause", "result"),
    [
        ("refused", "connection refused", Result("connection refused")),
        ("tls", "certificate expired", Result("certificate expired")),
        ("timeout", "too slow", Result("too slow")),
        ("outside", "address not allowed", Result("address not allowed")),
        ("name", "name not found", Result("name not found")),
        ("full", "connection limit of the policy", None),
        ("local", "out of descriptors, ports or memory", None),
    ],
)
def test_what_a_failed_dial_says(kind, cause, result):
    assert undialled(DialFailure(kind, "one", "one.example", cause)) == result


# What results add up to


@pytest.mark.parametrize(
    ("results", "ups"),
    [
        ("+", "+"),
        ("-", "?"),
        ("---", "??-"),
        ("--+", "??+"),
        ("+--+--+", "+++++++"),
        ("+---", "+++-"),
        ("---+", "??--"),
        ("---++", "??--+"),
        ("---+-+-++", "??------+"),
        ("+---++--", "+++--+++"),
    ],
)
def test_thresholds(results, ups):
    standing, said = Standing(), ""
    for result in results:
        standing = standing.after(HTTP, good=result == "+")
        said += {True: "+", False: "-", None: "?"}[standing.up]
    assert said == ups


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_it_takes_so_many_in_a_row_to_change_what_is_said(results, healthy, unhealthy):
    check = HealthCheck(healthy=healthy, unhealthy=unhealthy)
    standing = Standing()
    for place, good in enumerate(results):
        before, standing = standing, standing.after(check, good)
        needed = healthy if good else unhealthy
        last = results[max(place + 1 - needed, 0) : place + 1]
        in_a_row = len(last) == needed and all(result is good for result in last)
        if in_a_row or (good and before.up is None):
            assert standing.up is good
        else:
            assert standing.up is before.up
