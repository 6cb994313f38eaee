"""The proxies that are compared, by the names that the table and `--only` use."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from benchmarks.proxies.aiohttp import aiohttp_proxy
from benchmarks.proxies.domicile import domicile_proxy
from benchmarks.proxies.envoy import envoy_proxy
from benchmarks.proxies.haproxy import haproxy_proxy
from benchmarks.proxies.lane import Lane
from benchmarks.proxies.nginx import nginx_proxy, tuned_nginx_proxy
from tests.peers.process import Peer

DOMICILE = "Domicile"

PROXIES: dict[str, Callable[[Lane], AbstractContextManager[Peer]]] = {
    DOMICILE: domicile_proxy,
    "nginx": nginx_proxy,
    "tuned nginx": tuned_nginx_proxy,
    "HAProxy": haproxy_proxy,
    "Envoy": envoy_proxy,
    "aiohttp": aiohttp_proxy,
}
