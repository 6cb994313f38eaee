"""Real peers start, answer and are gone afterwards; one that cannot start says why."""

import os
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.peers.envoy import envoy
from tests.peers.haproxy import haproxy
from tests.peers.nginx import nginx
from tests.peers.process import Peer, PeerFailed, free_port


def start_nginx(port: int, folder: Path) -> AbstractContextManager[Peer]:
    return nginx(f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "here"; }} }}', [port], folder)


def start_haproxy(port: int, folder: Path) -> AbstractContextManager[Peer]:
    configuration = f"""
        defaults
            mode http
            timeout connect 1s
            timeout client 1s
            timeout server 1s
        frontend here
            bind 127.0.0.1:{port}
            http-request return status 200 content-type text/plain string here
    """
    return haproxy(configuration, [port], folder)


def start_envoy(port: int, folder: Path) -> AbstractContextManager[Peer]:
    api = "type.googleapis.com/envoy.extensions.filters"
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "here"}}}]
    manager = {
        "@type": f"{api}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "here",
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{api}.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{"name": "here", "domains": ["*"], "routes": routes}]},
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return envoy({"static_resources": {"listeners": [listener]}}, [port], folder)


STARTS = [start_nginx, start_haproxy, start_envoy]


@pytest.mark.debian
@pytest.mark.parametrize("start", STARTS)
def test_a_peer_answers_and_is_gone_afterwards(
    start: Callable[[int, Path], AbstractContextManager[Peer]], tmp_path: Path
) -> None:
    port = free_port()
    with start(port, tmp_path) as peer:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.read() == b"here"
        os.killpg(peer.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.killpg(peer.pid, 0)


@pytest.mark.debian
def test_a_peer_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match="no_such_directive"), nginx("no_such_directive on;", [free_port()], tmp_path):
        pass


@pytest.mark.debian
def test_an_exception_in_the_block_stops_the_peer_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), start_nginx(free_port(), tmp_path) as peer:
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.killpg(peer.pid, 0)
